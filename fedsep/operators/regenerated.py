"""A Gaussian matrix that is never stored: its entries are drawn anew, block by block, in every product."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from fedsep import random
from fedsep.operators.cg import solve_gram
from fedsep.operators.differentiable import linear
from fedsep.operators.operator import check_shape

_BLOCK = 1 << 22  # entries drawn at a time


@dataclass(frozen=True)
class Regenerated:
    """See ``regenerated``."""

    p: int
    d: int
    key: Tensor
    block: int

    orthonormal: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """(p, d)."""
        return self.p, self.d

    @property
    def norm(self) -> float:
        """(1 + sqrt(d/p)) + 6 / sqrt(p): an upper bound of |S| but for a chance of 2e-8."""
        return 1 + (self.d / self.p) ** 0.5 + 6 / self.p**0.5

    @property
    def scale(self) -> float:
        """d / p: the entries have variance 1 / p."""
        return self.d / self.p

    def mv(self, v: Tensor) -> Tensor:
        """S v."""
        return linear(v, self._forward, self._transpose)

    def rmv(self, x: Tensor) -> Tensor:
        """S^T x."""
        return linear(x, self._transpose, self._forward)

    def solve(self, x: Tensor) -> Tensor:
        """(S S^T)^-1 x, by conjugate gradients."""
        return solve_gram(self, x)

    def _forward(self, v: Tensor) -> Tensor:
        x = v.new_zeros(*v.shape[:-1], self.p)
        for rows, columns, entries in self._blocks(v):
            x[..., rows] += v[..., columns] @ entries.mT
        return x

    def _transpose(self, x: Tensor) -> Tensor:
        v = x.new_zeros(*x.shape[:-1], self.d)
        for rows, columns, entries in self._blocks(x):
            v[..., columns] += x[..., rows] @ entries
        return v

    def _blocks(self, like: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Whole rows while some fit, else pieces of one row."""
        height, width = max(1, self.block // self.d), min(self.d, self.block)
        for top in range(0, self.p, height):
            rows = slice(top, min(top + height, self.p))
            for left in range(0, self.d, width):
                columns = slice(left, min(left + width, self.d))
                count = (rows.stop - top) * (columns.stop - left)
                entries = _entries(self.key, top * self.d + left, count).view(rows.stop - top, -1)
                yield rows, columns, entries.to(like.dtype) / self.p**0.5


def regenerated(p: int, d: int, key: Tensor, *, block: int = _BLOCK) -> Regenerated:
    """The matrix of ``gaussian(p, d, key, orthonormal=False)``, entries N(0, 1/p), in the memory of one block.

    A product draws p d normal numbers: about 10 ns each. ``block_srht`` and ``sparse_signs`` do without.

    Args:
        p: Rows, at most d.
        d: Columns.
        key: Both ends draw the same S from equal keys, on equal devices bit for bit, else to rounding.
        block: Entries drawn at a time.

    Memory:
        About 40 bytes an entry of a block.

    Raises:
        FedSepError: p > d.
    """
    check_shape(p, d)
    return Regenerated(p, d, key, block)


def _entries(key: Tensor, start: int, count: int) -> Tensor:
    """Numbers ``start`` to ``start + count`` of the key's normal draws, which come in pairs."""
    odd = start % 2
    return random.normal(key, count + odd, start=start // 2)[odd:]
