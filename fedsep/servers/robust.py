"""Reductions that a few wrong clients cannot move far: coordinate median, trimmed mean, clipped norms.

Every client counts once, whatever its weight: a hostile one would claim the largest. Where clients hold parts of x,
a coordinate is reduced over those that hold it, and is 0 where nobody does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import Tree, Update
from fedsep.ranges import Count, Positive, checked
from fedsep.servers.reduce import Reduce, mean


@dataclass(frozen=True)
class CoordinateMedian:
    """See ``coordinate_median``."""

    def __call__(self, updates: Iterable[Update]) -> Tree | None:
        """The median of each coordinate; None if there were no updates."""
        columns: list[list[Tensor]] = []
        structure = None
        for update in updates:
            held, structure = _held(update)
            columns = columns or [[] for _ in held]
            for column, part in zip(columns, held, strict=True):
                column.append(part)
        if structure is None:
            return None
        return tree.unflatten([_median(column) for column in columns], structure)  # type: ignore[arg-type]


@checked
def coordinate_median() -> CoordinateMedian:
    """The median of every coordinate over the clients: fewer than half of them cannot take it out of the others' range.

    With an even number it is the mean of the two in the middle.

    Memory:
        Server: every reply of the round, the cohort times x: nothing can be forgotten before the last has come.

    Reference:
        Yin et al. 2018, arXiv:1803.01498.
    """
    return CoordinateMedian()


class _Kept(NamedTuple):
    """What is known of a tensor after some clients.

    Attributes:
        rows: The ``trim`` smallest and the ``trim`` largest values of each coordinate, sorted; NaN: none yet.
        total: The sum of the others.
        holders: How many clients hold each coordinate.
    """

    rows: Tensor
    total: Tensor
    holders: Tensor


@dataclass(frozen=True)
class TrimmedMean:
    """See ``trimmed_mean``."""

    trim: int = 1

    def __call__(self, updates: Iterable[Update]) -> Tree | None:
        """The mean of what lies between the extremes; None if there were no updates."""
        kept: list[_Kept] = []
        structure = None
        for update in updates:
            held, structure = _held(update)
            kept = kept or [self._nothing(part) for part in held]
            kept = [self._fold(known, part) for known, part in zip(kept, held, strict=True)]
        if structure is None:
            return None
        return tree.unflatten([self._mean(known) for known in kept], structure)  # type: ignore[arg-type]

    def _nothing(self, like: Tensor) -> _Kept:
        rows = like.new_full((2 * self.trim, *like.shape), float("nan"))
        return _Kept(rows, torch.zeros_like(like), torch.zeros_like(like, dtype=torch.int64))

    def _fold(self, known: _Kept, value: Tensor) -> _Kept:
        """The middle one of 2 trim + 1 values is among the extremes no more, whatever is still to come."""
        rows = torch.cat([known.rows, value[None]]).sort(0).values  # what is missing (NaN) comes last
        full = ~rows[-1].isnan()
        total = known.total + rows[self.trim].where(full, 0.0)
        outer = torch.cat([rows[: self.trim], rows[self.trim + 1 :]])
        return _Kept(outer.where(full, rows[:-1]), total, known.holders + ~value.isnan())

    def _mean(self, known: _Kept) -> Tensor:
        left = known.holders - 2 * self.trim
        return (known.total / left.clamp_min(1)).where(left > 0, _middle(known.rows, known.holders))


@checked
def trimmed_mean(*, trim: Count = 1) -> TrimmedMean:
    """The mean of every coordinate without its ``trim`` largest and ``trim`` smallest values.

    As many wrong clients as ``trim`` cannot take it out of the others' range. Where 2 trim clients or fewer hold a
    coordinate, it is their median.

    Args:
        trim: How many values are left out at either end.

    Memory:
        Server: 2 trim + 2 times x, however large the cohort: replies are folded as they come.

    Reference:
        Yin et al. 2018, arXiv:1803.01498, there with a fraction of the cohort.
    """
    return TrimmedMean(trim)


@dataclass(frozen=True)
class NormClipping:
    """See ``norm_clipping``."""

    norm: float
    reduce: Reduce = mean

    def __call__(self, updates: Iterable[Update]) -> Tree | None:
        """The reduction of the shortened changes."""
        return self.reduce(self._clipped(updates))

    def _clipped(self, updates: Iterable[Update]) -> Iterator[Update]:
        for update in updates:
            length = float(tree.norm(update.value))
            short = length <= self.norm
            yield update if short else update._replace(value=tree.scale(update.value, self.norm / length))


@checked
def norm_clipping(norm: Positive, *, reduce: Reduce = mean) -> NormClipping:
    """Shortens every change to a Euclidean norm of at most ``norm``, then reduces: nobody moves x far alone.

    The server's own measure, over all of a change together in the coordinates of x, unlike ``wires.clip``, which
    honest clients apply. To refuse long changes instead, set ``accept.norm``.

    Args:
        norm: The largest norm.
        reduce: What the shortened changes are reduced by.

    Memory:
        Server: that of ``reduce``; replies are clipped as they come.

    Reference:
        Sun et al. 2019, arXiv:1911.07963.
    """
    return NormClipping(norm, reduce)


def _held(update: Update) -> tuple[list[Tensor], object]:
    """A change's tensors, NaN where its client does not hold them, and their structure."""
    values, structure = tree.flatten(update.value)
    if update.cover is None:
        return values, structure
    covers = tree.leaves(update.cover)
    return [v.where(c > 0, float("nan")) for v, c in zip(values, covers, strict=True)], structure


def _median(column: list[Tensor]) -> Tensor:
    rows = torch.stack(column).sort(0).values
    return _middle(rows, (~rows.isnan()).sum(0))


def _middle(rows: Tensor, count: Tensor) -> Tensor:
    """The median of the first ``count`` of sorted rows; 0 where there are none."""
    last = len(rows) - 1
    low, high = ((count - 1) // 2).clamp(0, last), (count // 2).clamp(0, last)
    pair = rows.gather(0, torch.stack([low, high]))
    return pair.mean(0).where(count > 0, 0.0)
