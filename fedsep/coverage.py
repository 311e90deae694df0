"""What is written down of sub-models: which units of the server's were trained, how those of clients overlap."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from fedsep.core import Algorithm, Ctx, Invitation

BINS = 64
"""Places of a group at most: neighbours are averaged where there are more units."""

CLIENTS = 400
"""Clients whose units are compared with one another, at most."""


def kept_units(algorithm: Algorithm[Any, Any], ctx: Ctx) -> dict[str, Tensor] | None:
    """By group, the units that a client holds; None where the method's clients hold no sub-models, or all the same."""
    view = _view(algorithm)
    return None if view is None else view.keep(ctx)


def covered(
    algorithm: Algorithm[Any, Any], cohort: Sequence[Invitation], delivered: Collection[int]
) -> dict[str, Any] | None:
    """How many of a round's clients trained each unit: a line of ``submodels.jsonl``, None without sub-models.

    Args:
        algorithm: The method.
        cohort: The round's seats.
        delivered: Clients whose replies were folded.
    """
    view = _view(algorithm)
    if view is None:
        return None
    sizes: dict[str, int] = view.units.sizes
    counts = {group: torch.zeros(n) for group, n in sizes.items()}
    trained = [seat.ctx for seat in cohort if seat.client in delivered and not view.idle(seat.ctx)]
    for ctx in trained:
        for group, index in view.keep(ctx).items():
            counts[group][index.cpu()] += 1
    return {"clients": len(trained), "units": dict(sizes), "trained": {g: _binned(part) for g, part in counts.items()}}


def _view(algorithm: Algorithm[Any, Any]) -> Any | None:
    """The method's view if it cuts sub-models by units, of different widths."""
    view: Any = getattr(algorithm, "view", None)
    return view if hasattr(view, "keep") and getattr(view, "width", None) is None else None


def _binned(counts: Tensor) -> list[float]:
    if len(counts) > BINS:
        counts = torch.stack([part.mean() for part in counts.tensor_split(BINS)])
    return [round(value, 2) for value in counts.tolist()]


def overlaps(held: Sequence[tuple[dict[str, Tensor], Tensor]], sizes: dict[str, int]) -> list[list[float]]:
    """How much the units of two clients overlap, by how much their classes do; both as shares of their union.

    Args:
        held: For each client its units by group, and the classes it has.
        sizes: Units of each group.

    Returns:
        For each similarity of class sets: it, the mean overlap of units, and the number of pairs.
    """
    if len(held) < 2:
        return []
    units = torch.stack([torch.cat([_marks(index, sizes[group]) for group, index in keep.items()]) for keep, _ in held])
    most = max(int(classes.max()) for _, classes in held) + 1
    classes = torch.stack([_marks(own, most) for _, own in held])
    above = torch.triu_indices(len(held), len(held), 1)
    like, alike = (_shared(each)[above[0], above[1]] for each in (classes, units))
    found: list[list[float]] = []
    for value in like.unique().tolist():
        pairs = alike[like == value]
        found.append([round(value, 4), round(float(pairs.mean()), 4), len(pairs)])
    return found


def _marks(index: Tensor, n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.float64).index_fill(0, index.cpu().long(), 1.0)


def _shared(marks: Tensor) -> Tensor:
    """Members that two sets share over members of either, for all pairs of rows."""
    both, each = marks @ marks.T, marks.sum(1)
    return both / (each[:, None] + each - both)
