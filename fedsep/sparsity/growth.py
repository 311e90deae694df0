"""Dynamic sparse training: the smallest weights go, others come in their place, and the number stays the same.

What grows was zero before anything was pruned, and no more is pruned than there is room to grow. So a model without
zeros stays as it is, and a weight that was pruned is not at once grown back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import Params
from fedsep.sparsity.density import filled
from fedsep.sparsity.masks import Masks, largest


@dataclass(frozen=True)
class Readjustment:
    """When masks move, and how much of them.

    Attributes:
        rate: Part of a layer's kept weights that is pruned at the start.
        every: Rounds from one readjustment to the next, the first in round ``start``; 0: never.
        until: Round from which nothing moves any more; None: the rate stays as it is.
        decay: ``cosine`` or ``linear``, to 0 at ``until``.
        start: First round with a readjustment.
    """

    rate: float
    every: int = 1
    until: int | None = None
    decay: str = "cosine"
    start: int = 0

    def part(self, round: int) -> float:
        """The part of the kept weights that is pruned in ``round``."""
        done = round - self.start
        if not self.every or done < 0 or done % self.every or (self.until is not None and round >= self.until):
            return 0.0
        if self.until is None:
            return self.rate
        past = done / (self.until - self.start)
        return self.rate * (0.5 * (1 + math.cos(math.pi * past)) if self.decay == "cosine" else 1 - past)


def pruned(masks: Masks, part: float) -> dict[str, int]:
    """How many weights each layer loses: ``part`` of them, at least one stays, and no more than there is room for."""
    kept = {name: int(mask.sum()) for name, mask in masks.items()}
    wanted = {name: _gone(part, count) for name, count in kept.items()}
    room = sum(masks[name].numel() - count for name, count in kept.items())
    total = sum(wanted.values())
    return wanted if total <= room else {name: count * room // total for name, count in wanted.items()}


def grown_by_gradient(y: Params, masks: Masks, gradient: Params, part: float) -> Masks:
    """In each layer the smallest weights go, and those of largest gradient come among what was zero."""

    def readjusted(name: str, mask: Tensor) -> Tensor:
        kept = int(mask.sum())
        moved = min(_gone(part, kept), mask.numel() - kept)
        return _moved(mask, y[name], moved, gradient[name].abs(), moved)

    return {name: readjusted(name, mask) for name, mask in masks.items()}


def grown_by_chance(y: Params, masks: Masks, part: float, key: Tensor) -> Masks:
    """In each layer the smallest weights go; as many come at random, more in layers of larger mean magnitude."""
    gone = pruned(masks, part)
    coming = shared_out(
        sum(gone.values()),
        {name: _mean_magnitude(y[name], mask, gone[name]) for name, mask in masks.items()},
        {name: mask.numel() - int(mask.sum()) for name, mask in masks.items()},
    )
    keys = {name: random.fold(key, number) for number, name in enumerate(sorted(masks))}
    chance = {name: random.uniform(keys[name].to(mask.device), *mask.shape) for name, mask in masks.items()}
    return {name: _moved(mask, y[name], gone[name], chance[name], coming[name]) for name, mask in masks.items()}


def shared_out(total: int, weights: dict[str, float], room: dict[str, int]) -> dict[str, int]:
    """``total`` in proportion to ``weights``, no share larger than its ``room``; largest remainders."""
    sizes = {name: count for name, count in room.items() if count}
    each = filled({n: weights[n] / sizes[n] for n in sizes}, sizes, total / max(1, sum(sizes.values())))
    exact = {name: each[name] * sizes[name] if name in sizes else 0.0 for name in room}
    shares = {name: min(int(exact[name] + 1e-9), room[name]) for name in room}
    for name in sorted(room, key=lambda name: (shares[name] - exact[name], name)):
        if sum(shares.values()) < total and shares[name] < room[name]:
            shares[name] += 1
    return shares


def _gone(part: float, kept: int) -> int:
    """A client may have been given nothing in the rows of its own classes."""
    return max(0, min(round(part * kept), kept - 1))


def _mean_magnitude(weight: Tensor, mask: Tensor, gone: int) -> float:
    """Of the weights that stay: the sum of the kept less that of the smallest; 0 where there are none."""
    magnitudes = weight.abs()[mask > 0]
    if not len(magnitudes):
        return 0.0
    return float(torch.topk(magnitudes, len(magnitudes) - gone, sorted=False).values.mean())


def _moved(mask: Tensor, weight: Tensor, gone: int, merit: Tensor, coming: int) -> Tensor:
    """The mask without its ``gone`` smallest weights and with the ``coming`` zeros of most merit."""
    staying = largest(torch.where(mask > 0, weight.abs(), -1.0), int(mask.sum()) - gone)
    return staying + largest(torch.where(mask > 0, -1.0, merit.to(mask.dtype)), coming)
