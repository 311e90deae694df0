"""Rounds of Algorithm 1 without an engine: who takes part, whose reply is accepted, what each remembers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fedsep.core import Algorithm, Ctx, Info, Params, Payload, Reply, Shard, Tree
from fedsep.digest import sealed
from fedsep.testing.draws import context
from fedsep.testing.payloads import reload

Attendance = Sequence[Mapping[int, bool]]
"""For every round, the clients that take part, and whether the reply of each is accepted."""


class Seat(NamedTuple):
    """One client's part of one round.

    Attributes:
        ctx: What both ends knew.
        sent: What the client was sent.
        before: Its memory at the start of the round.
        reply: What it sent.
        memory: Its memory if the reply is accepted.
        info: Scalars for the log.
        accepted: Whether the reply was accepted.
    """

    ctx: Ctx
    sent: Payload
    before: Tree
    reply: Payload
    memory: Tree
    info: Info
    accepted: bool


class Played(NamedTuple):
    """The server's state before every round and after the last, and every client's part of every round."""

    states: list[Any]
    seats: list[dict[int, Seat]]

    def every_seat(self) -> list[Seat]:
        """All clients' parts of all rounds."""
        return [seat for seats in self.seats for seat in seats.values()]


def everybody(clients: int, rounds: int) -> Attendance:
    """All clients, in all rounds, accepted."""
    return [dict.fromkeys(range(clients), True)] * rounds


def play(
    algorithm: Algorithm[Any, Any],
    params: Params,
    shards: Sequence[Shard],
    attendance: Attendance,
    *,
    seed: int = 0,
    cross: Callable[[Payload], Payload] = reload,
    clients: Algorithm[Any, Any] | None = None,
    capabilities: Sequence[float] = (1.0,),
) -> Played:
    """Runs an algorithm round by round, by the two-phase rule of client memory.

    A client keeps what it would remember after every round it took part in; the next invitation names its
    last accepted round (``ctx.seen``), and it goes on from the memory of that round.

    Args:
        algorithm: The six functions.
        params: The model's initial parameters.
        shards: The clients' data.
        attendance: Who takes part in each round.
        seed: Of the clients' keys.
        cross: What the wire does to a payload; by default it is saved and loaded.
        clients: Runs the clients' part, as an object in another process would; ``algorithm`` itself by default.
        capabilities: Of the clients, in their order; as often as it takes.
    """
    remote = clients or algorithm
    state = algorithm.init(params)
    played = Played([state], [])
    desks = [_Desk(capability) for _, capability in zip(shards, itertools.cycle(capabilities), strict=False)]
    for number, present in enumerate(attendance):
        seats = {
            client: desks[client].seat(
                remote, cross(algorithm.broadcast(state, ctx)), shards[client], ctx, present[client]
            )
            for client, ctx in (
                (client, sealed(algorithm, state, desks[client].ctx(number, client, seed)))
                for client in sorted(present)
            )
        }
        replies = [
            Reply(client, seat.ctx, cross(seat.reply), shards[client].train.size)
            for client, seat in seats.items()
            if seat.accepted
        ]
        state = algorithm.aggregate(state, iter(replies))[0]
        played.states.append(state)
        played.seats.append(seats)
    return played


class _Desk:
    """One client: its memory after each round that it took part in, and the last that was accepted."""

    def __init__(self, capability: float) -> None:
        self.capability = capability
        self.memories: dict[int, Tree] = {}
        self.seen = -1
        self.report: Tree = None

    def ctx(self, number: int, client: int, seed: int) -> Ctx:
        ctx = context(number, client=client, seen=self.seen, seed=seed, capability=self.capability)
        return ctx._replace(report=self.report)

    def seat(self, algorithm: Algorithm[Any, Any], sent: Payload, shard: Shard, ctx: Ctx, accepted: bool) -> Seat:
        before = self.memories[self.seen] if self.seen >= 0 else algorithm.enroll(sent, ctx)
        reply, memory, info = algorithm.update(sent, before, shard, ctx)
        self.memories[ctx.round] = memory
        if accepted:
            self.seen = ctx.round
            self.report = reply.get("report", self.report) if isinstance(reply, dict) else self.report
        return Seat(ctx, sent, before, reply, memory, info, accepted)
