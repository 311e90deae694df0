"""Worker processes and the work between them: who gets what next, and what becomes of it when a worker dies."""

from __future__ import annotations

import logging
import math
import selectors
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from fedsep.core import FedSepError
from fedsep.engines.arena import Arena
from fedsep.engines.lost import Lost, death, lost
from fedsep.engines.mail import Reader
from fedsep.engines.process import Answer, Chunk, Process, Task
from fedsep.engines.status import IDLE
from fedsep.engines.store import Store
from fedsep.engines.work import Work
from fedsep.engines.worker import Handle

_log = logging.getLogger("fedsep")

CHUNK_SECONDS = (5e-4, 0.1)
"""Work that is sent together: no less, or messages cost more than it; no more, or workers wait for each other."""

LOOK_SECONDS = 1e-3
"""While the consumer takes outcomes, the workers are looked after this often."""


class Pool:
    """Runs ``handle`` on tasks in forked processes, each of which always has its next chunk waiting.

    Args:
        handle: Runs in the workers; all that it refers to is theirs from the fork on.
        processes: Number of workers.
        retries: How often a task that killed a worker is tried again.
        told: A call in words, for the log.
    """

    def __init__(
        self, handle: Handle, processes: int, retries: int, told: Callable[[Any], str] = lambda _: "a task"
    ) -> None:
        self._handle = handle
        self._told = told
        self._retries = retries
        self._arena = Arena()
        self._store = Store(self._arena)
        self._reader = Reader(self._store)
        self._selector = selectors.DefaultSelector()
        self._processes: list[Process | None] = [None] * processes
        self._pace: dict[str, float] = {}
        self._busy = False
        self._closed = False
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def map(self, kind: str, calls: Iterable[object], order: Sequence[int]) -> Generator[Any, None, None]:
        """What ``handle`` gives for each call, place by place; ``Lost`` for those that gave nothing.

        Args:
            kind: A name for calls that take about the same time.
            calls: Made on demand: about as many are under way as keep the workers busy. None: nothing is to be done.
            order: The place of each call among the outcomes, see ``Work``.

        Raises:
            RuntimeError: Another map is under way.
            FedSepError: A worker died and cannot be replaced.
        """
        if self._busy:
            raise RuntimeError("the round before this has not been read to its end")
        self._busy = True
        work = Work(calls, order, len(self._processes))
        try:
            while not work.finished:
                self._start()
                self._assign(work, kind)
                under_way = any(process.chunks for process in self.alive())
                self._collect(work, kind, wait=under_way and not work.ready)
                looked = time.perf_counter()
                while work.ready and time.perf_counter() - looked < LOOK_SECONDS:
                    yield work.tell()
        finally:
            self._abandon()
            self._busy = False

    def close(self) -> None:
        """Ends the workers and gives their memory back; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for process in self.alive():
            self._dismiss(process)
        self._selector.close()
        self._arena.close()

    def alive(self) -> list[Process]:
        """The workers that have been started and not been ended."""
        return [process for process in self._processes if process is not None]

    def _start(self) -> None:
        """Starts the workers that are missing: all of them at first, later those that died."""
        fresh: list[Process] = []
        for seat, process in enumerate(self._processes):
            if process is None:
                started = Process(self._handle, self._arena, self._store, self._reader)
                self._processes[seat] = started
                self._selector.register(started.desk.line, selectors.EVENT_READ, started)
                fresh.append(started)
        try:
            for process in fresh:
                process.greet()
        except FedSepError:
            for process in fresh:
                self._dismiss(process)
            raise

    def _dismiss(self, process: Process) -> int | None:
        self._selector.unregister(process.desk.line)
        self._processes[self._processes.index(process)] = None
        return process.stop()

    def _assign(self, work: Work, kind: str) -> None:
        """Gives every worker one chunk, then every worker a second; the last tasks wait for whoever is free first."""
        for depth in (1, 2):
            for process in self.alive():
                if len(process.chunks) < depth and (depth == 1 or work.left >= len(self._processes)):
                    tasks = work.take(self._most(work, kind))
                    if tasks:
                        self._send(process, tasks, work)

    def _most(self, work: Work, kind: str) -> int:
        return most_together(self._pace.get(kind, math.inf), work.left, len(self._processes))

    def _send(self, process: Process, tasks: list[Task], work: Work) -> None:
        try:
            chunk = Chunk(tasks, *self._store.write((task.number, task.call) for task in tasks))
        except Exception as error:
            work.end(Answer(tasks, [lost(error, "send")], 0))
            return
        try:
            process.send(chunk)
        except ConnectionError:
            self._bury(process, work)

    def _collect(self, work: Work, kind: str, *, wait: bool) -> None:
        """Takes the answers that are here; with ``wait``, at least one."""
        for key, _ in self._selector.select(None if wait else 0):
            process: Process = key.data
            try:
                answer = process.receive()
            except (EOFError, ConnectionError):
                self._bury(process, work)
            else:
                self._pace[kind] = process.pace
                work.end(answer)

    def _bury(self, process: Process, work: Work) -> None:
        """A worker has died: the task it was at has one more death to its name, the others are given out again."""
        number, stage = process.desk.status.read()
        stage = "start" if number == IDLE else stage
        exitcode = self._dismiss(process)
        tasks = [task for chunk in process.chunks for task in chunk.tasks]
        # Between two tasks, it is the next one that bears it: whatever happens, no task is tried for ever.
        guilty = next((task for task in tasks if number in (task.number, IDLE)), None)
        if guilty is not None:
            guilty.deaths += 1
            if guilty.deaths <= self._retries:
                at = f"at {self._told(guilty.call)}, stage {stage}"
                _log.warning("a %s %s; what it was given is done again", death(exitcode, guilty.deaths), at)
        for task in tasks:
            if task.deaths > self._retries:
                work.end(Answer([task], [Lost(stage, death(exitcode, task.deaths))], 0))
            else:
                work.again(task)

    def _abandon(self) -> None:
        """Ends the workers that are still at tasks of which nobody will ask the outcome."""
        for process in self.alive():
            if process.chunks:
                self._dismiss(process)


def most_together(pace: float, left: int, processes: int) -> int:
    """Tasks in a chunk: a share of what is left, within the bounds of its time.

    Args:
        pace: Seconds that a task takes; infinite if that is not known.
        left: Tasks that nobody has been given.
        processes: How many share them.
    """
    least, most = (int(seconds / max(pace, 1e-6)) for seconds in CHUNK_SECONDS)
    return max(1, least, min(most, left // (4 * processes)))
