"""Random trees for laws: by key, so that a law that fails once fails again."""

from __future__ import annotations

import torch
from torch import Tensor

from fedsep import random, tree
from fedsep.core import Ctx, Tree


def context(round: int, *, client: int = 0, seen: int = -1, seed: int = 0, capability: float = 1.0) -> Ctx:
    """What both ends know about one client in one round, as the loop would make it."""
    key = random.fold(random.fold(random.key(seed), round), client)
    return Ctx(round, capability, key, seen)


def random_like(like: Tree, seed: int, scale: float = 1.0) -> Tree:
    """Normal draws in the tree's shapes and dtypes; what holds no floats (positions, say) stays as it is."""
    leaves, structure = tree.flatten(like)
    keys = random.fold(random.key(seed), torch.arange(len(leaves)))
    return tree.unflatten([_draw(leaf, key, scale) for leaf, key in zip(leaves, keys, strict=True)], structure)  # type: ignore[arg-type]


def moved(x: Tree, change: Tree, by: float = 1.0) -> Tree:
    """x + by * change, as a server adds: where a change names some parts of x, only these move."""
    if isinstance(x, dict) and isinstance(change, dict):
        return {**x, **{name: tree.add(x[name], part, by) for name, part in change.items()}}
    return tree.add(x, change, by)


def _draw(leaf: Tensor, key: Tensor, scale: float) -> Tensor:
    if not leaf.is_floating_point():
        return leaf.clone()
    return (random.normal(key, *leaf.shape) * scale).to(leaf.dtype)
