"""A few bits a coordinate, with the levels that are best for normally distributed coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from fedsep.core import Ctx, Payload, Tree
from fedsep.ranges import Range, checked
from fedsep.wires import bits as packing
from fedsep.wires.code_book import code_book
from fedsep.wires.message import layout_of, vector_of
from fedsep.wires.promises import Contraction, Lossy
from fedsep.wires.scales import BYTE_ERROR, ScaleBits, pack_scale, read_scale

Bits = Annotated[int, Range(ge=1, le=8)]
ScaleRule = Literal["least_squares", "unbiased"]


@dataclass(frozen=True)
class LloydMax:
    """See ``lloyd_max``."""

    bits: int
    scale: ScaleRule = "least_squares"
    scale_bits: ScaleBits = 32

    def init(self, like: Tree) -> tuple[()]:
        """Nothing is remembered."""
        layout_of(self, like)
        return ()

    def pack(self, tree: Tree, memory: tuple[()], ctx: Ctx) -> tuple[Payload, tuple[()]]:
        """The codes of all coordinates, and one scale."""
        vector, _ = vector_of(self, tree)
        codes = encode(vector, self.bits)
        levels = _levels(codes, self.bits, vector.dtype)
        along = vector @ levels
        square = levels @ levels if self.scale == "least_squares" else vector @ vector
        scale = along / square if self.scale == "least_squares" else square / along
        scale = torch.where(along > 0, scale, 0.0)  # a message of zeros: 0, not 0 / 0
        return {"codes": packing.pack(codes, self.bits), "scale": pack_scale(scale, self.scale_bits)}, memory

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """The scale times the levels."""
        layout = layout_of(self, like)
        codes = packing.unpack(payload["codes"], self.bits, layout.size)
        scale = read_scale(payload["scale"], layout.dtype)
        return layout.unravel(_levels(codes, self.bits, layout.dtype).mul_(scale))

    def promise(self, size: int) -> Contraction | Lossy:
        """With the scale of least squares, 1 - delta = sin^2 of the angle to the levels, and delta >= 1/n.

        For the levels have the signs and the order of the coordinates (Chebyshev's sum inequality). Scales in
        one byte cost a factor 1 - e^2, e their relative error, inside their range.
        """
        if self.scale == "unbiased":
            return Lossy()
        error = BYTE_ERROR if self.scale_bits == 8 else 2.0**-24
        return Contraction((1 - error**2) / max(size, 1))


@checked
def lloyd_max(*, bits: Bits = 1, scale: ScaleRule = "least_squares", scale_bits: ScaleBits = 32) -> LloydMax:
    """Each coordinate as one of 2**bits levels, best for normal coordinates; one scale for the whole message.

    The levels are those of the Lloyd-Max quantiser of N(0, 1), stretched to the root mean square of the
    message; at one bit this is the scaled sign. Made for coordinates that are sums of many terms: a sketch, or a
    rotated vector (``eden``). Use it with error feedback.

    Args:
        bits: Bits of a coordinate, 1 to 8.
        scale: ``least_squares`` makes the error smallest; ``unbiased`` makes the projection of what is read on
            what was sent equal to it, |v|^2 / <v, q>, which is unbiased over random rotations.
        scale_bits: 32 sends the scale in float32; 8 sends its logarithm in one byte, between 2^-32 and 2^16.

    Bytes:
        ceil(n * bits / 8) + scale_bits / 8

    Reference:
        Max 1960; Lloyd 1982; Vargaftik et al. 2022, arXiv:2108.08842 (the unbiased scale).
    """
    return LloydMax(bits, scale, scale_bits)


def encode(vector: Tensor, bits: int) -> Tensor:
    """The code of the level nearest to each coordinate over the root mean square of all, shape (n,)."""
    if bits == 1:
        return vector >= 0
    spread = vector.square().mean().sqrt() if vector.numel() else vector.sum()
    bounds = code_book(bits).bounds.to(vector)
    return torch.bucketize(vector / spread.clamp_min(torch.finfo(vector.dtype).tiny), bounds, out_int32=True)


def _levels(codes: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    levels = code_book(bits).levels.to(device=codes.device, dtype=dtype)
    return levels.index_select(0, codes.to(torch.int32))
