"""Many clients at once: worker processes with one thread each, the same bits as ``sequential``."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import Algorithm, Ctx, Failure, FedSepError, Invitation, Params, Task
from fedsep.engines.client import PREDICT_ROWS, Job, Result, delivered, predict, prepare, run, run_local
from fedsep.engines.engine import Delivered, Fleet, Local, Recall, Split
from fedsep.engines.lost import Lost
from fedsep.engines.pool import Pool
from fedsep.ranges import Count, NonNegativeInt, checked


@dataclass(frozen=True)
class _Clients:
    """A client's part, as a worker does it: from plain tuples to plain tuples, which are quick to write."""

    algorithm: Algorithm[Any, Any]
    task: Task
    fleet: Fleet

    def __call__(self, call: tuple[Any, ...]) -> Any:
        kind, *rest = call
        if kind == "predict":
            params, split, start, stop = rest
            return predict(self.task, params, getattr(self.fleet, split), start, stop)
        client, round, capability, key, known, payload, memory = rest
        ctx = Ctx(round, capability, random.as_key(key), *known)
        job = Job(Invitation(client, ctx), payload, memory)
        outcome = self._round(job) if kind == "round" else run_local(self.algorithm, self.task, job, self.fleet)
        return Lost(outcome.stage, outcome.reason, outcome.traceback) if isinstance(outcome, Failure) else outcome

    def _round(self, job: Job) -> tuple[Any, ...] | Failure:
        result = run(self.algorithm, job, self.fleet)
        return result if isinstance(result, Failure) else tuple(result)


@dataclass(frozen=True)
class _Session:
    """The parent's side: what the server does, the loop's order, and one thread until it is closed."""

    algorithm: Algorithm[Any, Any]
    task: Task
    fleet: Fleet
    recall: Recall
    pool: Pool
    processes: int
    threads: int

    def round(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Delivered | Failure]:
        for job, result in self._run("round", state, cohort):
            yield result if isinstance(result, Failure) else delivered(job, Result(*result))

    def local(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Local | Failure]:
        for _, result in self._run("local", state, cohort):
            yield result

    def predict(self, params: Params, split: Split) -> Tensor:
        size = getattr(self.fleet, split).size
        rows = PREDICT_ROWS * max(1, math.ceil(size / PREDICT_ROWS / (4 * self.processes)))
        parts = [(start, min(start + rows, size)) for start in range(0, size, rows)]
        calls = (("predict", params, split, *part) for part in parts)
        with closing(self.pool.map("predict", calls, len(parts))) as outcomes:
            pairs = zip(outcomes, parts, strict=True)
            return torch.cat([self._outputs(outcome, params, split, part) for outcome, part in pairs])

    def close(self) -> None:
        self.pool.close()
        torch.set_num_threads(self.threads)

    def _run(self, kind: str, state: Any, cohort: Sequence[Invitation]) -> Iterator[tuple[Any, Any]]:
        """Every job with its outcome, in the order of the cohort."""
        jobs: deque[Job | Failure] = deque()

        def calls() -> Iterator[tuple[Any, ...]]:
            for invitation in cohort:
                job = prepare(self.algorithm, state, invitation, self.recall)
                jobs.append(job)
                if isinstance(job, Job):
                    round, capability, key, *known = job.invitation.ctx
                    yield kind, invitation.client, round, capability, key.item(), known, job.payload, job.memory

        with closing(self.pool.map(kind, calls(), len(cohort))) as outcomes:
            for outcome in outcomes:
                while isinstance(jobs[0], Failure):
                    yield None, jobs.popleft()
                job = jobs.popleft()
                assert isinstance(job, Job)
                yield job, Failure(*job.invitation, *outcome, job.sent) if isinstance(outcome, Lost) else outcome
        yield from ((None, failure) for failure in jobs)

    def _outputs(self, outcome: Tensor | Lost, params: Params, split: Split, part: tuple[int, int]) -> Tensor:
        if not isinstance(outcome, Lost):
            return outcome
        if not outcome.traceback:
            raise FedSepError(f"the model could not be evaluated on the {split} set: {outcome.reason}")
        return predict(self.task, params, getattr(self.fleet, split), *part)  # here, the error is the user's own


@dataclass(frozen=True)
class Workers:
    """See ``workers``."""

    processes: int | None = None
    retries: int = 1

    def open(self, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, recall: Recall) -> _Session:
        """Forks the workers; this process, too, uses one intra-op thread until the session is closed.

        Raises:
            FedSepError: Processes cannot be forked here.
        """
        _check_fork()
        before = torch.get_num_threads()
        processes = self.processes or usable_cores()
        torch.set_num_threads(1)
        try:
            pool = Pool(_Clients(algorithm, task, fleet), processes, self.retries)
        except BaseException:
            torch.set_num_threads(before)
            raise
        return _Session(algorithm, task, fleet, recall, pool, processes, before)


@checked
def workers(*, processes: Count | None = None, retries: NonNegativeInt = 1) -> Workers:
    """Runs clients in worker processes, with the same result as ``sequential``, bit for bit.

    Workers are forked when a run begins: the algorithm, the task and the data are theirs without being copied
    or pickled. Payloads and memories travel through shared memory. A worker that dies (out of memory, killed,
    a crash in native code) is replaced, and the clients it had are given to the others; the run goes on.

    What the parent hands out has memory of its own. As everywhere, it must not be changed in place: a memory
    that is equal for all clients is one object.

    Args:
        processes: Number of workers, one thread each. None: as many as there are cores that may be used.
        retries: How often a client in whose part a worker died is tried again, before it counts as failed.

    Raises:
        FedSepError: An argument is out of range.
    """
    return Workers(processes, retries)


def usable_cores() -> int:
    """Cores that this process may use: those of the machine, its affinity and its container's share."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min(cores, _container_cores()))


def _container_cores() -> int:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return 1 << 20


def unusable() -> str:
    """Why processes cannot be forked here; empty if they can."""
    try:
        _check_fork()
    except FedSepError as error:
        return str(error)
    return ""


def _check_fork() -> None:
    instead = "use fedsep.engines.sequential"
    if "fork" not in multiprocessing.get_all_start_methods():
        raise FedSepError(f"fedsep.engines.workers forks its processes, which this system cannot: {instead}")
    if multiprocessing.current_process().daemon:
        raise FedSepError(f"fedsep.engines.workers cannot fork inside a daemonic process: {instead} there")
    if torch.cuda.is_initialized():
        raise FedSepError(f"fedsep.engines.workers cannot fork once CUDA is in use in this process: {instead}")
