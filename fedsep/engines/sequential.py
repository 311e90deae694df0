"""The reference engine: one client after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedsep.core import Algorithm, Failure, Invitation, Params, Task
from fedsep.engines.client import Job, Sending, delivered, predict, run, run_local
from fedsep.engines.engine import Delivered, Fleet, Local, Recall, Split
from fedsep.ranges import Count, checked
from fedsep.settle import settled


@dataclass(frozen=True)
class SequentialSession:
    """One run, one client after the other; other engines leave to it what they do not do in their own way."""

    algorithm: Algorithm[Any, Any]
    task: Task
    fleet: Fleet
    recall: Recall
    threads: int

    def round(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Delivered | Failure]:
        """Runs the cohort."""
        return map(self.outcome, self.jobs(state, cohort))

    def outcome(self, job: Job | Failure) -> Delivered | Failure:
        """What comes of one client's part."""
        if isinstance(job, Failure):
            return job
        result = run(self.algorithm, job, self.fleet)
        return result if isinstance(result, Failure) else delivered(job, settled(result))

    def local(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Local | Failure]:
        """Each client's metrics before and after its local steps."""
        for job in self.jobs(state, cohort):
            yield job if isinstance(job, Failure) else run_local(self.algorithm, self.task, job, self.fleet)

    def predict(self, params: Params, split: Split) -> Tensor:
        """The model's outputs on one of the server's sets."""
        return predict(self.task, settled(params), getattr(self.fleet, split))

    def close(self) -> None:
        """Sets the number of threads back."""
        torch.set_num_threads(self.threads)

    def jobs(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Job | Failure]:
        """The server's side of each client's part."""
        return map(Sending(self.algorithm, state, self.recall).job, cohort)


@dataclass(frozen=True)
class Sequential:
    """See ``sequential``."""

    threads: int = 1

    def open(self, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, recall: Recall) -> SequentialSession:
        """Sets the number of intra-op threads until the session is closed."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        return SequentialSession(algorithm, task, fleet, recall, before)


@checked
def sequential(*, threads: Count = 1) -> Sequential:
    """Runs clients one after the other in this process: the reference that other engines must equal.

    Args:
        threads: Intra-op threads of torch. One thread gives the same bits as ``workers``; more may not.

    Raises:
        FedSepError: An argument is out of range.
    """
    return Sequential(threads)
