"""Tasks in their order: taken from their source only when a worker is free, told in order however they end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from fedsep.engines.process import Answer, Task

AHEAD = 4
"""For each process so many outcomes may wait for one before them, whatever they take."""

HELD_BYTES = 1 << 28
"""Outcomes that wait for a slower one before them: above this many bytes, no task is begun that is not overdue."""


class Work:
    """A series of tasks on its way through the workers.

    Args:
        calls: What is to be done, made on demand; None where there is nothing to do, whose outcome is None.
        order: The place of each call among the outcomes; none is further than ``AHEAD`` processes' from its turn.
        processes: How many share the work.
    """

    def __init__(self, calls: Iterable[object], order: Sequence[int], processes: int) -> None:
        self._fresh = self._tasks(calls, order)
        self._count = len(order)
        self._spread = AHEAD * processes
        self._again: deque[Task] = deque()
        self._outcomes: dict[int, tuple[Any, int]] = {}
        self._held = 0
        self._taken = 0
        self._told = 0
        self._exhausted = False

    @property
    def left(self) -> int:
        """About how many tasks no worker has been given yet."""
        return max(self._count - self._taken, 0) + len(self._again)

    @property
    def ready(self) -> bool:
        """Whether the next outcome in order is here."""
        return self._told in self._outcomes

    @property
    def finished(self) -> bool:
        """Whether every outcome has been told."""
        return self._exhausted and self._told == self._taken

    def take(self, most: int) -> list[Task]:
        """Tasks for one worker; one alone if it is done again, none if there are none for now."""
        if self._again:
            return [self._again.popleft()]
        if len(self._outcomes) >= self._spread and self._held >= HELD_BYTES:
            return []
        return list(islice(self._fresh, most))

    def again(self, task: Task) -> None:
        """A task that a worker did not finish."""
        self._again.append(task)

    def end(self, answer: Answer) -> None:
        """The outcomes of tasks; those that have no outcome of their own are done again, one by one."""
        if len(answer.outcomes) != len(answer.tasks):
            self._again.extend(answer.tasks)
            return
        for task, outcome in zip(answer.tasks, answer.outcomes, strict=True):
            self._outcomes[task.number] = outcome, answer.nbytes
            self._held += answer.nbytes

    def tell(self) -> Any:
        """The next outcome in order."""
        outcome, nbytes = self._outcomes.pop(self._told)
        self._held -= nbytes
        self._told += 1
        return outcome

    def _tasks(self, calls: Iterable[object], order: Sequence[int]) -> Iterator[Task]:
        for place, call in zip(order, calls, strict=True):
            self._taken += 1
            if call is None:
                self._outcomes[place] = None, 0
            else:
                yield Task(place, call)
        self._exhausted = True
