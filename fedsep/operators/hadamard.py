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
        The result, and two tiles of 1 MiB.

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
    buffers: list[Tensor] = []
    for tile in _tiles(x.movedim(1, 0), width):  # the first is the largest
        buffers = buffers or [x.new_empty(tile.numel()) for _ in range(2)]
        there, back = (buffer[: tile.numel()].view(m, -1) for buffer in buffers)
        there.view(tile.shape).copy_(tile)
        tile.copy_(butterflies(there, back).view(tile.shape))


def _copied(x: Tensor) -> Tensor:
    return transform(x.clone(memory_format=torch.contiguous_format))


def _parts(bits: int) -> list[int]:
    """Bits, shared out as evenly as may be over the fewest parts of at most ``_RADIX``."""
    count = -(-bits // _RADIX)
    return [bits * (i + 1) // count - bits * i // count for i in range(count)]


def _tiles(x: Tensor, width: int) -> Iterator[Tensor]:
    """Views of x, shape (m, a, b), that have about ``width`` columns each."""
    for rows in x.split(max(1, width // x.shape[2]), dim=1):
        yield from rows.split(width, dim=2)


def butterflies(x: Tensor, other: Tensor) -> Tensor:
    """sqrt(m) H x along the first of two axes; both arguments are used up, and one of them is the result."""
    half = x.shape[0] // 2
    while half:
        pairs, into = x.view(-1, 2, half, x.shape[1]), other.view(-1, 2, half, x.shape[1])
        torch.add(pairs[:, 0], pairs[:, 1], out=into[:, 0])
        torch.sub(pairs[:, 0], pairs[:, 1], out=into[:, 1])
        x, other, half = other, x, half // 2
    return x
