"""Sparse signs: s nonzeros in every column, at little more than the cost of reading the vector."""

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
class SparseSigns:
    """See ``sparse_signs``.

    Attributes:
        layers: The rows in s groups, each with one nonzero a column.
        weights: What the nonzeros of each row are multiplied by, float64, shape (p,).
    """

    layers: tuple[Hashing, ...]
    weights: Tensor

    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """(p, d)."""
        return self.weights.numel(), self.layers[0].d

    @property
    def norm(self) -> float:
        """sqrt(s): an upper bound of |S|, exact for s = 1."""
        return len(self.layers) ** 0.5

    @property
    def orthonormal(self) -> bool:
        """With one nonzero a column no two rows share one."""
        return len(self.layers) == 1

    def mv(self, v: Tensor) -> Tensor:
        """S v."""
        return linear(v, self._forward, self._transpose)

    def rmv(self, x: Tensor) -> Tensor:
        """S^T x."""
        return linear(x, self._transpose, self._forward)

    def solve(self, x: Tensor) -> Tensor:
        """(S S^T)^-1 x, by conjugate gradients where s > 1."""
        return x if self.orthonormal else solve_gram(self, x)

    def _forward(self, v: Tensor) -> Tensor:
        return torch.cat([layer.add(v) for layer in self.layers], -1) * self.weights.to(v.dtype)

    def _transpose(self, x: Tensor) -> Tensor:
        parts = (x * self.weights.to(x.dtype)).split([layer.rows for layer in self.layers], -1)
        y = self.layers[0].spread(parts[0])
        for layer, part in zip(self.layers[1:], parts[1:], strict=True):
            y += layer.spread(part)
        return y


@remembered
def sparse_signs(p: int, d: int, key: Tensor, *, nonzeros: int = 1) -> SparseSigns:
    """s random signs in every column, one in each of s groups of rows; rows have norm 1.

    With s = 1 no two rows share a column, so they are orthonormal for every p and d with nothing to
    factorise. With more, S S^T is only about I, and vectors with few large entries are kept better.
    E S^T S = p/d I.

    Args:
        p: Rows, at most d.
        d: Columns.
        key: Both ends draw the same S from equal keys.
        nonzeros: s, at most p.

    Memory:
        16 s 2^16 + 8 p bytes at most, and up to d = 2^22 the signs, 4 s d in float32; beyond that they are made anew,
        piece by piece, in every product.

    Raises:
        FedSepError: p > d, or nonzeros outside of 1 .. p.

    Reference:
        Kane and Nelson 2014, arXiv:1012.1577 (the block form); the hash by rotations is this library's.
    """
    check_shape(p, d)
    if not 1 <= nonzeros <= p:
        raise FedSepError(f"nonzeros must be between 1 and p = {p} (got {nonzeros})")
    sizes = [p * (i + 1) // nonzeros - p * i // nonzeros for i in range(nonzeros)]
    layers = tuple(hashing(size, d, random.fold(key, i)) for i, size in enumerate(sizes))
    return SparseSigns(layers, torch.cat([layer.counts() for layer in layers]).double().rsqrt())
