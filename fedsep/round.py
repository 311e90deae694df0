"""One round: replies are checked one by one and folded as they come, then kept together or not at all."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsep import digest, ledger
from fedsep.core import ASTRAY, Algorithm, Failure, Invitation, Payload, Reply, Tree
from fedsep.engines.engine import Delivered, Session
from fedsep.errors import RunFailed
from fedsep.ledger import Message
from fedsep.store import Store


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
        failures: The others.
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
) -> Played:
    """Runs a round. Nothing that was there before it is changed, but for new versions of memories.

    Raises:
        RunFailed: A client's training loss, or the server's parameters after the round, are not finite.
    """
    tally = Tally()
    replies = _replies(session.round(state, cohort), tally, memories, accepted.told)
    after, info = algorithm.aggregate(state, replies)
    for _ in replies:  # a server may stop reading early; every client is waited for
        pass
    kept = len(tally.delivered) >= min_replies
    if not kept:
        after, info = algorithm.aggregate(state, [])
    _check_server(algorithm, after, cohort)
    columns = tally.columns() | {f"server_{name}": float(value) for name, value in info.items()}
    accepted = _accept(accepted, tally, cohort) if kept else accepted
    return Played(after, _forgotten(accepted, tally), kept, tally, columns)


def too_few(round: int, void: int, wanted: int, invited: int, failures: list[Failure]) -> str:
    """Why a run gives up, with what the clients died of."""
    shown = "; ".join(f"client {f.client}, {f.stage}: {f.reason}" for f in failures[:3])
    more = f"; and {len(failures) - 3} more" if len(failures) > 3 else ""
    return (
        f"round {round}: {invited - len(failures)} of {invited} clients replied, fewer than min_replies={wanted}, "
        f"for the {void}. time in a row ({shown}{more})"
    )


def _replies(
    outcomes: Iterator[Delivered | Failure], tally: Tally, memories: Memories, told: Tensor
) -> Iterator[Reply]:
    """The usable replies, one at a time; everybody's part in the round is written down on the way."""
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            tally.fail(outcome, ledger.failed(outcome))
            continue
        reply, memory = outcome
        _check_loss(reply)
        spoiled = _check_payload(reply)
        if spoiled is not None:
            tally.fail(spoiled, ledger.spoiled(reply, spoiled))
            continue
        tally.deliver(reply)
        memories.clients.put(reply.client, reply.ctx.round, memory, reply.ctx.seen)
        report = _report(reply.payload)
        if report is not None:
            tally.reported.append(reply.client)
            memories.reports.put(reply.client, reply.ctx.round, report, int(told[reply.client]))
        yield reply


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


def _check_loss(reply: Reply) -> None:
    for name, value in reply.info.items():
        if name.endswith("loss") and not math.isfinite(value):
            raise RunFailed(
                f"round {reply.ctx.round + 1}: the training {name} of client {reply.client} is {value}. "
                "The likely cause is a learning rate that is too high: lower lr, or clip the gradients"
            )


def _check_payload(reply: Reply) -> Failure | None:
    """A reply that would spoil everybody's model is a failure of its client."""
    if _finite(reply.payload):
        return None
    reason = (
        "the reply holds numbers that are not finite: the client diverged (lower lr, or clip the gradients), "
        "or they do not fit the type that the uplink sends"
    )
    return Failure(reply.client, reply.ctx, "reply", reason, sent=reply.sent)


def _check_server(algorithm: Algorithm[Any, Any], state: Any, cohort: Sequence[Invitation]) -> None:
    """Looks at the model only if the state is suspect: making a model may cost a decode."""
    if _finite(state):
        return
    bad = [name for name, value in algorithm.model(state).items() if not _finite(value)]
    if bad:
        raise RunFailed(
            f"round {cohort[0].ctx.round + 1}: the server's parameters are not finite after its step "
            f"({', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''}). The likely cause is a server learning rate, "
            "or a clients' learning rate, that is too high"
        )


def _finite(values: Tree) -> bool:
    # By hand: this is asked for every reply, and pytree takes several times as long.
    if isinstance(values, Tensor):
        return not values.is_floating_point() or _all_finite(values)
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return True
    return all(map(_finite, values))


def _all_finite(values: Tensor) -> bool:
    # A sum is finite unless one of its terms is not, or it overflows: only then is each number looked at.
    return math.isfinite(values.sum().item()) or bool(torch.isfinite(values).all())
