"""Rank 0's side of the work: who gets what next, itself included, and what comes back."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fedsep import tree
from fedsep.core import FedSepError
from fedsep.engines.arena import Arena
from fedsep.engines.lost import lost
from fedsep.engines.mail import Reader
from fedsep.engines.notes import ANSWER, CHUNK, CLOSE, OPEN, READY
from fedsep.engines.pool import LOOK_SECONDS, most_together
from fedsep.engines.process import Answer, Chunk, Task
from fedsep.engines.ranks import Group
from fedsep.engines.store import Store
from fedsep.engines.work import Work
from fedsep.engines.worker import Handle
from fedsep.errors import LostRank
from fedsep.settle import dense, settled


class Parcel:
    """What a store writes, kept until it is sent: the other rank writes it to the same places."""

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []
        self.parts: list[Tensor | bytes] = []

    def write(self, offset: int, tensor: Tensor) -> None:
        """A dense tensor's bytes at ``offset``."""
        self.places.append((offset, tensor.nbytes))
        self.parts.append(tensor)

    def write_bytes(self, offset: int, data: bytes) -> None:
        """``data`` at ``offset``."""
        self.places.append((offset, len(data)))
        self.parts.append(data)

    def taken(self) -> tuple[list[tuple[int, int]], list[Tensor | bytes]]:
        """Places and parts since this was asked last."""
        taken, self.places, self.parts = (self.places, self.parts), [], []
        return taken


@dataclass(eq=False)
class Member:
    """Another rank, as rank 0 sees it.

    Attributes:
        chunks: What it was sent and has not answered, at most two; None: nobody asks for the answer any more.
        pace: Seconds a task took in the latest chunk.
    """

    rank: int
    chunks: deque[Chunk] = field(default_factory=deque)
    astray: int = 0
    pace: float = math.inf

    def __post_init__(self) -> None:
        self.parcel, self.answers = Parcel(), Arena()
        self.store = Store(self.parcel)
        self.reader = Reader(self.store)

    def answered(self, note: tuple[Any, ...], body: Tensor) -> Answer:
        """The answer to the chunk that was sent first."""
        offset, length, seconds = note[1:]
        chunk = self.chunks.popleft()
        self.answers.write(0, dense(body))
        outcomes = self._read(offset, length)
        self.pace = seconds / len(chunk.tasks)
        self.store.release(chunk.blocks)
        return Answer(chunk.tasks, outcomes, len(body) // len(chunk.tasks))

    def _read(self, offset: int, length: int) -> list[Any]:
        try:
            return list(self.reader.read(offset, length, self.answers))
        except Exception as error:  # a class that only the other rank has
            return [lost(error, "reply")]


class Crew:
    """All ranks at work on one run, rank 0 among them.

    Args:
        handle: What is done with a task, here; the others have their own.
        group: None: this rank is alone.
        identity: What the run is made of: the others must have made the same.
        patience: Seconds that a rank may take to answer.

    Raises:
        FedSepError: Another rank has something else.
        LostRank: Another rank is gone.
    """

    def __init__(self, handle: Handle, group: Group | None, identity: dict[str, Any], patience: float) -> None:
        self._handle = handle
        self._group = group
        self._patience = patience
        self._pace: dict[str, float] = {}
        self._busy = False
        self._members = {rank: Member(rank) for rank in (group.lines if group else ())}
        if group:
            group.tell((OPEN, identity))
            self._greet(group)

    def map(self, kind: str, calls: Iterable[object], order: Sequence[int]) -> Generator[Any, None, None]:
        """See ``Hands``: outcomes are told in order, and few wait for one before them.

        Raises:
            RuntimeError: Another map is under way.
            LostRank: A rank is gone.
        """
        if self._busy:
            raise RuntimeError("the round before this has not been read to its end")
        self._busy = True
        work = Work(calls, order, len(self._members) + 1)
        try:
            while not work.finished:
                self._assign(work, kind)
                self._collect(work, kind, 0)
                if not work.ready and not self._own(work) and not work.finished:
                    self._collect(work, kind, self._patience)
                looked = time.perf_counter()
                while work.ready and time.perf_counter() - looked < LOOK_SECONDS:
                    yield work.tell()
        finally:
            self._abandon()
            self._busy = False

    def close(self) -> None:
        """Tells the others that the run is over."""
        if self._group:
            self._group.tell((CLOSE,))
        for member in self._members.values():
            member.answers.close()
        self._members.clear()

    def _greet(self, group: Group) -> None:
        """Waits until all the others are ready; what is wrong with any of them is told at once."""
        problems: dict[int, str] = {}
        while len(problems) < len(self._members):
            news = group.hear(self._patience)
            if news is None:
                raise LostRank(f"a rank was not ready in {self._patience:g} s")
            if news.note[0] == READY:
                problems[news.rank] = news.note[1]
        wrong = [f"rank {rank}: {problem}" for rank, problem in sorted(problems.items()) if problem]
        if wrong:
            raise FedSepError("\n".join(wrong))

    def _assign(self, work: Work, kind: str) -> None:
        """Gives every other rank one chunk, then a second, while there is enough for all."""
        for depth in (1, 2):
            for member in self._members.values():
                if len(member.chunks) < depth and (depth == 1 or work.left > len(self._members)):
                    pace = self._pace.get(kind, math.inf)
                    tasks = work.take(most_together(pace, work.left, len(self._members) + 1))
                    if tasks:
                        self._send(member, tasks, work)

    def _send(self, member: Member, tasks: list[Task], work: Work) -> None:
        try:
            chunk = Chunk(tasks, *member.store.write((task.number, task.call) for task in tasks))
        except Exception as error:
            member.parcel.taken()
            work.end(Answer(tasks, [lost(error, "send")], 0))
            return
        places, parts = member.parcel.taken()
        member.chunks.append(chunk)
        assert self._group is not None
        self._group.lines[member.rank].send((CHUNK, chunk.offset, chunk.length, places), parts)

    def _collect(self, work: Work, kind: str, seconds: float) -> None:
        """Takes the answers that are here; the first is waited for so long."""
        waiting = seconds
        while self._group and any(member.chunks for member in self._members.values()):
            news = self._group.hear(waiting)
            if news is None and waiting:
                slow = min(member.rank for member in self._members.values() if member.chunks)
                raise LostRank(f"rank {slow} has not answered for {seconds:g} s; fewer ranks can go on")
            if news is None:
                return
            if news.note[0] == ANSWER:
                self._take(self._members[news.rank], news.note, news.body, work, kind)
            waiting = 0.0

    def _take(self, member: Member, note: tuple[Any, ...], body: Tensor, work: Work, kind: str) -> None:
        answer = member.answered(note, body)
        if member.astray:
            member.astray -= 1
        else:
            self._pace[kind] = member.pace
            work.end(answer)

    def _own(self, work: Work) -> bool:
        """Does one task here; False if there is none for now."""
        tasks = work.take(1)
        for task in tasks:
            try:
                outcome = settled(self._handle(settled(task.call)))
            except Exception as error:
                outcome = lost(error, "update")
            work.end(Answer([task], [outcome], _bytes(outcome)))
        return bool(tasks)

    def _abandon(self) -> None:
        """The answers that are under way will be read, and nobody will ask for them."""
        for member in self._members.values():
            member.astray = len(member.chunks)


def _bytes(outcome: Any) -> int:
    return sum(leaf.nbytes for leaf in tree.leaves(outcome) if isinstance(leaf, Tensor))
