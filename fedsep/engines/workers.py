"""Many clients at once: worker processes with one thread each, the same bits as ``sequential``."""

from __future__ import annotations

import math
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fedsep.core import Algorithm, FedSepError, Task
from fedsep.engines.engine import Fleet, Recall
from fedsep.engines.pool import Pool
from fedsep.engines.spread import Clients, SpreadSession, in_words
from fedsep.ranges import Count, NonNegativeInt, checked


@dataclass(frozen=True)
class Workers:
    """See ``workers``."""

    processes: int | None = None
    retries: int = 1

    def open(self, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, recall: Recall) -> SpreadSession:
        """Forks the workers; this process, too, uses one intra-op thread until the session is closed.

        Raises:
            FedSepError: Processes cannot be forked here.
        """
        _check_fork()
        before = torch.get_num_threads()
        processes = self.processes or usable_cores()
        torch.set_num_threads(1)
        try:
            pool = Pool(Clients(algorithm, task, fleet), processes, self.retries, in_words)
        except BaseException:
            torch.set_num_threads(before)
            raise
        return SpreadSession(algorithm, task, fleet, recall, pool, processes, before)


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
