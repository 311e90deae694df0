"""Three values a coordinate, chosen at random so that their mean is right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import Ctx, Payload, Tree
from fedsep.ranges import Positive, checked
from fedsep.wires import bits
from fedsep.wires.message import layout_of, vector_of
from fedsep.wires.per_tensor import Per, PerTensor
from fedsep.wires.promises import Lossy, Unbiased
from fedsep.wires.scales import not_below

_KEY = 7305


@dataclass(frozen=True)
class Ternary:
    """See ``ternary``."""

    clip: float | None = None

    def init(self, like: Tree) -> tuple[()]:
        """Nothing is remembered."""
        layout_of(self, like)
        return ()

    def pack(self, tree: Tree, memory: tuple[()], ctx: Ctx) -> tuple[Payload, tuple[()]]:
        """The largest magnitude s, and 0, 1 or 2 for 0, +s and -s."""
        vector, _ = vector_of(self, tree)
        vector = self._clipped(vector)
        scale = not_below(vector.abs().max() if vector.numel() else vector.sum())
        chance = random.uniform(random.fold(ctx.key, _KEY), vector.numel()).to(vector)
        codes = (vector.abs() > chance * scale.to(vector.dtype)).to(torch.uint8) * (1 + (vector < 0).to(torch.uint8))
        return {"scale": scale, "codes": bits.pack(codes, 2)}, memory

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """s b sign(u)."""
        layout = layout_of(self, like)
        codes = bits.unpack(payload["codes"], 2, layout.size).to(torch.int8)
        signs = torch.where(codes == 2, -1, codes)
        return layout.unravel(signs.to(layout.dtype).mul_(payload["scale"].to(layout.dtype)))

    def promise(self, size: int) -> Unbiased | Lossy:
        """The variance is s |u|_1 - |u|^2 <= (sqrt(n) - 1)/2 |u|^2, the worst message being (1 + sqrt(n), 1, ..., 1).

        Nothing is promised where coordinates are clipped.
        """
        return Unbiased((math.sqrt(max(size, 1)) - 1) / 2) if self.clip is None else Lossy()

    def _clipped(self, vector: Tensor) -> Tensor:
        if self.clip is None or not vector.numel():
            return vector
        bound = self.clip * vector.std(correction=0)
        return vector.clamp(-bound, bound)


@checked
def ternary(*, clip: Positive | None = None, per: Per = "global") -> Ternary | PerTensor:
    """0 or ± the largest magnitude s, with E C(u) = u: coordinate j is s sign(u_j) with probability |u_j| / s.

    Args:
        clip: Coordinates are first cut to ± ``clip`` standard deviations (2.5 in TernGrad): less noise and some
            bias. None: they are not.
        per: One s for the message (``global``), or one for each tensor.

    Bytes:
        ceil(n / 4) + 4; per tensor, the sum of this over the tensors.

    Reference:
        Wen et al. 2017, arXiv:1705.07878. A scale shared by all workers would need a second exchange: not built.
    """
    return PerTensor(Ternary(clip)) if per == "tensor" else Ternary(clip)
