"""What operators draw from a key, as whole numbers: signs in bulk, numbers below n, and distinct ones among many."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from fedsep import random

_ROUNDS = 6  # of the Feistel network; 4 are the least for a pseudo-random permutation
_CHUNK = 1 << 16  # signs made at a time; a multiple of the 64 that a draw holds


def signs(key: Tensor, count: int, dtype: torch.dtype, start: int = 0) -> Tensor:
    """``count`` random signs, +1.0 or -1.0: the bits of the key's draws from number ``start``, a multiple of 64."""
    octets = random.bits(key, (count + 63) // 64, start // 64).view(torch.uint8)
    return _sign_table(dtype, key.device).index_select(0, octets.int()).view(-1)[:count]


def flip(x: Tensor, key: Tensor, into: Tensor | None = None) -> Tensor:
    """x times random signs along its last axis, shape (..., d); written to ``into`` where that is given."""
    out = torch.empty_like(x) if into is None else into
    for start in range(0, x.shape[-1], _CHUNK):
        here = slice(start, min(start + _CHUNK, x.shape[-1]))
        torch.mul(x[..., here], signs(key, here.stop - start, x.dtype, start), out=out[..., here])
    return out


def below(draws: Tensor, n: int) -> Tensor:
    """Numbers below n < 2**31 from random int64 draws: the upper word of their product with n, as unsigned."""
    upper, lower = (draws >> 32) & 0xFFFFFFFF, draws & 0xFFFFFFFF
    return (upper * n + ((lower * n) >> 32)) >> 32


def permuted(key: Tensor, n: int, index: Tensor) -> Tensor:
    """Where a random permutation of 0 .. n-1 puts ``index``, without the rest of it ever being made.

    A Feistel network permutes the numbers of as many bits as n - 1 has; what falls on n or beyond goes on.

    Args:
        key: One key, or one for every index.
        n: How many numbers are permuted.
        index: int64 numbers below n, one axis.
    """
    key = key.expand_as(index)
    bits = (n - 1).bit_length()
    out = _feistel(key, bits, index)
    while bool((outside := out >= n).any()):
        out[outside] = _feistel(key[outside], bits, out[outside])
    return out


def distinct(key: Tensor, n: int, k: int) -> Tensor:
    """k distinct numbers below n in increasing order, int64, in time and memory that grow with k alone."""
    return permuted(key, n, torch.arange(k, device=key.device)).sort()[0]


def _feistel(key: Tensor, bits: int, index: Tensor) -> Tensor:
    width = bits // 2
    high, low = index >> width, index & ((1 << width) - 1)
    for number in range(_ROUNDS):
        if number % 2:
            low = low ^ (random.fold(random.fold(key, number), high) & ((1 << width) - 1))
        else:
            high = high ^ (random.fold(random.fold(key, number), low) & ((1 << (bits - width)) - 1))
    return (high << width) | low


@functools.lru_cache(maxsize=8)
def _sign_table(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The eight signs of every octet, shape (256, 8)."""
    octets = torch.arange(256, device=device)
    return 1 - 2 * ((octets[:, None] >> torch.arange(8, device=device)) & 1).to(dtype)
