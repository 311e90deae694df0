"""The one number that goes with a quantised message: how long it is."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

ScaleBits = Literal[8, 32]

LOWEST, HIGHEST = -32.0, 16.0
"""log2 of the smallest and the largest scale that one byte can say."""
_STEP = (HIGHEST - LOWEST) / 254
BYTE_ERROR = 2.0 ** (_STEP / 2) - 1
"""Largest relative error of a scale in one byte, in its range."""


def pack_scale(scale: Tensor, bits: ScaleBits) -> Tensor:
    """A scale >= 0, shape (), as float32, or as one byte: its logarithm in equal steps, and 0 for nothing.

    A scale above the range of the byte is sent as the largest, one below as 0.
    """
    if bits == 32:
        return scale.to(torch.float32)
    steps = torch.round((torch.log2(scale) - LOWEST) / _STEP) + 1
    return steps.nan_to_num(0.0).clamp(0, 255).to(torch.uint8)


def read_scale(packed: Tensor, dtype: torch.dtype) -> Tensor:
    """The scale as the receiver reads it."""
    if packed.dtype != torch.uint8:
        return packed.to(dtype)
    steps = packed.to(dtype)
    return torch.where(steps > 0, torch.exp2(LOWEST + (steps - 1) * _STEP), 0.0)


def not_below(scale: Tensor) -> Tensor:
    """A scale in float32, rounded up: what is divided by it stays at most 1 in magnitude."""
    short = scale.to(torch.float32)
    return torch.where(short.to(scale.dtype) < scale, torch.nextafter(short, short.new_tensor(torch.inf)), short)
