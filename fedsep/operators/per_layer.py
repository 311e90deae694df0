"""Block-diagonal operators: every parameter tensor has rows of its own, in proportion to its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import FedSepError, Task
from fedsep.operators.gaussian import gaussian
from fedsep.operators.operator import LinearOperator, MakeOperator, check_shape


@dataclass(frozen=True)
class BlockDiagonal:
    """diag(S_1, ..., S_L), in the order of the vector."""

    blocks: tuple[LinearOperator, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(p, d)."""
        return sum(self._rows), sum(self._columns)

    @property
    def norm(self) -> float:
        """The largest of the blocks' norms or bounds."""
        return max(block.norm for block in self.blocks)

    @property
    def orthonormal(self) -> bool:
        """Where all blocks are."""
        return all(block.orthonormal for block in self.blocks)

    @property
    def scale(self) -> float:
        """The blocks' mean, weighted by their rows."""
        weighted = [rows * block.scale for rows, block in zip(self._rows, self.blocks, strict=True)]
        return sum(weighted) / sum(self._rows)

    def mv(self, v: Tensor) -> Tensor:
        """S v."""
        parts = zip(self.blocks, v.split(self._columns, -1), strict=True)
        return torch.cat([block.mv(part) for block, part in parts], -1)

    def rmv(self, x: Tensor) -> Tensor:
        """S^T x."""
        parts = zip(self.blocks, x.split(self._rows, -1), strict=True)
        return torch.cat([block.rmv(part) for block, part in parts], -1)

    def solve(self, x: Tensor) -> Tensor:
        """(S S^T)^-1 x, block by block."""
        parts = zip(self.blocks, x.split(self._rows, -1), strict=True)
        return torch.cat([block.solve(part) for block, part in parts], -1)

    @property
    def _rows(self) -> list[int]:
        return [block.shape[0] for block in self.blocks]

    @property
    def _columns(self) -> list[int]:
        return [block.shape[1] for block in self.blocks]


def per_layer(task: Task, *, operator: MakeOperator = gaussian) -> MakeOperator:
    """A factory of one operator for each of the model's tensors, with a key of its own.

    A tensor of d_l numbers gets about p d_l / d rows, at least one: E S^T S is p/d I but for that rounding.

    Args:
        task: The local problem, of which the sizes of the parameter tensors are taken.
        operator: Makes each block from its rows, columns and key.
    """
    sizes = [part.numel() for part in task.init().values()]

    def make(p: int, d: int, key: Tensor) -> BlockDiagonal:
        check_shape(p, d)
        if d != sum(sizes):
            raise FedSepError(f"per_layer: the tensors have {sum(sizes)} numbers, the vector {d}")
        shares = enumerate(zip(shared_out(p, sizes), sizes, strict=True))
        return BlockDiagonal(tuple(operator(rows, size, random.fold(key, i)) for i, (rows, size) in shares))

    return make


def shared_out(p: int, sizes: Sequence[int]) -> list[int]:
    """p rows over tensors of these sizes: their shares rounded down, at least one; the rest where most is lacking.

    Raises:
        FedSepError: There are fewer rows than tensors: some would never learn.
    """
    if p < len(sizes):
        raise FedSepError(f"p must be at least {len(sizes)} with a row for each of the model's tensors (got {p})")
    shares = [p * size / sum(sizes) for size in sizes]
    rows = [max(1, int(share)) for share in shares]
    while sum(rows) != p:
        step = 1 if sum(rows) < p else -1
        able = [i for i in range(len(sizes)) if 1 <= rows[i] + step <= sizes[i]]
        rows[max(able, key=lambda i: step * (shares[i] - rows[i]))] += step
    return rows
