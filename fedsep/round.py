"""One round: replies are checked and folded as they come, a few at a time, then kept together or not at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsep import digest, ledger
from fedsep.core import ASTRAY, Algorithm, Failure, Invitation, Payload, Reply, Tree
from fedsep.engines.engine import Delivered, Session
from fedsep.errors import RunFailed
from fedsep.ledger import Message
from fedsep.looking import far, finite
from fedsep.options import Accept
from fedsep.replies import DUPLICATE, LOSS, Gate, count_bytes
from fedsep.store import Store

HELD_BYTES = 1 << 28
"""Replies, changes and memories that are held before the first is looked at, where a look waits for a device."""
_FEW = 16
"""Replies that are held where nothing is waited for."""
_NEAR_BYTES = 1 << 19
"""What as many of them, or as many states of the server, may take: less than a core's cache."""


class Memories(NamedTuple):
    """Where the fleet's memories are kept, and the reports that the server keeps of its clients."""

    clients: Store
    reports: Store


class Accepted(NamedTuple):
    """Rounds, from 0, of each client's last accepted reply and last accepted report; -1: never. int64."""

    seen: Tensor
    told: Tensor


@dataclass
class Tally:
    """What a round leaves behind beside the state: a few numbers for each client.

    Attributes:
        delivered: Clients whose replies arrived, in order.
        reported: Those whose reply had a report.
        failures: The others, and replies that came twice.
        messages: For the ledger.
        info: Sums of what clients told about their round, with the number of clients that did.
    """

    delivered: list[int] = field(default_factory=list[int])
    reported: list[int] = field(default_factory=list[int])
    failures: list[Failure] = field(default_factory=list[Failure])
    messages: list[Message] = field(default_factory=list[Message])
    info: defaultdict[str, tuple[float, int]] = field(default_factory=lambda: defaultdict(lambda: (0.0, 0)))

    def fail(self, failure: Failure, messages: list[Message]) -> None:
        """Adds a client without a usable reply."""
        self.failures.append(failure)
        self.messages += messages

    def deliver(self, reply: Reply) -> None:
        """Adds a client with one."""
        self.delivered.append(reply.client)
        self.messages += ledger.exchanged(reply)
        for name, value in reply.info.items():
            total, count = self.info[name]
            self.info[name] = total + value, count + 1

    def columns(self) -> dict[str, float]:
        """Means over clients, as columns of the metrics: ``loss`` is ``train_loss``."""
        return {f"train_{name}": total / count for name, (total, count) in self.info.items()}


class Played(NamedTuple):
    """A round that is over; ``kept`` is false if it had too few replies."""

    state: Any
    accepted: Accepted
    kept: bool
    tally: Tally
    columns: dict[str, float]


def play(
    algorithm: Algorithm[Any, Any],
    session: Session,
    state: Any,
    cohort: Sequence[Invitation],
    memories: Memories,
    accepted: Accepted,
    min_replies: int,
    accept: Accept = Accept(),
) -> Played:
    """Runs a round. Nothing that was there before it is changed, but for new versions of memories.

    Raises:
        RunFailed: No reply is usable and a client's training loss is not finite, or the server's parameters after
            the round are not.
    """
    tally = Tally()
    gate = Gate(algorithm, state, cohort, accept)
    replies = _replies(session.round(state, cohort), gate, tally, memories, accepted.told)
    after, info = algorithm.aggregate(state, replies)
    for _ in replies:  # a server may stop reading early; every client is waited for
        pass
    _check_losses(tally)
    kept = len(tally.delivered) >= min_replies
    if not kept:
        after, info = algorithm.aggregate(state, [])
    _check_server(algorithm, after, cohort)
    columns = tally.columns() | {f"server_{name}": float(value) for name, value in info.items()}
    accepted = _accept(accepted, tally, cohort) if kept else accepted
    return Played(after, _forgotten(accepted, tally), kept, tally, columns)


def too_few(round: int, void: int, wanted: int, invited: int, failures: list[Failure]) -> str:
    """Why a run gives up, with what the clients died of."""
    silent = {failure.client for failure in failures if failure.stage != DUPLICATE}
    shown = "; ".join(f"client {f.client}, {f.stage}: {f.reason}" for f in failures[:3])
    more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
    again = f", for the {void}. time in a row" if void > 1 else ""
    return (
        f"round {round}: {invited - len(silent)} of {invited} clients replied, fewer than min_replies={wanted}"
        f"{again} ({shown}{more})"
    )


def _replies(
    outcomes: Iterator[Delivered | Failure], gate: Gate, tally: Tally, memories: Memories, told: Tensor
) -> Iterator[Reply]:
    """The usable replies, one at a time; everybody's part in the round is written down on the way."""
    for reply, memory in _judged(outcomes, gate):
        if isinstance(reply, Failure):
            tally.fail(reply, ledger.failed(reply))
            continue
        tally.deliver(reply)
        memories.clients.put(reply.client, reply.ctx.round, memory, reply.ctx.seen)
        report = _report(reply.payload)
        if report is not None:
            tally.reported.append(reply.client)
            memories.reports.put(reply.client, reply.ctx.round, report, int(told[reply.client]))
        yield reply


def _judged(outcomes: Iterator[Delivered | Failure], gate: Gate) -> Iterator[tuple[Reply | Failure, Tree]]:
    """Every client's reply as the gate gives it, and its memory, in order; None is a failure's.

    Where a device computes, replies are held until there are as many as may be, and then looked at together. On a
    processor so are a few small ones, since a step done for several at once is done sooner; how many, the first tells.
    """
    state = count_bytes(gate.state)  # what a change may take, however few bytes it came in
    if not far(torch.empty(0)):
        few = 1
        while group := list(islice(outcomes, few)):
            yield from _together(group, gate)
            few = max(1, min(_FEW, _NEAR_BYTES // max(1, state, _bytes(group[0]))))
        return
    group, held = list[Delivered | Failure](), 0
    for outcome in outcomes:
        group.append(outcome)
        held += _bytes(outcome) + state
        if held >= HELD_BYTES:
            yield from _together(group, gate)
            group, held = [], 0
    yield from _together(group, gate)


def _bytes(outcome: Delivered | Failure) -> int:
    """Of a reply and its client's memory."""
    return 0 if isinstance(outcome, Failure) else count_bytes((outcome.reply.payload, outcome.memory))


def _together(group: Sequence[Delivered | Failure], gate: Gate) -> Iterator[tuple[Reply | Failure, Tree]]:
    passed = iter(gate.judged([outcome.reply for outcome in group if isinstance(outcome, Delivered)]))
    for outcome in group:
        yield (outcome, None) if isinstance(outcome, Failure) else (next(passed), outcome.memory)


def _accept(accepted: Accepted, tally: Tally, cohort: Sequence[Invitation]) -> Accepted:
    """A new pair of arrays: whoever is interrupted while this runs still holds the old one."""
    seen, told = accepted.seen.clone(), accepted.told.clone()
    seen[tally.delivered] = cohort[0].ctx.round
    told[tally.reported] = cohort[0].ctx.round
    return Accepted(seen, told)


def _forgotten(accepted: Accepted, tally: Tally) -> Accepted:
    """Clients whose copy of the model proved wrong start anew: the next time they are sent everything."""
    astray = [failure.client for failure in tally.failures if failure.stage == digest.STAGE]
    if not astray:
        return accepted
    seen = accepted.seen.clone()
    seen[astray] = ASTRAY
    return accepted._replace(seen=seen)


def _report(payload: Payload) -> Tree | None:
    return payload.get("report") if isinstance(payload, dict) else None


def _check_losses(tally: Tally) -> None:
    """One client that diverges is its own failure; where none is left, the run has."""
    lost = [failure for failure in tally.failures if failure.stage == LOSS]
    if lost and not tally.delivered:
        raise RunFailed(f"round {lost[0].ctx.round + 1}: {lost[0].reason}")


def _check_server(algorithm: Algorithm[Any, Any], state: Any, cohort: Sequence[Invitation]) -> None:
    """Looks at the model only if the state is suspect: making a model may cost a decode."""
    if finite(state):
        return
    bad = [name for name, value in algorithm.model(state).items() if not finite(value)]
    if bad:
        raise RunFailed(
            f"round {cohort[0].ctx.round + 1}: the server's parameters are not finite after its step "
            f"({', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''}). The likely cause is a server learning rate, "
            "or a clients' learning rate, that is too high"
        )
