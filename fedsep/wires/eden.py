"""Few bits a coordinate of the whole model, after a random rotation."""

from __future__ import annotations

from typing import Any

from fedsep.core import Wire
from fedsep.ranges import Fraction, checked
from fedsep.wires.lloyd_max import Bits, LloydMax
from fedsep.wires.random_k import RandomK
from fedsep.wires.rotated import Rotated
from fedsep.wires.scales import ScaleBits


@checked
def eden(*, bits: Bits = 1, fraction: Fraction = 1.0, scale_bits: ScaleBits = 32) -> Rotated:
    """R^T of the Lloyd-Max code of R v, with the scale |v|^2 / <R v, q>; at one bit this is DRIVE.

    What is read is unbiased over uniformly random rotations, and nearly so over those used here, which are
    cheap: signs and Walsh-Hadamard transforms. The squared error is 1 / (1 - D) - 1 of |v|^2, D being the
    distortion of the code book for normal coordinates: pi / 2 - 1 at one bit. Needs no error feedback.

    Args:
        bits: Bits of a coordinate, 1 to 8.
        fraction: Part of the rotated coordinates that is sent, chosen from the key: fewer than one bit a coordinate.
        scale_bits: Of the message's scale, 32 or 8.

    Bytes:
        ceil(ceil(fraction * n) * bits / 8) + scale_bits / 8

    Reference:
        Vargaftik et al. 2022, arXiv:2108.08842 (EDEN), and 2021, arXiv:2105.08339 (DRIVE). They pad to a power
        of two and rotate once; here nothing is padded, see ``rotated``.
    """
    code: Wire[Any] = LloydMax(bits, "unbiased", scale_bits)
    return Rotated(code if fraction == 1.0 else RandomK(fraction=fraction, values=code, unbiased=True))
