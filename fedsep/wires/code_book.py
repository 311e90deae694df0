"""The best b-bit code for a normal variable: levels and where the next begins."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

_STEPS = 10  # Newton's method from a good start: rounding is reached after five
_FAR = 40.0  # the normal density is 0 there, in float64


class CodeBook(NamedTuple):
    """Levels, increasing, shape (2**b,), and the bounds half-way between them, shape (2**b - 1,); float64."""

    levels: Tensor
    bounds: Tensor


@functools.cache
def code_book(bits: int) -> CodeBook:
    """The Lloyd-Max quantiser of N(0, 1) with 2**bits levels.

    Lloyd's two conditions (a level is the mean of its cell, a bound lies half-way between two levels) make
    equations for the positive bounds, which Newton's method solves from Panter and Dite's start: bounds at the
    quantiles of a density proportional to the cube root of the normal one. The levels are rounded to float32,
    so that both ends hold the same.

    Source: Lloyd 1957 (IEEE Trans. Inf. Theory 28, 1982); Max 1960; Panter and Dite 1951.
    """
    positive = _cells(_bounds(2 ** (bits - 1))).mean.to(torch.float32).to(torch.float64)
    levels = torch.cat([-positive.flip(0), positive])
    return CodeBook(levels, (levels[1:] + levels[:-1]) / 2)


def _bounds(cells: int) -> Tensor:
    """The bounds between the positive levels, shape (cells - 1,)."""
    quantiles = torch.arange(1, cells, dtype=torch.float64) / cells
    bounds = torch.special.erfinv(quantiles) * math.sqrt(6.0)
    for _ in range(_STEPS if cells > 1 else 0):
        now = _cells(bounds)
        excess = bounds - (now.mean[1:] + now.mean[:-1]) / 2
        bounds = bounds - torch.linalg.solve(_slope(now), excess)
    return bounds


class _Cells(NamedTuple):
    """The cells between 0, the positive bounds and infinity: the mean of N(0, 1) there, and its slope in either end."""

    mean: Tensor
    lower: Tensor
    upper: Tensor


def _cells(bounds: Tensor) -> _Cells:
    ends = torch.cat([bounds.new_zeros(1), bounds, bounds.new_full((1,), _FAR)])
    density = torch.exp(-(ends**2) / 2) / math.sqrt(2 * math.pi)
    beyond = torch.special.erfc(ends / math.sqrt(2.0)) / 2
    mass = beyond[:-1] - beyond[1:]
    mean = (density[:-1] - density[1:]) / mass
    return _Cells(mean, density[:-1] * (mean - ends[:-1]) / mass, density[1:] * (ends[1:] - mean) / mass)


def _slope(cells: _Cells) -> Tensor:
    """The Jacobian of bound - (mean below + mean above) / 2: tridiagonal."""
    own = torch.diag(1 - (cells.upper[:-1] + cells.lower[1:]) / 2)
    return own - torch.diag(cells.lower[1:-1] / 2, -1) - torch.diag(cells.upper[1:-1] / 2, 1)
