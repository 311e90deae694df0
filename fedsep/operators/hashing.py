"""One nonzero in every column: what sparse signs and count sketches are stacked from.

Columns are hashed to *cells* by rotation, so that a product reads and adds whole stretches of memory: every block of
as many columns as there are cells is laid on them, rotated by a random shift. Then cells are shared out evenly over
the rows, at random. Two columns meet in a row with probability 1 / rows, never if they lie in one block and one cell
holds one row; every row gets as many columns as any other, or one or two more where nothing divides evenly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep import random
from fedsep.operators.drawing import below, sign_pieces

_SIGNS, _SHIFTS, _CELLS, _OFFSET = range(4)  # what the key is folded with
_CELLS_IN_CACHE = 1 << 16


@dataclass(frozen=True)
class Hashing:
    """See ``hashing``.

    Attributes:
        d: Columns.
        rows: Rows.
        cells: A multiple of the rows.
        order: The cells, those of every row in one column of shape (cells / rows, rows); None: cell i is row i.
        shifts: By how much each block of columns is rotated.
        offset: Column at which the first block begins; the columns before it come last.
        key: Of the signs.
    """

    d: int
    rows: int
    cells: int
    order: Tensor | None
    shifts: tuple[int, ...]
    offset: int
    key: Tensor

    def add(self, v: Tensor) -> Tensor:
        """Every column's entry under its sign, added up row by row: shape (..., d) -> (..., rows)."""
        cells = v.new_zeros(*v.shape[:-1], self.cells)
        for column, cell, flips in self._stretches(v):
            cells[..., cell].addcmul_(v[..., column], flips)
        if self.order is None:
            return cells
        return cells[..., self.order].unflatten(-1, (-1, self.rows)).sum(-2)

    def spread(self, x: Tensor) -> Tensor:
        """The transpose: every row's entry under each of its columns' signs, shape (..., rows) -> (..., d)."""
        cells = x
        if self.order is not None:
            cells = x.new_empty(*x.shape[:-1], self.cells)
            cells[..., self.order] = x.repeat(*[1] * (x.dim() - 1), self.cells // self.rows)
        y = x.new_empty(*x.shape[:-1], self.d)
        for column, cell, flips in self._stretches(x):
            torch.mul(cells[..., cell], flips, out=y[..., column])
        return y

    def counts(self) -> Tensor:
        """How many columns each row has, int64, shape (rows,)."""
        cells = torch.full((self.cells,), self.d // self.cells, device=self.key.device)
        left = self.d % self.cells
        if left:
            cells[:left] += 1
            cells = cells.roll(self.shifts[-1])
        return cells if self.order is None else cells[self.order].view(-1, self.rows).sum(0)

    def _stretches(self, like: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Columns, the cells they are added to, and their signs; each a stretch without a break."""
        breaks = self._breaks()
        following, begin = next(breaks), 0
        for piece, flips in sign_pieces(random.fold(self.key, _SIGNS), self.d, like.dtype):
            while begin < piece.stop:
                end = min(following, piece.stop)
                column = (begin + self.offset) % self.d
                cell = (begin + self.shifts[begin // self.cells]) % self.cells
                signs = flips[begin - piece.start : end - piece.start]
                yield slice(column, column + end - begin), slice(cell, cell + end - begin), signs
                begin = end
                following = next(breaks) if begin == following else following

    def _breaks(self) -> Iterator[int]:
        """Where a stretch must end: with the last column, with a block, and where the cells begin anew."""
        last = self.d - self.offset
        for number, shift in enumerate(self.shifts):
            start = number * self.cells
            ends = {min(start + self.cells - shift, self.d), min(start + self.cells, self.d)}
            yield from sorted(ends | ({last} if start < last <= start + self.cells else set()))
        yield self.d


def hashing(rows: int, d: int, key: Tensor) -> Hashing:
    """Hashes d columns to rows; there may be more rows than columns."""
    cells = rows * max(1, min(d, _CELLS_IN_CACHE) // rows)
    order = random.permutation(random.fold(key, _CELLS), cells) if cells > rows else None
    shifts = below(random.bits(random.fold(key, _SHIFTS), -(-d // cells)), cells)
    offset = below(random.bits(random.fold(key, _OFFSET), 1), d)
    return Hashing(d, rows, cells, order, tuple(shifts.tolist()), int(offset), key)
