"""One nonzero in every column: what sparse signs and count sketches are stacked from.

Columns are hashed to *cells* by rotation, so that a product reads and adds whole stretches of memory: every block of
as many columns as there are cells is laid on them, rotated by a random shift. Then the cells go to the rows, every
group of as many cells as there are rows in an order of its own. So two columns meet in a row with a probability of
1 / rows at most, and no row gets more than two columns more than another.

Where there are many blocks the cells are laid out twice, one copy after the other, so that a rotated block is one
stretch and not two: half the calls, each long enough for several threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fedsep import random
from fedsep.operators.drawing import PIECE, below, sign_pieces, signs

_SIGNS, _SHIFTS, _CELLS, _OFFSET = range(4)  # what the key is folded with
_CELLS_IN_CACHE = 1 << 16
_TWICE = 4  # blocks from which on the cells are laid out twice
_STORED = 1 << 22  # up to so many columns the signs are kept, 4 d bytes: making them takes longer than using them


class Stretch(NamedTuple):
    """Columns and the cells they are added to, without a break; ``begin`` counts columns from the offset on."""

    begin: int
    column: int
    cell: int
    length: int


@dataclass(frozen=True)
class Hashing:
    """See ``hashing``.

    Attributes:
        d: Columns.
        rows: Rows.
        cells: A multiple of the rows.
        order: The cells, int64, those of row i at i, rows + i, 2 rows + i, ...; None: cell i is row i.
        row: The row of every cell, int64, or None.
        copies: Of the cells, one or two, after one another.
        stretches: From columns to cells.
        key: Of the signs.
        signs: Those of every stretch, or None where they are made anew in every product.
    """

    d: int
    rows: int
    cells: int
    order: Tensor | None
    row: Tensor | None
    copies: int
    stretches: tuple[Stretch, ...]
    key: Tensor
    signs: tuple[Tensor, ...] | None

    def add(self, v: Tensor) -> Tensor:
        """Every column's entry under its sign, added up row by row: shape (..., d) -> (..., rows)."""
        cells = v.new_zeros(*v.shape[:-1], self.copies * self.cells)
        for at, flips in self._signed(v):
            cells.narrow(-1, at.cell, at.length).addcmul_(v.narrow(-1, at.column, at.length), flips)
        cells = self._folded(cells)
        if self.order is None:
            return cells
        return cells.index_select(-1, self.order).unflatten(-1, (-1, self.rows)).sum(-2)

    def spread(self, x: Tensor) -> Tensor:
        """The transpose: every row's entry under each of its columns' signs, shape (..., rows) -> (..., d)."""
        cells = x if self.row is None else x.index_select(-1, self.row)  # to write by ``order`` takes 4 times as long
        cells = cells if self.copies == 1 else torch.cat([cells, cells], -1)
        y = x.new_empty(*x.shape[:-1], self.d)
        for at, flips in self._signed(x):
            torch.mul(cells.narrow(-1, at.cell, at.length), flips, out=y.narrow(-1, at.column, at.length))
        return y

    def counts(self) -> Tensor:
        """How many columns each row has, int64, shape (rows,)."""
        cells = torch.zeros(self.copies * self.cells, dtype=torch.int64, device=self.key.device)
        for at in self.stretches:
            cells[at.cell : at.cell + at.length] += 1
        cells = self._folded(cells)
        return cells if self.order is None else cells[self.order].view(-1, self.rows).sum(0)

    def _folded(self, cells: Tensor) -> Tensor:
        """Both copies of the cells added up."""
        return cells if self.copies == 1 else cells[..., : self.cells] + cells[..., self.cells :]

    def _signed(self, like: Tensor) -> Iterator[tuple[Stretch, Tensor]]:
        """The stretches with their signs."""
        if self.signs is None:
            return self._drawn(like)
        flips = self.signs if self.signs[0].dtype == like.dtype else [part.to(like.dtype) for part in self.signs]
        return zip(self.stretches, flips, strict=True)

    def _drawn(self, like: Tensor) -> Iterator[tuple[Stretch, Tensor]]:
        pieces = sign_pieces(self.key, self.d, like.dtype)
        piece, flips = next(pieces)
        for at in self.stretches:
            if at.begin >= piece.stop:
                piece, flips = next(pieces)
            yield at, flips.narrow(0, at.begin - piece.start, at.length)


def hashing(rows: int, d: int, key: Tensor) -> Hashing:
    """Hashes d columns to rows; there may be more rows than columns."""
    cells = rows * max(1, min(d, _CELLS_IN_CACHE) // rows)
    order = _order(random.fold(key, _CELLS), cells // rows, rows) if cells > rows else None
    shifts = below(random.bits(random.fold(key, _SHIFTS), -(-d // cells)), cells).tolist()
    offset = int(below(random.bits(random.fold(key, _OFFSET), 1), d))
    flips, piece = random.fold(key, _SIGNS), d if d <= _STORED else PIECE
    copies = 2 if order is not None and d >= _TWICE * cells else 1
    stretches = tuple(_stretches(d, cells, shifts, offset, piece, around=copies == 1))
    stored = signs(flips, d, torch.get_default_dtype()).split([at.length for at in stretches]) if piece == d else None
    row = None if order is None else order.argsort() % rows
    return Hashing(d, rows, cells, order, row, copies, stretches, flips, stored)


def _order(key: Tensor, groups: int, rows: int) -> Tensor:
    """The rows' cells in every group: the group's own, shuffled."""
    within = random.bits(key, groups * rows).view(groups, rows).argsort(-1)
    return (within + rows * torch.arange(groups, device=key.device)[:, None]).view(-1)


def _stretches(d: int, cells: int, shifts: list[int], offset: int, piece: int, *, around: bool) -> Iterator[Stretch]:
    """Broken where a block ends, where its cells begin anew (if ``around``), at column d, and where signs end."""
    blocks = range(0, d, cells)
    anew = [start + cells - shift for start, shift in zip(blocks, shifts, strict=True)] if around else []
    breaks = sorted({*blocks, *anew, *range(0, d, piece), d - offset, d})
    for begin, end in itertools.pairwise(breaks):
        if begin < d:
            cell = begin % cells + shifts[begin // cells]
            yield Stretch(begin, (begin + offset) % d, cell % cells if around else cell, min(end, d) - begin)
