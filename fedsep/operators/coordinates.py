"""p of the d coordinates, chosen at random."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsep.operators.differentiable import linear
from fedsep.operators.drawing import distinct
from fedsep.operators.operator import check_shape
from fedsep.operators.remember import remembered


@dataclass(frozen=True)
class Coordinates:
    """See ``coordinates``; ``chosen`` is int64, increasing, shape (p,)."""

    d: int
    chosen: Tensor

    norm: float = 1.0
    """|S|, exactly."""
    orthonormal: bool = True
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """(p, d)."""
        return self.chosen.numel(), self.d

    def mv(self, v: Tensor) -> Tensor:
        """S v."""
        return v[..., self.chosen]

    def rmv(self, x: Tensor) -> Tensor:
        """S^T x."""
        return linear(x, self._place, self.mv)

    def solve(self, x: Tensor) -> Tensor:
        """x: the rows are orthonormal."""
        return x

    def _place(self, x: Tensor) -> Tensor:
        y = x.new_zeros(*x.shape[:-1], self.d)
        y[..., self.chosen] = x
        return y


@remembered
def coordinates(p: int, d: int, key: Tensor) -> Coordinates:
    """Rows of the identity, p of them at random: S v are p entries of v. E S^T S = p/d I.

    Args:
        p: Rows, at most d.
        d: Columns.
        key: Both ends choose the same coordinates from equal keys.

    Memory:
        8 p bytes.

    Raises:
        FedSepError: p > d.
    """
    check_shape(p, d)
    return Coordinates(d, distinct(key, d, p))
