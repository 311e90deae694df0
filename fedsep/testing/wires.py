"""The laws of wires: what is sent is tensors, and what is read is what was sent, up to what the wire promises."""

from __future__ import annotations

from typing import Any

import torch

from fedsep import tree
from fedsep.core import Ctx, Payload, Tree, Wire
from fedsep.testing.broken import LawBroken, name_of, require_alike, require_close, require_same
from fedsep.testing.draws import context
from fedsep.testing.payloads import check_payload, reload, reordered
from fedsep.testing.promises import check_promise
from fedsep.testing.purity import pure
from fedsep.wires.promises import Exact, Promise, promise_of, varies

READS = "unpack gives a tree of the names, shapes and dtypes that were packed"
ERROR = "what is read differs from what was packed by the declared error at most"
ORDER = "the order of names means nothing: neither in the message, nor in the payload, nor in like"
SHAPES = "the shapes of a payload depend on the message's shapes alone, unless the wire or a part of it says `varies`"
AGAIN = "what was read passes the wire unchanged the second time"


def check_wire(
    wire: Wire[Any],
    sent: Tree,
    *,
    error: float | None = None,
    idempotent: bool | None = None,
    ctx: Ctx | None = None,
    draws: int = 64,
) -> None:
    """Every law of wires, on one message; with a ``promise``, that too, on messages of several kinds.

    Args:
        wire: The wire. A method ``promise(size)`` says what it promises (``fedsep.wires.promises``).
        sent: The tree to send.
        error: Largest |read - sent| / |sent|; 0 means bit for bit. None: what the wire promises, and bit for bit
            if it promises nothing.
        idempotent: Whether what was read passes the wire unchanged; false for a random or remembering wire.
            None: where an error is given or the wire is exact.
        ctx: What both ends know.
        draws: Keys over which a random wire is averaged.

    Raises:
        LawBroken: A law does not hold; the message says which, what was expected and what came.
    """
    ctx, name = ctx or context(1, seen=0), name_of(wire)
    memory = pure(f"{name}.init", wire.init, sent)
    payload, _ = pure(f"{name}.pack", wire.pack, sent, memory, ctx)
    check_payload(payload, f"{name}.pack")
    read = pure(f"{name}.unpack", wire.unpack, reload(payload), sent, ctx)
    require_alike(READS, f"{name}.unpack", sent, read)
    _reordered(wire, sent, payload, read, ctx)
    nothing, _ = wire.pack(tree.zeros_like(sent), wire.init(sent), ctx)
    if not varies(wire):
        require_alike(SHAPES, f"{name}.pack", payload, nothing)
    require_close("nothing is read from nothing", name, tree.zeros_like(sent), wire.unpack(nothing, sent, ctx), 0.0)
    promise = _promise(wire, sent) if error is None else None
    if promise is None:
        within(name, sent, read, error or 0.0)
    else:
        check_promise(wire, sent, promise, ctx, draws)
    if idempotent or (idempotent is None and (promise is None or isinstance(promise, Exact))):
        again = wire.unpack(wire.pack(read, wire.init(read), ctx)[0], read, ctx)
        require_same(AGAIN, name, read, again)


def _promise(wire: Wire[Any], sent: Tree) -> Promise | None:
    size = sum(leaf.numel() for leaf in tree.leaves(sent))
    return promise_of(wire, size) if hasattr(wire, "promise") else None


def _reordered(wire: Wire[Any], sent: Tree, payload: Payload, read: Tree, ctx: Ctx) -> None:
    """Sender and receiver may hold the names in other orders, and a payload may arrive in another."""
    name, other = name_of(wire), reordered(sent)
    require_same(ORDER, f"{name}.pack", payload, wire.pack(other, wire.init(other), ctx)[0])
    require_same(ORDER, f"{name}.unpack", read, wire.unpack(reordered(payload), other, ctx))


def within(name: str, sent: Tree, read: Tree, error: float) -> None:
    """|read - sent| <= error |sent|, over all leaves together; bit for bit where ``error`` is 0."""
    if error == 0.0:
        require_same("what is read is what was packed, bit for bit", name, sent, read)
    apart, size = float(tree.norm(tree.sub(read, sent))), float(tree.norm(sent))
    if not apart <= error * size + torch.finfo(torch.float64).tiny:
        raise LawBroken(ERROR, name, f"|read - sent| <= {error:.3g} |sent| = {error * size:.3g}", f"{apart:.3g}")
