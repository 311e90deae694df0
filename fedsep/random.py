"""Counter-based randomness: stateless, the same integers on every device, usable inside vmap.

A key is an int64 scalar. ``fold`` derives a new key from a key and a number; the draws of a key are
splitmix64 outputs at consecutive counters (Steele, Lea, Flood 2014). Server and client derive equal
masks and sketches from equal keys, for the 8 bytes that the key takes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer
_ALL = (1 << 64) - 1
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(z: Tensor, by: int) -> Tensor:
    """Logical right shift: torch's is arithmetic on signed integers."""
    return (z >> by).bitwise_and_((1 << (64 - by)) - 1)


def _mix(z: Tensor) -> Tensor:
    # In the memory of the first result: long vectors are drawn, and fresh memory costs as much as the arithmetic.
    z = (z ^ _shift(z, 30)).mul_(_MIX1)
    z = z.bitwise_xor_(_shift(z, 27)).mul_(_MIX2)
    return z.bitwise_xor_(_shift(z, 31))


def _mix_number(z: int) -> int:
    """``_mix`` of one number, without the price of a dozen tensors of one number each."""
    z &= _ALL
    z = (z ^ (z >> 30)) * _MIX1 & _ALL
    z = (z ^ (z >> 27)) * _MIX2 & _ALL
    return z ^ (z >> 31)


def _signed(z: int) -> int:
    """64 bits as the number that int64 has for them."""
    return z - (z >> 63 << 64)


def _is_plain(key: Tensor) -> bool:
    """Whether a key's number can be read at no cost: it is on the CPU, and not one of many under vmap."""
    stack = torch._C._functorch.peek_interpreter_stack()  # type: ignore[attr-defined]
    return stack is None and key.is_cpu and key.ndim == 0


def key(seed: int) -> Tensor:
    """The key of a seed, an int64 scalar."""
    return _mix(as_key(seed))


def as_key(number: int) -> Tensor:
    """A key that was written down as a number."""
    return torch.scalar_tensor(number, dtype=torch.int64)  # several times as fast as torch.tensor


def fold(key: Tensor, number: int | Tensor) -> Tensor:
    """A new key from a key and a number; ``number`` may be a tensor of numbers, giving as many keys."""
    if type(number) is int:
        mixed = _mix_number(number + _GOLDEN)
        return as_key(_signed(_mix_number(int(key) ^ mixed))) if _is_plain(key) else _mix(key ^ _signed(mixed))
    number = torch.as_tensor(number, dtype=torch.int64, device=key.device)
    return _mix(key ^ _mix(number + _GOLDEN))


def bits(key: Tensor, count: int, start: int = 0) -> Tensor:
    """``count`` int64 draws whose 64 bits are all random, at counters from ``start``."""
    counter = torch.arange(start + 1, start + count + 1, device=key.device).mul_(_GOLDEN)
    return _mix(counter.add_(key) if _is_plain(key) else key + counter)


def uniform(key: Tensor, *shape: int) -> Tensor:
    """Uniform draws in [0, 1), 24 bits in float32 and 53 in float64 (the default dtype decides)."""
    digits = 53 if torch.get_default_dtype() == torch.float64 else 24
    draws = _shift(bits(key, math.prod(shape)), 64 - digits)
    return draws.to(torch.get_default_dtype()).mul_(2.0**-digits).reshape(shape)


def integers(key: Tensor, below: int, *shape: int) -> Tensor:
    """int64 draws in [0, below), below < 2**31, by multiply-shift of 32 bits."""
    if not 0 < below < 2**31:
        raise ValueError(f"below must be in 1 .. 2**31 - 1 (got {below})")
    return within(bits(key, math.prod(shape)), below).reshape(shape)


def within(draws: Tensor, below: int) -> Tensor:
    """Draws of 64 random bits as int64 in [0, below), below < 2**31, by multiply-shift of the upper 32 bits."""
    return (_shift(draws, 32) * below) >> 32


def normal(key: Tensor, *shape: int, start: int = 0) -> Tensor:
    """Standard normal draws in the default float type: Box-Muller, two from the 64 bits of one counter.

    Draw i depends on the key and on ``start + i // 2`` alone, so a long vector can be made in pieces.
    The integers are the same on every device; the logarithm and cosine may differ in the last bit.
    """
    count = math.prod(shape)
    draws = bits(key, (count + 1) // 2, start)
    dtype = torch.get_default_dtype()
    radius = _shift(draws, 32).to(dtype).add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
    angle = (draws & 0xFFFFFFFF).to(dtype).mul_(2 * math.pi * 2.0**-32)
    pairs = torch.stack([radius * angle.cos(), radius * angle.sin()], -1)
    return pairs.reshape(-1)[:count].reshape(shape)


def permutation(key: Tensor, n: int) -> Tensor:
    """A random order of 0 .. n-1, int64."""
    return torch.argsort(bits(key, n))


def bernoulli(key: Tensor, n: int, rate: float) -> list[int]:
    """Each number below n with chance ``rate``, one independently of the other, in increasing order; O(rate n) time.

    What is drawn are the gaps between them, which are geometric.
    """
    if rate >= 1:
        return list(range(n))
    chosen, last, start, ahead = list[int](), -1, 0, int(rate * n) + 16
    while last < n:
        uniform = (_shift(bits(key, ahead, start), 11).to(torch.float64) + 0.5) * 2.0**-53
        gaps = (uniform.log() / math.log1p(-rate)).clamp_max(float(n)).to(torch.int64)
        places = (last + (gaps + 1).cumsum(0)).tolist()
        chosen += places
        last, start = places[-1], start + ahead
    return [place for place in chosen if place < n]


def sample(key: Tensor, n: int, k: int) -> list[int]:
    """k distinct numbers below n in increasing order, in O(k) time and memory (Floyd's algorithm)."""
    if k >= n:
        return list(range(n))
    chosen: set[int] = set()
    draws = _shift(bits(key, k), 1).tolist()
    for draw, top in zip(draws, range(n - k, n), strict=True):
        number = draw % (top + 1)
        chosen.add(top if number in chosen else number)
    return sorted(chosen)
