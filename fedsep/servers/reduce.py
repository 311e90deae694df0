"""From the clients' changes to one change: two means, named because they differ under partial coverage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch

from fedsep import tree
from fedsep.core import Tree, Update


class Reduce(Protocol):
    """Folds updates as they come, in the order given; None if there were none, or none that weighs anything."""

    def __call__(self, updates: Iterable[Update]) -> Tree | None:
        """The reduced change."""
        ...


def mean(updates: Iterable[Update]) -> Tree | None:
    """sum_m w_m dx_m / sum_m w_m: divides by all replies, also where a client holds nothing (line 20, Remark 3)."""
    total, weight = None, 0.0
    for update in updates:
        total = _accumulate(total, update.value, update.weight)
        weight += update.weight
    return None if total is None or not weight else tree.map(lambda part: part / weight, total)


def coverage_mean(updates: Iterable[Update]) -> Tree | None:
    """Divides each coordinate by the weight of the clients that hold it; 0 where nobody does (HeteroFL, FedRolex)."""
    total, weight = None, None
    for update in updates:
        cover = tree.map(torch.ones_like, update.value) if update.cover is None else update.cover
        total = _accumulate(total, tree.map(torch.mul, update.value, cover), update.weight)
        weight = _accumulate(weight, cover, update.weight)
    if total is None:
        return None
    return tree.map(lambda part, by: torch.where(by > 0, part / by.clamp_min(1e-30), 0.0), total, weight)


def _accumulate(total: Tree | None, value: Tree, weight: float) -> Tree:
    """total + weight * value, in a buffer of its own: a round's memory does not grow with the cohort."""
    if total is None:
        return tree.scale(value, weight)
    return tree.map(lambda into, part: into.add_(part, alpha=weight), total, value)
