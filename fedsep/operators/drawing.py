"""What operators draw from a key, as whole numbers: signs in bulk, numbers below n, and distinct ones among many."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from fedsep import random

_ROUNDS = 8  # of the Feistel network; 4 are the least for a pseudo-random permutation, short numbers need more
PIECE = 1 << 16  # signs that are turned into floats at a time, so that they stay in the cache
_SHORT = 1 << 16  # permutations of so few numbers are made: a Feistel network takes as long
_DRAWN = 1 << 21  # signs that are drawn at a time


def signs(key: Tensor, count: int, dtype: torch.dtype, start: int = 0, into: Tensor | None = None) -> Tensor:
    """``count`` random signs, +1.0 or -1.0: the bits of the key's draws from number ``start``, a multiple of 64.

    Written to ``into``, shape (count,), where that is given.
    """
    octets = random.bits(key, (count + 63) // 64, start // 64).view(torch.uint8)
    table = _sign_table(dtype, key.device)
    if into is not None and count % 8 == 0:  # without another piece of memory
        torch.index_select(table, 0, octets[: count // 8].int(), out=into.view(-1, 8))
        return into
    made = table.index_select(0, octets.int()).view(-1)[:count]
    return made if into is None else into.copy_(made)


def sign_pieces(key: Tensor, count: int, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """``signs(key, count, dtype)`` piece by piece, each with where it belongs, and valid until the next one."""
    table = _sign_table(dtype, key.device)
    room = torch.empty((min(PIECE, count) + 63) // 8, 8, dtype=dtype, device=key.device)
    for start in range(0, count, _DRAWN):
        drawn = random.bits(key, (min(_DRAWN, count - start) + 63) // 64, start // 64).view(torch.uint8)
        for octets in drawn.split(PIECE // 8):
            here = slice(start, min(start + 8 * octets.numel(), count))
            torch.index_select(table, 0, octets.int(), out=room[: octets.numel()])
            yield here, room.view(-1)[: here.stop - start]
            start = here.stop


def flip(x: Tensor, key: Tensor, into: Tensor | None = None) -> Tensor:
    """x times random signs along its last axis, shape (..., d); written to ``into`` where that is given."""
    out = torch.empty_like(x) if into is None else into
    for here, flips in sign_pieces(key, x.shape[-1], x.dtype):
        torch.mul(x[..., here], flips, out=out[..., here])
    return out


def below(draws: Tensor, n: int) -> Tensor:
    """Numbers below n < 2**31 from random int64 draws: the upper word of their product with n, as unsigned."""
    upper, lower = (draws >> 32) & 0xFFFFFFFF, draws & 0xFFFFFFFF
    return (upper * n + ((lower * n) >> 32)) >> 32


def permuted(key: Tensor, n: int, index: Tensor, tweak: Tensor | None = None) -> Tensor:
    """Where a random permutation of 0 .. n-1 puts ``index``, without the rest of it ever being made.

    A Feistel network permutes the numbers of as many bits as n - 1 has; what falls on n or beyond goes on. A short
    permutation without tweaks is made after all.

    Args:
        key: Decides the permutation.
        n: How many numbers are permuted, less than 2**31.
        index: int64 numbers below n, one axis.
        tweak: Which of many permutations is meant, for every index. None: all the same.
    """
    if tweak is None and n <= _SHORT:
        return random.permutation(key, n)[index]
    bits = (n - 1).bit_length()
    multipliers = random.bits(key, _ROUNDS) | 1
    tweak = torch.zeros_like(index) if tweak is None else random.fold(key, tweak)
    out = _feistel(multipliers, bits, index, tweak)
    while (outside := (out >= n).nonzero().view(-1)).numel():
        out[outside] = _feistel(multipliers, bits, out[outside], tweak[outside])
    return out


def distinct(key: Tensor, n: int, k: int) -> Tensor:
    """k distinct numbers below n in increasing order, int64, in time and memory that grow with k alone."""
    return permuted(key, n, torch.arange(k, device=key.device)).sort()[0]


def _feistel(multipliers: Tensor, bits: int, index: Tensor, tweak: Tensor) -> Tensor:
    """Each round changes one half by a hash of the other."""
    width = bits // 2
    low_mask, high_mask = (1 << width) - 1, (1 << (bits - width)) - 1
    high, low = index >> width, index & low_mask
    for number, multiplier in enumerate(multipliers):
        if number % 2:
            low = low ^ (_upper(high + tweak + 1, multiplier) & low_mask)
        else:
            high = high ^ (_upper(low + tweak + 1, multiplier) & high_mask)
    return (high << width) | low


def _upper(value: Tensor, multiplier: Tensor) -> Tensor:
    """The upper word of two multiplications with a fold between them, as in splitmix64."""
    product = value * multiplier
    return (product ^ (product >> 32)) * multiplier >> 32


@functools.lru_cache(maxsize=8)
def _sign_table(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The eight signs of every octet, shape (256, 8)."""
    octets = torch.arange(256, device=device)
    return 1 - 2 * ((octets[:, None] >> torch.arange(8, device=device)) & 1).to(dtype)
