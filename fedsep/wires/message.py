"""What most wires share: a message as one vector of floats, and parts that send such vectors in their turn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fedsep import random, tree
from fedsep.core import Ctx, FedSepError, Tree, Wire


def vector_of(wire: object, message: Tree) -> tuple[Tensor, tree.Layout]:
    """All numbers of a message as one vector, shape (n,), of at least 32 bits each, and its layout.

    Raises:
        FedSepError: It holds something other than floats.
    """
    _require_floats(wire, message)
    return tree.ordered_ravel(message)


def layout_of(wire: object, like: Tree) -> tree.Layout:
    """How to put a vector back into the shapes of ``like``.

    Raises:
        FedSepError: It is None, or holds something other than floats.
    """
    if like is None:
        raise FedSepError(f"{_name(wire)} can only be read with the shapes of what was sent: give `like`")
    _require_floats(wire, like)
    return tree.layout(like)


def inside(ctx: Ctx, number: int) -> Ctx:
    """What a nested wire knows: a key of its own, so that its draws are not the outer wire's."""
    return ctx._replace(key=random.fold(ctx.key, number))


def blank(count: int, layout: tree.Layout) -> Tensor:
    """A vector of ``count`` zeros, to tell a nested wire what it will read."""
    return torch.zeros(count, dtype=layout.dtype, device=layout.device)


def scattered(values: Tensor, places: Tensor, layout: tree.Layout) -> Tree:
    """The values in their places, int64, and 0 elsewhere, as a tree."""
    return layout.unravel(blank(layout.size, layout).index_put_((places,), values.to(layout.dtype)))


def require_memoryless(outer: object, inner: Wire[Any], like: Tree) -> None:
    """Refuses a nested wire that remembers: its coordinates would mean something else in every message.

    Raises:
        FedSepError: It has a memory, or cannot send ``like``.
    """
    if not _empty(inner.init(like)):
        name = _name(inner)
        raise FedSepError(f"{name} remembers, so it goes around {_name(outer)}: {name}({_name(outer)}(...))")


def _empty(memory: Any) -> bool:
    return isinstance(memory, tuple) and not memory


def _require_floats(wire: object, message: Tree) -> None:
    for leaf in tree.leaves(message):
        if not leaf.is_floating_point():
            kind = str(leaf.dtype).removeprefix("torch.")
            raise FedSepError(f"{_name(wire)} sends floats, and the message holds {kind}: use by_name for its parts")


def _name(wire: object) -> str:
    return type(wire).__name__
