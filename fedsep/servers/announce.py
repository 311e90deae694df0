"""The server's end of a downlink that sends changes: after its step it says through a wire what is new."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

from torch import Tensor

from fedsep import random, tree
from fedsep.core import Ctx, FedSepError, Params, Payload, Server, Tree, Update, Wire
from fedsep.wires.promises import Contraction, Deferred, Exact, promise_of

News = tuple[Payload, ...]
"""A round's message, or nothing: at most one."""


class Announced(TypedDict):
    """x as the server keeps it where clients follow its messages.

    Attributes:
        anchor: What both ends have folded so far.
        omega: x.
        sent: x as it stands with every client that has all messages. omega - sent is the downlink's error,
            which is part of what the next message says.
        news: The message of the round just over, alone in a tuple, which is empty where there is none.
        history: The messages of the rounds before, the latest last.
        round: Number of the round to come.
        digest: Of all that both ends have folded.
    """

    anchor: Params
    omega: Tree
    sent: Tree
    news: News
    history: tuple[News, ...]
    round: Tensor
    digest: Tensor


class AnnounceState(NamedTuple):
    """The server's optimiser and the wire's memory."""

    server: Tree
    wire: Tree


@dataclass(frozen=True)
class Announce:
    """x <- server(x); message = wire(x - sent); sent <- sent + read(message).

    The error of the wire is not lost: it stays in x - sent and is sent with the next message, which is error
    feedback with its memory on the server. Without ``feedback`` x <- sent: the server goes on from what clients hold.

    Attributes:
        server: Moves omega.
        wire: What clients are sent of the change.
        key: Shared by both ends, for wires that draw; folded with the round.
        feedback: Whether the server keeps what the wire leaves out.
    """

    server: Server[Any]
    wire: Wire[Any]
    key: Tensor
    feedback: bool = True

    @property
    def clients(self) -> int | None:
        """How many there are, where the server was told."""
        return getattr(self.server, "clients", None)

    def init(self, x: Announced) -> AnnounceState:
        """Both parts' states."""
        return AnnounceState(self.server.init(x), self.wire.init(x["omega"]))

    def step(self, x: Announced, updates: Iterable[Update], state: AnnounceState) -> tuple[Tree, AnnounceState]:
        """x with its news; everything as it was if nobody replied."""
        moved, optimizer = self.server.step(x, updates, state.server)
        if moved is x:
            return x, state
        ctx = message_ctx(self.key, int(x["round"]))
        message, memory = self.wire.pack(tree.sub(moved["omega"], x["sent"]), state.wire, ctx)
        sent = heard(self.wire, x["sent"], (message,), ctx)
        omega = moved["omega"] if self.feedback else sent
        return {**moved, "omega": omega, "sent": sent, "news": (message,)}, AnnounceState(optimizer, memory)


def announcing(server: Server[Any], wire: Wire[Any], key: Tensor, size: int) -> Announce:
    """``Announce`` that keeps what the wire leaves out if the wire promises that this does not grow without bound.

    What a contracting wire leaves out is part of the next message: error feedback. Others are taken at their word, and
    the server goes on from the clients' copy: an unbiased wire needs no memory, and the error of one that errs by more
    than the message is long would be fed back until nothing else is left.

    Args:
        server: Moves omega.
        wire: What clients are sent of the change.
        key: Shared by both ends, for wires that draw.
        size: Coordinates of a message.

    Raises:
        FedSepError: The wire feeds its error back by itself.
    """
    promise = promise_of(wire, size)
    if isinstance(promise, Deferred):
        raise FedSepError("downlink must be a wire without error feedback: the server keeps what it leaves out anyway")
    return Announce(server, wire, key, isinstance(promise, Contraction | Exact))


def message_ctx(key: Tensor, round: int) -> Ctx:
    """What both ends know of the message at the end of ``round``."""
    return Ctx(round, 1.0, random.fold(key, round))


def heard(wire: Wire[Any], sent: Tree, news: News, ctx: Ctx) -> Tree:
    """``sent`` after a round's message: the same bits on both ends."""
    for message in news:
        sent = tree.add(sent, wire.unpack(message, sent, ctx))
    return sent
