"""One process per device, started by torchrun on one machine or several: the same bits as ``sequential``."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedsep.core import Algorithm, FedSepError, Task
from fedsep.engines import letters
from fedsep.engines.arena import Arena
from fedsep.engines.crew import Crew
from fedsep.engines.engine import Fleet, Recall
from fedsep.engines.mail import Inbox, Outbox
from fedsep.engines.notes import ANSWER, CHUNK, CLOSE, OPEN, READY, SHARE
from fedsep.engines.ranks import Group, Place, meet, met, place
from fedsep.engines.spread import Clients, SpreadSession
from fedsep.engines.worker import answered
from fedsep.environment import command, versions
from fedsep.errors import RunFailed
from fedsep.identity import describe, differences
from fedsep.ranges import Count, Positive, checked


@dataclass(frozen=True)
class Torchrun:
    """See ``torchrun``."""

    threads: int = 1
    timeout: float = 1800.0

    def open(self, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, recall: Recall) -> SpreadSession:
        """Rank 0: begins a run with all the others.

        Raises:
            FedSepError: torchrun did not start this process, or another rank has other data or versions.
            LostRank: Another rank is gone.
        """
        where = started()
        group = meet(where) if where.ranks > 1 else None
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            identity = made_of(algorithm, task, fleet)
            crew = Crew(Clients(algorithm, task, fleet), group, identity, self.timeout)
        except BaseException:
            torch.set_num_threads(before)
            raise
        return SpreadSession(algorithm, task, fleet, recall, crew, where.ranks, before)

    def follow(self, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet) -> Any:
        """Any other rank: works for rank 0 until the run is over, and gives what came of it; None on rank 0.

        Raises:
            FedSepError: torchrun did not start this process.
            RunFailed: The run ended early; rank 0 says why.
        """
        where = started()
        if not where.rank:
            return None
        with _at_work(meet(where), self.threads) as group:
            result = _served(group, Clients(algorithm, task, fleet), made_of(algorithm, task, fleet))
        if result is None:
            raise RunFailed("the run ended early: rank 0 says why")
        return result

    def share(self, result: Any) -> None:
        """Rank 0: gives the others what came of the run."""
        group = met()
        if group:
            group.tell((SHARE, letters.write([result], letters.inline)))


@checked
def torchrun(*, threads: Count = 1, timeout: Positive = 1800.0) -> Torchrun:
    """Runs clients in the processes that ``torchrun`` started, with the same result as ``sequential``, bit for bit.

    Rank 0 has the server, the clients' memories and the run's folder, and does clients' parts as well; the others do
    clients' parts and keep nothing. Replies are folded in the order of the cohort, whoever they come from, and few are
    held that wait for one before them. So a rank that is lost stops the run, whose last checkpoint is whole, and
    ``resume`` goes on with as many ranks as there are, to the same result.

    Messages go through torch.distributed's gloo; with ``--device cuda`` each process has the GPU of its local rank.

    Args:
        threads: Intra-op threads of torch in every process. One gives the bits of ``workers``; more may not.
        timeout: Seconds after which a rank that owes an answer counts as lost.

    Raises:
        FedSepError: An argument is out of range.
    """
    return Torchrun(threads, timeout)


def started() -> Place:
    """Which process this is.

    Raises:
        FedSepError: torchrun did not start it, or torch lacks what it takes.
    """
    reason, found = unusable(), place()
    if reason:
        raise FedSepError(f"fedsep.engines.torchrun cannot be used here: {reason}")
    if found is None:
        raise FedSepError(how_to_start())
    return found


def how_to_start() -> str:
    """What to type where torchrun did not start this process."""
    words = command()
    ours = words if words.startswith("fedsep ") else "fedsep run RECIPE --engine torchrun"
    return (
        "fedsep.engines.torchrun works in processes that torchrun starts, and it did not start this one: type "
        f"`torchrun --nproc-per-node 2 -m {ours}`, or name another engine, as in --engine workers"
    )


def unusable() -> str:
    """Why this engine cannot be used on this machine, however this process was started; empty if it can."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        return "this torch was built without torch.distributed and gloo"
    return ""


def made_of(algorithm: object, task: Task, fleet: Any) -> dict[str, Any]:
    """What all ranks must have in common: versions, float type, method, model and data."""
    return {
        **versions(),
        "float": str(torch.get_default_dtype()),
        "method": describe(algorithm),
        "model": describe(task.init()),
        "clients": fleet.clients,
        "data": getattr(fleet, "name", None),
        "partition": getattr(getattr(fleet, "partition", None), "hash", None),
    }


@contextmanager
def _at_work(group: Group, threads: int) -> Generator[Group]:
    before, was = torch.get_num_threads(), group.busy
    torch.set_num_threads(threads)
    group.busy = True
    try:
        yield group
    finally:
        torch.set_num_threads(before)
        group.busy = was


def _served(group: Group, handle: Clients, identity: dict[str, Any]) -> Any:
    """Does what rank 0 asks for in one run; what came of it, None if it ended early."""
    inbox_arena, outbox_arena, result = Arena(), Arena(), None
    inbox = Inbox(inbox_arena)
    try:
        while True:
            news = group.hear()
            assert news is not None
            kind, *rest = news.note
            if kind == OPEN:
                unlike = differences(rest[0], identity)
                group.lines[0].send(
                    (READY, f"has something else than rank 0: {'; '.join(unlike[:5])}" if unlike else "")
                )
            elif kind == CHUNK:
                _unpack(inbox_arena, rest[2], news.body)
                outbox = Outbox(outbox_arena, inbox)
                _answer(group, handle, inbox, outbox, rest[0], rest[1], outbox_arena)
            elif kind == SHARE:
                [result] = letters.read(rest[0], _nothing_aside)
            else:
                if kind != CLOSE:  # rank 0 has ended, or gone on to another run without this one
                    group.unread(news)
                return result
    finally:
        inbox_arena.close()
        outbox_arena.close()


def _nothing_aside(note: letters.Note) -> Tensor:
    raise ValueError(f"all of the letter's tensors are inside ({note!r})")


def _answer(
    group: Group, handle: Clients, inbox: Inbox, outbox: Outbox, offset: int, length: int, arena: Arena
) -> None:
    inbox.turn()
    began = time.perf_counter()
    letter = answered(handle, group.status, inbox.read(offset, length), outbox)
    seconds = time.perf_counter() - began
    body = arena.read(0, torch.empty(outbox.size, dtype=torch.uint8, device="cpu"))
    group.lines[0].send((ANSWER, *letter, seconds), [body])


def _unpack(arena: Arena, places: list[tuple[int, int]], body: Tensor) -> None:
    """Puts the parts of a message where they belong."""
    at = 0
    for offset, size in places:
        arena.write(offset, body[at : at + size])
        at += size
