"""The fast Walsh-Hadamard transform, by additions alone: the same bits on every device and in every batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fedsep.core import FedSepError
from fedsep.operators.differentiable import linear

_RADIX = 9  # bits transformed while a tile stays in the cache
_TILE = 1 << 18  # numbers in a tile on a CPU; elsewhere a launch costs more than memory does
_TILE_ELSEWHERE = 1 << 25


def walsh_hadamard(x: Tensor) -> Tensor:
    """H x along the last axis, H_ij = (-1)^<i, j> / sqrt(n) with the bits of i and j: orthonormal and symmetric.

    n log2 n additions and one multiplication each by 1 / sqrt(n), in an order that depends on n alone, not on
    the batch or the machine.

    Args:
        x: Shape (..., n), n a power of two; float32 or float64.

    Memory:
        The result, and a tile of 1 MiB.

    Raises:
        FedSepError: n is not a power of two.
    """
    n = x.shape[-1]
    if n < 1 or n & (n - 1):
        raise FedSepError(f"walsh_hadamard: the length must be a power of two (got {n})")
    return linear(x, _copied, _copied)


def transform(x: Tensor) -> Tensor:
    """H x along the last axis of a contiguous x, in its place."""
    n, after = x.shape[-1], 1
    for bits in _parts(n.bit_length() - 1):
        transform_axis(x.view(-1, 1 << bits, after))
        after <<= bits
    return x.mul_(n**-0.5)


def transform_axis(x: Tensor) -> None:
    """Changes a contiguous x of shape (a, m, b) to sqrt(m) H x along its middle axis; m is a power of two.

    The additions are those of the plain butterflies, done tile by tile so that they stay in the cache.
    """
    m = x.shape[1]
    width = max(1, (_TILE if x.device.type == "cpu" else _TILE_ELSEWHERE) // m)
    buffer, pairs = x.new_empty(0), []
    for tile in _tiles(x.movedim(1, 0), width):
        if buffer.shape != tile.shape:
            buffer = x.new_empty(tile.shape)
            pairs = stages(buffer.view(m, -1))
        buffer.copy_(tile)
        butterflies(pairs)
        tile.movedim(0, -1).copy_(buffer.movedim(0, -1))  # for two axes torch knows how to transpose in the cache


def _copied(x: Tensor) -> Tensor:
    return transform(x.clone(memory_format=torch.contiguous_format))


def _parts(bits: int) -> list[int]:
    """Bits, shared out as evenly as may be over the fewest parts of at most ``_RADIX``."""
    count = -(-bits // _RADIX)
    return [bits * (i + 1) // count - bits * i // count for i in range(count)]


def _tiles(x: Tensor, width: int) -> Iterator[Tensor]:
    """Views of x, shape (m, a, b), that have about ``width`` columns each, of two axes where b is 1."""
    for rows in x.split(max(1, width // x.shape[2]), dim=1):
        yield from [rows[:, :, 0]] if x.shape[2] == 1 else rows.split(width, dim=2)


Pairs = list[tuple[Tensor, Tensor]]
"""Stage by stage, the entries that are added and those that are subtracted."""


def stages(x: Tensor) -> Pairs:
    """The halves of x, of its halves, and so on, along the first of two axes; views, made once for many tiles."""
    m, width = x.shape
    halves = [x.view(-1, 2, m >> stage, width) for stage in range(1, m.bit_length())]
    return [(each[:, 0], each[:, 1]) for each in halves]


def butterflies(pairs: Pairs) -> None:
    """x <- sqrt(m) H x along the first axis of the x whose ``stages`` these are.

    In place, a + b and then (a + b) - 2 b, since half the memory in use is worth more than that rounding.
    """
    for lower, upper in pairs:
        lower.add_(upper)
        torch.sub(lower, upper, alpha=2, out=upper)
