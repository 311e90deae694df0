"""Subsampled randomised Hadamard transform of the whole vector, padded to a power of two."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsep import random
from fedsep.operators.cg import solve_gram
from fedsep.operators.differentiable import linear
from fedsep.operators.drawing import distinct, flip
from fedsep.operators.hadamard import transform
from fedsep.operators.operator import check_shape
from fedsep.operators.remember import remembered

_SIGNS, _ROWS = 0, 1  # what the key is folded with


@dataclass(frozen=True)
class SRHT:
    """See ``srht``; ``rows`` are those kept of the padded transform, int64, shape (p,)."""

    d: int
    rows: Tensor
    key: Tensor

    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """(p, d)."""
        return self.rows.numel(), self.d

    @property
    def norm(self) -> float:
        """sqrt(n / d), n the padded length: an upper bound of |S|, which it nearly is."""
        return (self._length / self.d) ** 0.5

    @property
    def orthonormal(self) -> bool:
        """Only where d is a power of two, so that nothing is padded."""
        return self._length == self.d

    def mv(self, v: Tensor) -> Tensor:
        """S v."""
        return linear(v, self._forward, self._transpose)

    def rmv(self, x: Tensor) -> Tensor:
        """S^T x."""
        return linear(x, self._transpose, self._forward)

    def solve(self, x: Tensor) -> Tensor:
        """(S S^T)^-1 x, by conjugate gradients where the vector is padded."""
        return x if self.orthonormal else solve_gram(self, x)

    @property
    def _length(self) -> int:
        return 1 << (self.d - 1).bit_length()

    def _forward(self, v: Tensor) -> Tensor:
        padded = v.new_empty(*v.shape[:-1], self._length)
        padded[..., self.d :] = 0
        flip(v, random.fold(self.key, _SIGNS), into=padded)
        return transform(padded)[..., self.rows] * self.norm

    def _transpose(self, x: Tensor) -> Tensor:
        padded = x.new_zeros(*x.shape[:-1], self._length)
        padded[..., self.rows] = x * self.norm
        y = transform(padded)[..., : self.d]
        return flip(y, random.fold(self.key, _SIGNS))


@remembered
def srht(p: int, d: int, key: Tensor) -> SRHT:
    """sqrt(n/d) R H D: random signs D, padding to n = 2^k, Hadamard's H and p of its n rows at random, R.

    Rows have norm 1 and E S^T S = p/d I, but S S^T = I only where d is a power of two: padding cuts the rows
    of H, and what is left of them is not orthogonal. ``block_srht`` needs no padding.

    Args:
        p: Rows, at most d.
        d: Columns.
        key: Both ends draw the same S from equal keys.

    Memory:
        8 p bytes; a product takes n floats for the while.

    Raises:
        FedSepError: p > d.

    Reference:
        Ailon and Chazelle 2009; Tropp 2011, arXiv:1011.1595.
    """
    check_shape(p, d)
    return SRHT(d, distinct(random.fold(key, _ROWS), 1 << (d - 1).bit_length(), p), key)
