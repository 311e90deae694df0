"""One bit a coordinate."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsep.core import Ctx, Payload, Tree
from fedsep.ranges import checked
from fedsep.wires import bits
from fedsep.wires.message import layout_of, vector_of
from fedsep.wires.per_tensor import Per, PerTensor
from fedsep.wires.promises import Contraction
from fedsep.wires.scales import BYTE_ERROR, ScaleBits, pack_scale, read_scale


@dataclass(frozen=True)
class Sign:
    """See ``sign``."""

    scale_bits: ScaleBits = 32

    def init(self, like: Tree) -> tuple[()]:
        """Nothing is remembered."""
        layout_of(self, like)
        return ()

    def pack(self, tree: Tree, memory: tuple[()], ctx: Ctx) -> tuple[Payload, tuple[()]]:
        """The signs, 0 counting as positive, and |u|_1 / n."""
        vector, _ = vector_of(self, tree)
        scale = vector.abs().mean() if vector.numel() else vector.sum()
        return {"scale": pack_scale(scale, self.scale_bits), "signs": bits.pack(vector < 0, 1)}, memory

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """The scale, with the signs."""
        layout = layout_of(self, like)
        negative = bits.unpack(payload["signs"], 1, layout.size)
        return layout.unravel(_signed(read_scale(payload["scale"], layout.dtype), negative))

    def promise(self, size: int) -> Contraction:
        """delta = |u|_1^2 / (n |u|_2^2) >= 1/n, less what rounding the scale costs."""
        error = BYTE_ERROR if self.scale_bits == 8 else 2.0**-24
        return Contraction((1 - error**2) / max(size, 1))


def _signed(scale: Tensor, negative: Tensor) -> Tensor:
    return (1 - 2 * negative.to(scale.dtype)).mul_(scale)


@checked
def sign(*, per: Per = "global", scale_bits: ScaleBits = 32) -> Sign | PerTensor:
    """The sign of each coordinate, and |u|_1 / n as the magnitude of all of them. Use it with error feedback.

    As the ``values`` of ``topk`` this is the code of sparse ternary compression: one magnitude, and a sign for
    each coordinate that is sent.

    Args:
        per: One scale for the message (``global``), or one for each tensor.
        scale_bits: 32 sends the scale in float32; 8 sends its logarithm in one byte, between 2^-32 and 2^16.

    Bytes:
        ceil(n / 8) + scale_bits / 8; per tensor, the sum of this over the tensors.

    Reference:
        Karimireddy et al. 2019, arXiv:1901.09847; Bernstein et al. 2018, arXiv:1802.04434.
    """
    return PerTensor(Sign(scale_bits)) if per == "tensor" else Sign(scale_bits)
