"""Block-diagonal operators: every parameter tensor has rows of its own, in proportion to its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import FedSepError, Task
from fedsep.operators.dct import dct
from fedsep.operators.gaussian import check_bytes, gaussian, known_scale, stored_bytes
from fedsep.operators.operator import LinearOperator, MakeOperator, check_shape
from fedsep.operators.scaled import scaled


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
    return PerLayer(tuple(part.numel() for part in task.init().values()), operator)


@dataclass(frozen=True)
class PerLayer:
    """See ``per_layer``.

    Attributes:
        sizes: Of the tensors.
        operator: Makes each block.
    """

    sizes: tuple[int, ...]
    operator: MakeOperator

    def __call__(self, p: int, d: int, key: Tensor) -> BlockDiagonal:
        """The blocks.

        Raises:
            FedSepError: d is not that of the tensors, or together the blocks would take more than 2 GiB.
        """
        blocks = self._blocks(p, d)
        return BlockDiagonal(
            tuple(self.operator(rows, size, random.fold(key, i)) for i, (rows, size) in enumerate(blocks))
        )

    def stored(self, p: int, d: int) -> int:
        """Bytes of all blocks, where they are stored."""
        shares = zip(shared_out(p, self.sizes), self.sizes, strict=True)
        return sum(stored_bytes(self.operator, rows, size) for rows, size in shares)

    def scale(self, p: int, d: int, key: Tensor) -> float:
        """That of the blocks, without making them where it is known."""
        blocks = self._blocks(p, d)
        known = [known_scale(self.operator, rows, size) for rows, size in blocks]
        scales = [each for each in known if each is not None]
        if len(scales) < len(blocks):
            return self(p, d, key).scale
        return sum(rows * each for (rows, _), each in zip(blocks, scales, strict=True)) / p

    def _blocks(self, p: int, d: int) -> list[tuple[int, int]]:
        """Rows and columns of each, if they can be made."""
        check_shape(p, d)
        if d != sum(self.sizes):
            raise FedSepError(f"per_layer: the tensors have {sum(self.sizes)} numbers, the vector {d}")
        check_bytes(self.stored(p, d), f"per_layer: {p} stored rows in {len(self.sizes)} blocks take")
        return list(zip(shared_out(p, self.sizes), self.sizes, strict=True))


def scale_of(operator: MakeOperator, p: int, d: int, key: Tensor) -> float:
    """c of what a factory would make: what is stored tells it without being made.

    Raises:
        FedSepError: It cannot be made.
    """
    if isinstance(operator, PerLayer):
        return operator.scale(p, d, key)
    known = known_scale(operator, p, d)
    if known is None:
        return operator(p, d, key).scale
    check_bytes(stored_bytes(operator, p, d), f"a stored {p} x {d} matrix takes")
    return known


def stand_in(operator: MakeOperator, p: int, d: int, key: Tensor) -> MakeOperator:
    """Makes an operator of the same shape and scale without a factorisation, for a check.

    That is the operator itself where nothing is stored: a DCT of 10^8 numbers takes minutes and 7 GB.
    """
    if not matrix_bytes(operator, p, d):
        return operator
    return scaled(factor=scale_of(operator, p, d, key) ** 0.5, operator=dct)


def matrix_bytes(operator: MakeOperator, p: int, d: int) -> int:
    """Bytes of the matrices that a factory would store, as far as it is known."""
    return operator.stored(p, d) if isinstance(operator, PerLayer) else stored_bytes(operator, p, d)


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
