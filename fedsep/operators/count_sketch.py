"""Count sketch: the table from which large entries are read back as medians."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import FedSepError
from fedsep.operators.cg import solve_gram
from fedsep.operators.differentiable import linear
from fedsep.operators.hashing import Hashing, hashing
from fedsep.operators.operator import check_shape
from fedsep.operators.remember import remembered


@dataclass(frozen=True)
class CountSketch:
    """See ``count_sketch``; x = S v is the table of r rows and c cells, row after row."""

    rows: tuple[Hashing, ...]

    orthonormal: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """(r c, d)."""
        return len(self.rows) * self.rows[0].rows, self.rows[0].d

    @property
    def norm(self) -> float:
        """An upper bound of |S|: the root of the rows' largest numbers of columns in a cell, added up."""
        return float(sum(int(row.counts().max()) for row in self.rows)) ** 0.5

    @property
    def scale(self) -> float:
        """d / c."""
        return self.rows[0].d / self.rows[0].rows

    def mv(self, v: Tensor) -> Tensor:
        """S v."""
        return linear(v, self._forward, self._transpose)

    def rmv(self, x: Tensor) -> Tensor:
        """S^T x."""
        return linear(x, self._transpose, self._forward)

    def solve(self, x: Tensor) -> Tensor:
        """(S S^T)^-1 x, by conjugate gradients."""
        return solve_gram(self, x)

    def estimate(self, x: Tensor) -> Tensor:
        """v read back from its table: the median over rows of sign times cell, shape (..., r c) -> (..., d).

        Unbiased; entry j is within O(|v| / sqrt(c)) of v_j but for a chance that falls geometrically with r.
        """
        return torch.stack([row.spread(part) for row, part in self._by_row(x)]).median(0)[0]

    def length(self, x: Tensor) -> Tensor:
        """|v| read back from its table: the root of the median of the rows' sums of squares, shape (...)."""
        return torch.stack([part.square().sum(-1) for _, part in self._by_row(x)]).median(0)[0].sqrt()

    def _forward(self, v: Tensor) -> Tensor:
        return torch.cat([row.add(v) for row in self.rows], -1)

    def _transpose(self, x: Tensor) -> Tensor:
        return torch.stack([row.spread(part) for row, part in self._by_row(x)]).sum(0)

    def _by_row(self, x: Tensor) -> list[tuple[Hashing, Tensor]]:
        return list(zip(self.rows, x.split(self.rows[0].rows, -1), strict=True))


@remembered
def table(rows: int, cells: int, d: int, key: Tensor) -> CountSketch:
    """A count sketch by its rows and cells; there may be more cells than columns.

    Raises:
        FedSepError: ``rows`` is even: the median of an even number of rows is biased, or takes the lower one.
    """
    _check_odd(rows)
    return CountSketch(tuple(hashing(cells, d, random.fold(key, i)) for i in range(rows)))


def count_sketch(p: int, d: int, key: Tensor, *, rows: int = 5) -> CountSketch:
    """S v = (sum of sign_i(j) v_j over the columns j with hash_i(j) = b) for rows i < r and cells b < c, p = r c.

    S S^T is about d/c I. E S^T S = r I: the rows' nonzeros are signs as they are, so that a cell holds a sum.

    Args:
        p: Numbers in the table, at most d, a multiple of ``rows``.
        d: Columns.
        key: Both ends draw the same hashes from equal keys.
        rows: r, odd.

    Memory:
        16 r 2^16 bytes at most, and up to d = 2^22 the signs, 4 r d in float32; beyond that they are made anew in every
        product. An estimate takes r vectors.

    Raises:
        FedSepError: p > d, even rows, or p that rows do not divide.

    Reference:
        Charikar, Chen, Farach-Colton 2002. The hash by rotations is this library's: it is pairwise uniform.
    """
    check_shape(p, d)
    _check_odd(rows)
    if p % rows:
        raise FedSepError(f"p must be a multiple of rows = {rows}, a table of which all rows are equal (got {p})")
    return table(rows, p // rows, d, key)


def _check_odd(rows: int) -> None:
    if rows < 1 or rows % 2 == 0:
        raise FedSepError(f"rows must be odd, since estimates are medians over them (got {rows})")
