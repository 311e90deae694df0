"""Gaussian noise that nobody can foresee without its secret, and that its secret gives again bit for bit.

``fedsep.random`` will not do: splitmix64 can be run backwards, so one coordinate of which the sum is known to be 0
would tell the key of all the noise. Here the counters go through SHAKE-256 behind a secret of 256 bits.
"""

from __future__ import annotations

import hashlib
import math
import os

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import FedSepError, Tree

SECRET_BYTES = 32

_BLOCK = 1 << 16  # normal draws from one call of the hash: half a megabyte
_BYTES = 8  # of a uniform draw


def new_secret(given: int | None, seed: int = 0) -> bytes:
    """32 bytes from the operating system, or those of two numbers, which are then all there is to know."""
    return os.urandom(SECRET_BYTES) if given is None else hashlib.sha256(b"fedsep %d %d" % (given, seed)).digest()


def number(secret: bytes, purpose: str, counter: int) -> int:
    """63 bits for one purpose and one counter: the seed of something that a round draws once."""
    return int.from_bytes(_stream(secret, purpose, counter, 0, _BYTES), "little") >> 1


def normal(secret: bytes, purpose: str, counter: int, count: int) -> Tensor:
    """Standard normal draws, float64 of shape (count,), on the CPU; other counters and purposes give others.

    Box-Muller on uniform draws of 53 bits: no draw lies beyond 8.6.
    """
    starts = range(0, count, _BLOCK)
    blocks = [_normal_block(_stream(secret, purpose, counter, n, _BYTES * _BLOCK)) for n in range(len(starts))]
    return torch.cat(blocks)[:count] if blocks else torch.zeros(0, dtype=torch.float64)


def normal_like(secret: bytes, purpose: str, counter: int, like: Tree) -> Tree:
    """A tree of draws in the shapes of ``like``, in float64 where its tensors lie; names in their sorted order."""
    parts, restore = tree.ordered(like)
    draws = normal(secret, purpose, counter, tree.size(like)).split([part.numel() for part in parts])
    return restore([draw.reshape(part.shape).to(part.device) for draw, part in zip(draws, parts, strict=True)])


def clipped(change: Tree, clip: float) -> Tree:
    """The change in float64, shortened to a Euclidean norm of at most ``clip`` over all its tensors together.

    Raises:
        FedSepError: It holds something other than floats, which noise cannot cover.
    """
    if any(not part.is_floating_point() for part in tree.leaves(change)):
        raise FedSepError("privacy: a change must be floating point throughout, so that noise can cover all of it")
    wide = tree.map(lambda part: part.to(torch.float64), change)
    length = math.hypot(*(float(torch.linalg.vector_norm(part)) for part in tree.leaves(wide)))
    return tree.scale(wide, clip / length) if length > clip else wide


def _normal_block(data: bytes) -> Tensor:
    draws = torch.frombuffer(bytearray(data), dtype=torch.int64)
    uniform = _uniform(draws)
    radius, angle = (-2 * uniform[::2].log()).sqrt(), 2 * math.pi * uniform[1::2]
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1).reshape(-1)


def _uniform(draws: Tensor) -> Tensor:
    """In (0, 1), from the upper 53 bits of each."""
    return ((draws >> 11 & ((1 << 53) - 1)).to(torch.float64) + 0.5) * 2.0**-53


def _stream(secret: bytes, purpose: str, counter: int, block: int, length: int) -> bytes:
    at = purpose.encode().ljust(16, b"\0") + counter.to_bytes(8, "little", signed=True) + block.to_bytes(8, "little")
    return hashlib.shake_256(secret + at).digest(length)


def derived(secret: bytes, key: int) -> bytes:
    """A secret for one message of one client, whose public ``key`` tells it from the others."""
    return _stream(secret, "message", key, 0, SECRET_BYTES)


def chosen(secret: bytes, purpose: str, counter: int, count: int, rate: float) -> Tensor:
    """The positions below ``count``, each with chance ``rate`` on its own; int64."""
    draws = torch.frombuffer(bytearray(_stream(secret, purpose, counter, 0, _BYTES * count)), dtype=torch.int64)
    return (_uniform(draws) < rate).nonzero()[:, 0]
