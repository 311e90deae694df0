"""Which weights are kept, as tensors of 0 and 1 in the weights' own type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import Params

Masks = Params
"""A mask of 0 and 1 for each sparse layer, by the layer's name."""


def largest(score: Tensor, count: int, then: Tensor | None = None) -> Tensor:
    """1 at the ``count`` largest numbers of ``score``, else 0, in the type and shape of ``score``.

    What is level with the last one taken is chosen by ``then``, and by the lower position where that is level, too:
    the same on every device, where an unordered choice would be another.

    Args:
        score: Any shape.
        count: From 0 to the number of coordinates.
        then: Of the shape of ``score``.
    """
    flat, mask = score.reshape(-1), torch.zeros_like(score).reshape(-1)
    if count == 0:
        return mask.reshape(score.shape)
    last = torch.topk(flat, count, sorted=False).values.min()
    mask[flat > last] = 1
    level = (flat == last).nonzero()[:, 0]
    if then is not None:
        level = level[torch.sort(then.reshape(-1)[level], descending=True, stable=True).indices]
    mask[level[: count - int(mask.sum())]] = 1
    return mask.reshape(score.shape)


def largest_of(params: Params, names: Sequence[str], counts: Sequence[int]) -> Masks:
    """The weights of largest magnitude in each layer."""
    return {name: largest(params[name].abs(), count) for name, count in zip(names, counts, strict=True)}


def part_of(params: Params, masks: Masks, counts: Iterable[int]) -> Masks:
    """The largest of the kept weights of each layer, as many as ``counts`` says, or all there are.

    The masks of lower counts lie inside those of higher ones.
    """
    return {name: _part(params[name], mask, count) for (name, mask), count in zip(masks.items(), counts, strict=True)}


def _part(weight: Tensor, mask: Tensor, count: int) -> Tensor:
    return largest(torch.where(mask > 0, weight.abs(), -1.0), min(int(mask.sum()), count))


def random_masks(params: Params, names: Sequence[str], counts: Sequence[int], key: Tensor) -> Masks:
    """As many coordinates of each layer as ``counts`` says, uniformly at random."""
    return {name: _chosen(params[name], count, random.fold(key, number))
            for number, (name, count) in enumerate(zip(names, counts, strict=True))}  # fmt: skip


def _chosen(weight: Tensor, count: int, key: Tensor) -> Tensor:
    order = random.permutation(key.to(weight.device), weight.numel())
    return torch.zeros_like(weight).reshape(-1).index_fill(0, order[:count], 1.0).reshape(weight.shape)


def parts_of(counts: Iterable[int], share: float) -> list[int]:
    """A share of each count, at least one."""
    return [max(1, round(share * count)) for count in counts]


def counts(masks: Mapping[str, Tensor], names: Iterable[str]) -> list[int]:
    """How many weights are kept in each layer."""
    return [int(masks[name].sum()) for name in names]


def masked(params: Params, masks: Masks) -> Params:
    """The parameters with 0 outside of the masks."""
    return {name: part * masks[name] if name in masks else part for name, part in params.items()}
