"""A run between two rounds, and how it is kept and found again."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from fedsep import checkpoint
from fedsep.checkpoint import Saved
from fedsep.core import FedSepError, Params, Tree
from fedsep.earlier import comparable
from fedsep.folder import RunFolder
from fedsep.identity import describe, differences
from fedsep.ledger import Totals
from fedsep.round import Accepted, Memories
from fedsep.store import InMemory, OnDisk


class Point(NamedTuple):
    """A run after some complete rounds. It is replaced, never changed: an interrupt always finds a whole one.

    Attributes:
        round: Number of complete rounds.
        state: The server's.
        accepted: When each client was last accepted.
        totals: What has crossed.
        void: Void rounds in a row until now.
        seconds: Time spent in rounds.
        evaluating: Time spent on evaluation.
        offsets: Bytes of the logs.
        average: The exponential average of the server's parameters, where one is asked for.
    """

    round: int
    state: Tree
    accepted: Accepted
    totals: Totals = Totals()
    void: int = 0
    seconds: float = 0.0
    evaluating: float = 0.0
    offsets: dict[str, int] = {}  # noqa: RUF012 - never mutated
    average: Params | None = None


def start(state: Tree, clients: int) -> Point:
    """A run before its first round; what is known of clients lies in main memory, where it is looked at."""
    never = torch.full((clients,), -1, dtype=torch.int64, device="cpu")
    return Point(0, state, Accepted(never, never))


def memories_in(folder: RunFolder | None, states: Literal["memory", "disk"], stack: ExitStack) -> Memories:
    """Where a run keeps its clients' memories and reports.

    Args:
        folder: The run's; if there is none, those on disk are in a folder that goes with ``stack``.
        states: In this process, or on disk.
        stack: What is undone when the run is over.
    """
    if states == "memory":
        return Memories(InMemory(), InMemory())
    path = folder.path if folder else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedsep-")))
    return Memories(OnDisk(path / "clients"), OnDisk(path / "reports"))


@dataclass
class Keeper:
    """Keeps a run in its folder, or nowhere.

    Attributes:
        folder: Where; None: nowhere.
        memories: The clients'.
        identity: What the run is made of.
        round: Complete rounds in the latest checkpoint, -1 if there is none.
        at: When it was made, by ``time.monotonic``.
    """

    folder: RunFolder | None
    memories: Memories
    identity: dict[str, Any]
    round: int = -1
    at: float = field(default_factory=time.monotonic)

    def save(self, point: Point) -> None:
        """Makes a checkpoint, unless the latest is of the same round.

        Raises:
            CannotWrite: The disk is full; the latest checkpoint is as it was.
        """
        if self.folder is None or self.round == point.round:
            return
        self.folder.sync()
        checkpoint.save(self.folder.path / "checkpoint", Saved(point.round, self._trees(point), self._facts(point)))
        for store in self.memories:
            store.checkpointed(point.round)
        self.round, self.at = point.round, time.monotonic()

    def find(self, rounds: int) -> Saved | None:
        """The checkpoint to go on from; None if the run was stopped before it made one.

        Raises:
            FedSepError: It is damaged, belongs to another run, or has more than ``rounds`` rounds.
        """
        if self.folder is None:
            return None
        path = self.folder.path / "checkpoint"
        saved = checkpoint.load(path)
        if saved is None:
            self.folder.clear()
            return None
        found = differences(_completed(saved.facts["identity"]), _completed(self.identity))
        if found:
            raise FedSepError(f"{path}: the checkpoint of another run: {'; '.join(found)}")
        if saved.round > rounds:
            raise FedSepError(f"{path}: has {saved.round} rounds already, more than the {rounds} of this run")
        return saved

    def restore(self, saved: Saved) -> Point:
        """Goes back to a checkpoint: memories and logs are what they were then.

        Raises:
            FedSepError: A file that it needs is missing or too short.
        """
        assert self.folder is not None
        facts, accepted = saved.facts, Accepted(**saved.trees["accepted"])
        self.folder.truncate(facts["offsets"])
        self.memories.clients.restore(saved.trees["clients"], accepted.seen, saved.round)
        self.memories.reports.restore(saved.trees["reports"], accepted.told, saved.round)
        self.round, self.at = saved.round, time.monotonic()
        figures = {name: facts[name] for name in ("void", "seconds", "evaluating", "offsets")}
        average = saved.trees.get("average")
        return Point(
            saved.round, saved.trees["server"], accepted, Totals(**facts["totals"]), average=average, **figures
        )

    def _trees(self, point: Point) -> dict[str, Tree]:
        return {
            **({} if point.average is None else {"average": point.average}),
            "server": point.state,
            "accepted": point.accepted._asdict(),
            "clients": self.memories.clients.snapshot(point.accepted.seen),
            "reports": self.memories.reports.snapshot(point.accepted.told),
        }

    def _facts(self, point: Point) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "totals": point.totals._asdict(),
            "void": point.void,
            "seconds": point.seconds,
            "evaluating": point.evaluating,
            "offsets": point.offsets,
        }


def _completed(identity: dict[str, Any]) -> dict[str, Any]:
    """What a run is made of, whose recipe may be of an earlier version and lack what came later."""
    return {**identity, "recipe": describe(comparable(identity["recipe"]))}
