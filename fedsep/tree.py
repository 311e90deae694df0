"""Arithmetic on trees of tensors, and their size in bytes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from fedsep.core import Payload, Tree

__all__ = [
    "Layout", "add", "dot", "flatten", "layout", "leaves", "map", "named_bytes", "nbytes", "norm", "ordered",
    "ordered_ravel", "ravel", "scale", "size", "stack", "sub", "unflatten", "unstack", "zeros_like",
]  # fmt: skip

unflatten = tree_unflatten


def map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """The tree of ``function``'s values at the leaves of ``tree``, and of ``others``, which have the same structure.

    Raises:
        ValueError: Another tree has another structure.
    """
    # Parameters by name, which most trees are, by hand: pytree takes several times as long, a dozen times a round.
    if not _is_flat(tree):
        return tree_map(function, tree, *others)
    for other in others:
        if type(other) is not dict or other.keys() != tree.keys():
            return tree_map(function, tree, *others)
    return {name: function(part, *[other[name] for other in others]) for name, part in tree.items()}


def leaves(tree: Tree) -> list[Any]:
    """The leaves in order."""
    return list(tree.values()) if _is_flat(tree) else tree_leaves(tree)


def _is_flat(tree: Tree) -> bool:
    if type(tree) is not dict:
        return False
    for part in tree.values():  # noqa: SIM110 - all() takes twice as long
        if not isinstance(part, Tensor):
            return False
    return True


def flatten(tree: Tree) -> tuple[list[Tensor], object]:
    """The leaves in order, and the structure to put them back with ``unflatten(leaves, structure)``."""
    return tree_flatten(tree)


def add(a: Tree, b: Tree, scale: float = 1.0) -> Tree:
    """a + scale * b."""
    return map(lambda u, v: torch.add(u, v, alpha=scale), a, b)


def sub(a: Tree, b: Tree) -> Tree:
    """a - b."""
    return map(torch.sub, a, b)


def scale(a: Tree, by: float | Tensor) -> Tree:
    """by * a."""
    return map(lambda u: u * by, a)


def zeros_like(a: Tree) -> Tree:
    """A tree of zeros of the same shapes and dtypes."""
    return map(torch.zeros_like, a)


def dot(a: Tree, b: Tree) -> Tensor:
    """The inner product over all leaves, a scalar."""
    return torch.stack(leaves(map(lambda u, v: (u * v).sum(), a, b))).sum()


def norm(a: Tree) -> Tensor:
    """The Euclidean norm over all leaves, a scalar."""
    return dot(a, a).sqrt()


def ravel(tree: Tree) -> tuple[Tensor, Callable[[Tensor], Tree]]:
    """All leaves as one vector, and the function that puts such a vector back into the tree's shapes."""
    parts, structure = tree_flatten(tree)
    shapes = [part.shape for part in parts]
    sizes = [math.prod(shape) for shape in shapes]

    named = list(tree) if _is_flat(tree) else None

    def unravel(vector: Tensor) -> Tree:
        pieces = [piece.reshape(shape) for piece, shape in zip(vector.split(sizes), shapes, strict=True)]
        return tree_unflatten(pieces, structure) if named is None else dict(zip(named, pieces, strict=True))

    return torch.cat([part.reshape(-1) for part in parts]), unravel


def ordered(tree: Tree) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], Tree]]:
    """The leaves with the names of every dict sorted, and the function that puts as many back.

    Two ends may hold the same names in different orders; both get the same list. What is put back has the
    order of ``tree``.
    """
    parts, structure = tree_flatten(tree)
    if len(parts) == 1:
        return parts, lambda given: tree_unflatten(list(given), structure)
    places: list[int] = tree_leaves(_by_name(tree_unflatten(list(range(len(parts))), structure)))

    def restore(given: Sequence[Tensor]) -> Tree:
        found = dict(zip(places, given, strict=True))
        return tree_unflatten([found[place] for place in range(len(places))], structure)

    return [parts[place] for place in places], restore


def _by_name(tree: Tree) -> Tree:
    if isinstance(tree, dict):
        return {name: _by_name(tree[name]) for name in sorted(tree, key=str)}
    if isinstance(tree, list | tuple):
        return tuple(_by_name(part) for part in tree)
    return tree


class Layout(NamedTuple):
    """What one has to know of a tree to read it from a vector whose order is that of the sorted names.

    Attributes:
        size: Length of the vector.
        dtype: The shortest float type of at least 32 bits that holds every leaf.
        device: Where the leaves lie.
        unravel: Puts a vector into the tree's shapes and dtypes.
    """

    size: int
    dtype: torch.dtype
    device: torch.device
    unravel: Callable[[Tensor], Tree]


def layout(tree: Tree) -> Layout:
    """The layout of a tree of floats, without a copy of it."""
    parts, restore = ordered(tree)
    sizes = [part.numel() for part in parts]

    def unravel(vector: Tensor) -> Tree:
        pieces = zip(vector.split(sizes), parts, strict=True)
        return restore([piece.reshape(part.shape).to(part.dtype) for piece, part in pieces])

    dtype = functools.reduce(torch.promote_types, (part.dtype for part in parts), torch.float32)
    return Layout(sum(sizes), dtype, parts[0].device if parts else torch.device("cpu"), unravel)


def ordered_ravel(tree: Tree) -> tuple[Tensor, Layout]:
    """All leaves as one vector, in an order that does not depend on the order of names, and its layout."""
    parts, _ = ordered(tree)
    shape = layout(tree)
    flat = [part.reshape(-1).to(shape.dtype) for part in parts]
    return torch.cat(flat) if flat else torch.zeros(0, dtype=shape.dtype), shape


def size(tree: Tree) -> int:
    """How many numbers there are in all leaves together."""
    return sum(part.numel() for part in tree_leaves(tree))


def nbytes(payload: Payload) -> int:
    """Bytes of a payload's tensors.

    Raises:
        TypeError: A leaf is not a tensor: it would cross the wire uncounted.
    """
    if isinstance(payload, Tensor):
        return payload.numel() * payload.element_size()
    if _is_flat(payload):  # by hand: this is asked for every message, and pytree takes several times as long
        return sum([part.nbytes for part in payload.values()])
    if type(payload) is dict:
        return sum([nbytes(part) for part in payload.values()])
    if type(payload) in (tuple, list):
        return sum([nbytes(part) for part in payload])
    total = 0
    for leaf in tree_leaves(payload):
        if not isinstance(leaf, Tensor):
            raise TypeError(f"a payload holds tensors and nothing else (got {type(leaf).__name__}: {leaf!r})")
        total += leaf.numel() * leaf.element_size()
    return total


def named_bytes(payload: Payload) -> dict[str, int]:
    """Bytes of a payload by its top-level names; model parameters count together as ``"model"``."""
    if not isinstance(payload, dict) or (_is_flat(payload) and all("." in name for name in payload)):
        return {"model": nbytes(payload)}
    return {str(name): nbytes(part) for name, part in payload.items()}


def stack(trees: Sequence[Tree]) -> Tree:
    """One tree whose leaves have a new first axis over ``trees``."""
    return map(lambda *parts: torch.stack(parts), *trees)


def unstack(tree: Tree) -> list[Tree]:
    """The inverse of ``stack``."""
    count = tree_leaves(tree)[0].shape[0]
    return [tree_map(lambda part, i=i: part[i], tree) for i in range(count)]
