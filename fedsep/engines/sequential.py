"""The reference engine: one client after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedsep.core import Algorithm, Failure, Invitation, Params, Task
from fedsep.engines.client import Job, delivered, predict, prepare, run, run_local
from fedsep.engines.engine import Delivered, Fleet, Local, Recall, Split
from fedsep.engines.settle import settled
from fedsep.ranges import Count, checked


@dataclass(frozen=True)
class _Session:
    algorithm: Algorithm[Any, Any]
    task: Task
    fleet: Fleet
    recall: Recall
    threads: int

    def round(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Delivered | Failure]:
        for job in self._jobs(state, cohort):
            if isinstance(job, Failure):
                yield job
                continue
            result = run(self.algorithm, job, self.fleet)
            yield result if isinstance(result, Failure) else delivered(job, settled(result))

    def local(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Local | Failure]:
        for job in self._jobs(state, cohort):
            yield job if isinstance(job, Failure) else run_local(self.algorithm, self.task, job, self.fleet)

    def predict(self, params: Params, split: Split) -> Tensor:
        return predict(self.task, settled(params), getattr(self.fleet, split))

    def close(self) -> None:
        torch.set_num_threads(self.threads)

    def _jobs(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Job | Failure]:
        for invitation in cohort:
            job = prepare(self.algorithm, state, invitation, self.recall)
            yield job if isinstance(job, Failure) else settled(job)


@dataclass(frozen=True)
class Sequential:
    """See ``sequential``."""

    threads: int = 1

    def open(self, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, recall: Recall) -> _Session:
        """Sets the number of intra-op threads until the session is closed."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        return _Session(algorithm, task, fleet, recall, before)


@checked
def sequential(*, threads: Count = 1) -> Sequential:
    """Runs clients one after the other in this process: the reference that other engines must equal.

    Args:
        threads: Intra-op threads of torch. One thread gives the same bits as ``workers``; more may not.

    Raises:
        FedSepError: An argument is out of range.
    """
    return Sequential(threads)
