"""Subsampled Hadamard transform by blocks, without padding: exactly orthonormal rows for every d.

The whole transform Q is orthogonal, a product of orthogonal steps: the entries are spread over the blocks, given
random signs, and every block of n = 4096 is transformed. What is left over, fewer than n entries, is joined with the
last block to a *corner* of n + t entries: its first n are transformed, signs are drawn again, and then its last n are.
S keeps p of Q's d rows, as many of every block as may be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import FedSepError
from fedsep.operators.differentiable import linear
from fedsep.operators.drawing import below, flip, permuted, signs
from fedsep.operators.hadamard import Pairs, butterflies, stages, transform
from fedsep.operators.operator import check_shape
from fedsep.operators.remember import remembered

_SIGNS, _CORNER, _AGAIN, _ORDER, _PHASE, _ROWS, _CORNER_ROWS = range(7)  # what the key is folded with
_TILE = 64  # blocks transformed together: as many as a draw has signs
_TILE_ELSEWHERE = 128 * _TILE  # where a launch costs more than memory does
_SHUFFLED = 1 << 18  # up to so many columns the order is random; it would take 8 d bytes


@dataclass(frozen=True)
class BlockSRHT:
    """See ``block_srht``.

    Attributes:
        d: Columns.
        block: n, a power of two, at most d.
        rows: Rows kept, numbered block by block and within the blocks as chosen, int64, increasing, shape (p,).
        places: Where each lies in its block.
        order: Which entry comes when, int64, shape (d,); None where they are dealt in turn.
        key: Of the signs.
    """

    d: int
    block: int
    rows: Tensor
    places: Tensor
    order: Tensor | None
    key: Tensor

    norm: float = 1.0
    """|S|, exactly."""
    orthonormal: bool = True
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """(p, d)."""
        return self.rows.numel(), self.d

    def mv(self, v: Tensor) -> Tensor:
        """S v."""
        return linear(v, self._forward, self._transpose)

    def rmv(self, x: Tensor) -> Tensor:
        """S^T x."""
        return linear(x, self._transpose, self._forward)

    def solve(self, x: Tensor) -> Tensor:
        """x: the rows are orthonormal."""
        return x

    def _forward(self, v: Tensor) -> Tensor:
        v = v if self.order is None else v.index_select(-1, self.order)
        blocks, corner = self._parts(v)
        x = v.new_empty(*v.shape[:-1], self.rows.numel())
        for columns, kept, flips, buffer, pairs in self._tiles(v):
            torch.mul(blocks[..., columns].movedim(-2, 0), flips, out=buffer)
            butterflies(pairs)
            x[..., kept] = buffer[self._at(columns, kept)].movedim(0, -1)
        x *= self.block**-0.5
        last = self._corner_rows()
        x[..., last] = self._turn(corner)[..., self.places[last]]
        return x

    def _transpose(self, x: Tensor) -> Tensor:
        y, scaled = x.new_empty(*x.shape[:-1], self.d), x * self.block**-0.5
        blocks, corner = self._parts(y)
        for columns, kept, flips, buffer, pairs in self._tiles(x):
            buffer.zero_()[self._at(columns, kept)] = scaled[..., kept].movedim(-1, 0)
            butterflies(pairs)
            torch.mul(buffer, flips, out=blocks[..., columns].movedim(-2, 0))
        last = self._corner_rows()
        corner.zero_()[..., self.places[last]] = x[..., last]
        corner = self._turn_back(corner)
        blocks[..., -1] = corner[..., : self.block]
        y[..., self.d - self._left :] = corner[..., self.block :]
        if self.order is None:
            return y
        return torch.empty_like(y).index_copy_(-1, self.order, y)

    @property
    def _left(self) -> int:
        """t: the entries that fill no block."""
        return self.d % self.block

    @property
    def _corner(self) -> int:
        return self.block + self._left

    def _parts(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The blocks as columns, shape (..., n, d // n), a view, and the corner, shape (..., n + t)."""
        blocks = v[..., : self.d - self._left].unflatten(-1, (self.block, -1))
        return blocks, torch.cat([blocks[..., -1], v[..., self.d - self._left :]], -1)

    def _tiles(self, like: Tensor) -> Iterator[tuple[slice, slice, Tensor, Tensor, Pairs]]:
        """The blocks but the last, some at a time.

        Each time: the blocks, the rows of S that lie in them, their signs, shape (n, ..., blocks), a buffer of
        shape (n, ..., blocks), the same memory every time, and its stages.
        """
        count, batch = self.d // self.block - 1, like.shape[:-1]
        width = max(1, min(count, _width(like)))
        starts = torch.tensor([*range(0, count, width), count], device=self.rows.device) * self.block
        edges = torch.searchsorted(self.rows, starts).tolist()
        flips, buffer, pairs = like.new_empty(0), like.new_empty(0), []
        for number, first in enumerate(range(0, count, width)):
            columns = slice(first, min(first + width, count))
            if columns.stop - first != buffer.shape[-1]:
                flips = like.new_empty(self.block * (columns.stop - first))
                buffer = like.new_empty(self.block, *batch, columns.stop - first)
                pairs = stages(buffer.view(self.block, -1))
            self._draw(flips, columns)
            shaped = flips.view(self.block, *[1] * len(batch), -1)
            yield columns, slice(edges[number], edges[number + 1]), shaped, buffer, pairs

    def _draw(self, flips: Tensor, columns: slice) -> None:
        """The signs of some blocks: those of 64 blocks follow each other row by row, whatever the tile's width."""
        key = random.fold(self.key, _SIGNS)
        if columns.stop - columns.start <= _TILE:
            signs(key, flips.numel(), flips.dtype, columns.start * self.block, into=flips)
            return
        for first in range(0, columns.stop - columns.start, _TILE):
            here = flips.view(self.block, -1)[:, first : first + _TILE]
            start = (columns.start + first) * self.block
            here.copy_(signs(key, here.numel(), flips.dtype, start).view(here.shape))

    def _at(self, columns: slice, kept: slice) -> tuple[Any, ...]:
        """Where some rows of S stand in the tile of their blocks."""
        return self.places[kept], ..., self.rows[kept] // self.block - columns.start

    def _corner_rows(self) -> slice:
        """The rows of S that lie in the corner: the last ones."""
        count = int((self.rows < self.d - self._corner).sum())
        return slice(count, None)

    def _turn(self, corner: Tensor) -> Tensor:
        """The corner's orthogonal step; the order of its rows matters to nobody."""
        mixed = flip(corner, random.fold(self.key, _CORNER))
        mixed[..., : self.block] = transform(mixed[..., : self.block].contiguous())
        if self._left:
            mixed = flip(mixed, random.fold(self.key, _AGAIN))
            mixed[..., self._left :] = transform(mixed[..., self._left :].contiguous())
        return mixed

    def _turn_back(self, mixed: Tensor) -> Tensor:
        """The transpose of ``_turn``."""
        if self._left:
            mixed[..., self._left :] = transform(mixed[..., self._left :].contiguous())
            mixed = flip(mixed, random.fold(self.key, _AGAIN))
        mixed[..., : self.block] = transform(mixed[..., : self.block].contiguous())
        return flip(mixed, random.fold(self.key, _CORNER))


def _width(like: Tensor) -> int:
    """How many blocks are transformed together, a multiple of ``_TILE``."""
    return _TILE if like.device.type == "cpu" else _TILE_ELSEWHERE


@remembered
def block_srht(p: int, d: int, key: Tensor, *, block: int = 4096) -> BlockSRHT:
    """R Q: p rows, spread evenly over the blocks, of a transform Q by Hadamard blocks that is orthogonal for any d.

    The rows are orthonormal with nothing to factorise: a new S costs p draws, and d for the order of up to
    2^18 entries; beyond, they are dealt to the blocks in turn. E S^T S = p/d I. Additions only: the same bits
    on every device.

    Args:
        p: Rows, at most d.
        d: Columns.
        key: Both ends draw the same S from equal keys.
        block: n, a power of two; the largest one up to d where that is smaller.

    Memory:
        16 p bytes, and 8 d up to d = 2^18; a product takes little beside its result.

    Raises:
        FedSepError: p > d, or block is not a power of two.

    Reference:
        Ailon and Chazelle 2009; the corner, which replaces padding, is this library's.
    """
    check_shape(p, d)
    if block < 1 or block & (block - 1):
        raise FedSepError(f"block must be a power of two (got {block})")
    block = min(block, 1 << (d.bit_length() - 1))
    phase = below(random.bits(random.fold(key, _PHASE), 1), d)
    rows = (torch.arange(p, device=key.device) * d + phase) // p
    order = random.permutation(random.fold(key, _ORDER), d) if d <= _SHUFFLED else None
    return BlockSRHT(d, block, rows, _places(rows, d, block, key), order, key)


def _places(rows: Tensor, d: int, block: int, key: Tensor) -> Tensor:
    """Random places within the blocks and the corner, none twice."""
    corner = block + d % block
    inside, beyond = rows[rows < d - corner], rows[rows >= d - corner] - (d - corner)
    tweak = inside // block
    places = permuted(random.fold(key, _ROWS), block, inside % block, tweak)
    return torch.cat([places, permuted(random.fold(key, _CORNER_ROWS), corner, beyond)])
