"""Error feedback: what one message leaves out is added to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fedsep import tree as trees
from fedsep.core import Ctx, Payload, Tree, Wire
from fedsep.wires.promises import Deferred, promise_of


class Residual(NamedTuple):
    """The sender's memory: what was never read, and the memory of the wire inside."""

    error: Tree
    inner: Any


@dataclass(frozen=True)
class ErrorFeedback:
    """See ``error_feedback``."""

    wire: Wire[Any]
    renewed: Callable[[Ctx], bool] | None = None

    def init(self, like: Tree) -> Residual:
        """Nothing was left out yet."""
        return Residual(trees.zeros_like(like), self.wire.init(like))

    def pack(self, tree: Tree, memory: Residual, ctx: Ctx) -> tuple[Payload, Residual]:
        """u = e + dx is sent; e = u - what is read of it."""
        if self.renewed is not None and self.renewed(ctx):
            memory = self.init(tree)
        whole = trees.add(tree, memory.error)
        payload, inner = self.wire.pack(whole, memory.inner, ctx)
        read = self.wire.unpack(payload, whole, ctx)
        return payload, Residual(trees.sub(whole, read), inner)

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """As the wire inside reads it: the receiver need not know of the memory."""
        return self.wire.unpack(payload, like, ctx)

    def promise(self, size: int) -> Deferred:
        """Nothing is lost."""
        each = promise_of(self.wire, size)
        return each if isinstance(each, Deferred) else Deferred(each)


def error_feedback(wire: Wire[Any], renewed: Callable[[Ctx], bool] | None = None) -> ErrorFeedback:
    """e <- e + dx - C(e + dx): the sender remembers what the wire left out, and sends it with the next message.

    The memory is proposed with a message and holds once the message is accepted: what is lost on the way is
    neither read nor forgotten twice.

    Args:
        wire: C, a wire that may leave out a part of a message; it should be a contraction.
        renewed: Says of a round whether its coordinates mean something new to this sender, so that the old
            memory is forgotten. Ask ``ctx.seen``, the round of the sender's last accepted message, and not only
            ``ctx.round``: the sender may have been away when the meaning changed. None: never.

    Bytes:
        Those of ``wire``.

    Memory:
        One message, at the sender: the client on an uplink, the server on a downlink.

    Reference:
        Seide et al. 2014; Stich et al. 2018, arXiv:1809.07599; Karimireddy et al. 2019, arXiv:1901.09847.
    """
    return ErrorFeedback(wire, renewed)


def forgetting(wire: Wire[Any], renewed: Callable[[Ctx], bool]) -> Wire[Any]:
    """The wire; error feedback that was not told when to forget does so when coordinates are ``renewed``."""
    return replace(wire, renewed=renewed) if isinstance(wire, ErrorFeedback) and wire.renewed is None else wire
