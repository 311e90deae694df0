"""The laws of wires: what is sent is tensors, and what is read is what was sent, up to a declared error."""

from __future__ import annotations

from typing import Any

import torch

from fedsep import tree
from fedsep.core import Ctx, Tree, Wire
from fedsep.testing.broken import LawBroken, name_of, require_alike, require_close, require_same
from fedsep.testing.draws import context
from fedsep.testing.payloads import check_payload, reload
from fedsep.testing.purity import pure

READS = "unpack gives a tree of the names, shapes and dtypes that were packed"
ERROR = "what is read differs from what was packed by the declared error at most"
AGAIN = "what was read passes the wire unchanged the second time"


def check_wire(
    wire: Wire[Any], sent: Tree, *, error: float = 0.0, idempotent: bool = True, ctx: Ctx | None = None
) -> None:
    """Every law of wires, on one message.

    Args:
        wire: The wire.
        sent: The tree to send.
        error: Largest |read - sent| / |sent|; 0 means bit for bit.
        idempotent: Whether what was read passes the wire unchanged; false for a random or remembering wire.
        ctx: What both ends know.

    Raises:
        LawBroken: A law does not hold; the message says which, what was expected and what came.
    """
    ctx, name = ctx or context(1, seen=0), name_of(wire)
    memory = pure(f"{name}.init", wire.init, sent)
    payload, memory = pure(f"{name}.pack", wire.pack, sent, memory, ctx)
    check_payload(payload, f"{name}.pack")
    read = pure(f"{name}.unpack", wire.unpack, reload(payload), sent, ctx)
    require_alike(READS, f"{name}.unpack", sent, read)
    within(name, sent, read, error)
    nothing, _ = wire.pack(tree.zeros_like(sent), wire.init(sent), ctx)
    require_close("nothing is read from nothing", name, tree.zeros_like(sent), wire.unpack(nothing, sent, ctx), 0.0)
    if idempotent:
        again = wire.unpack(wire.pack(read, wire.init(read), ctx)[0], read, ctx)
        require_same(AGAIN, name, read, again)


def within(name: str, sent: Tree, read: Tree, error: float) -> None:
    """|read - sent| <= error |sent|, over all leaves together; bit for bit where ``error`` is 0."""
    if error == 0.0:
        require_same("what is read is what was packed, bit for bit", name, sent, read)
    apart, size = float(tree.norm(tree.sub(read, sent))), float(tree.norm(sent))
    if not apart <= error * size + torch.finfo(torch.float64).tiny:
        raise LawBroken(ERROR, name, f"|read - sent| <= {error:.3g} |sent| = {error * size:.3g}", f"{apart:.3g}")
