"""A few equally spaced levels a coordinate, chosen at random so that their mean is right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import Ctx, Payload, Tree
from fedsep.ranges import Count, Range, checked
from fedsep.wires import bits
from fedsep.wires.message import layout_of, vector_of
from fedsep.wires.promises import Unbiased
from fedsep.wires.scales import not_below

_KEY = 7306

Levels = Annotated[int, Range(ge=1, le=127)]


@dataclass(frozen=True)
class QSGD:
    """See ``qsgd``."""

    levels: int = 1
    bucket: int = 512

    def init(self, like: Tree) -> tuple[()]:
        """Nothing is remembered."""
        layout_of(self, like)
        return ()

    def pack(self, tree: Tree, memory: tuple[()], ctx: Ctx) -> tuple[Payload, tuple[()]]:
        """The norms of the buckets, shape (ceil(n / bucket),), and l + s for the level l of each coordinate."""
        vector, _ = vector_of(self, tree)
        norms = not_below(torch.linalg.vector_norm(self._buckets(vector), dim=1))
        unit = vector / self._each(norms, vector).clamp_min(torch.finfo(torch.float32).tiny)
        chance = random.uniform(random.fold(ctx.key, _KEY), vector.numel()).to(vector)
        level = torch.floor(unit * self.levels + chance).clamp(-self.levels, self.levels)
        return {"norms": norms, "codes": bits.pack((level + self.levels).to(torch.uint8), self._width)}, memory

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """Norm times level over s."""
        layout = layout_of(self, like)
        codes = bits.unpack(payload["codes"], self._width, layout.size).to(layout.dtype)
        unit = codes.sub_(self.levels).div_(self.levels)
        return layout.unravel(unit * self._each(payload["norms"], unit))

    def promise(self, size: int) -> Unbiased:
        """omega = min(m / s^2, sqrt(m) / s), m the size of a bucket."""
        m = min(size, self.bucket)
        return Unbiased(min(m / self.levels**2, math.sqrt(m) / self.levels))

    @property
    def _width(self) -> int:
        return (2 * self.levels).bit_length()

    def _buckets(self, vector: Tensor) -> Tensor:
        """Shape (buckets, bucket), the last one filled up with 0."""
        missing = -vector.numel() % self.bucket
        return torch.nn.functional.pad(vector, (0, missing)).reshape(-1, self.bucket)

    def _each(self, norms: Tensor, vector: Tensor) -> Tensor:
        """The norm that belongs to each coordinate."""
        return norms.to(vector.dtype).repeat_interleave(self.bucket)[: vector.numel()]


@checked
def qsgd(levels: Levels = 1, *, bucket: Count = 512) -> QSGD:
    """Levels -s .. s over s, times the norm of the bucket, with E C(u) = u.

    Rounding goes to one of the two levels next to the coordinate, at random. Levels have a fixed width; the
    Elias code of the paper is not built.

    Args:
        levels: s, 1 to 127: 1, 3, 7, 15 use their bits best.
        bucket: Coordinates that share a norm.

    Bytes:
        4 * ceil(n / bucket) + ceil(n * ceil(log2(2 * levels + 1)) / 8)

    Reference:
        Alistarh et al. 2017, arXiv:1610.02132.
    """
    return QSGD(levels, bucket)
