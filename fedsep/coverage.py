"""What is written down of sub-models: which units of the server's were trained, how those of clients overlap."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fedsep.core import Algorithm, Invitation, Tree
from fedsep.holding import Held, trained, units_of

BINS = 64
"""Places of a group at most: neighbours are averaged where there are more units."""

CLIENTS = 400
"""Clients whose units are compared with one another, at most."""


def covered(
    algorithm: Algorithm[Any, Any],
    state: Any,
    cohort: Sequence[Invitation],
    delivered: Collection[int],
    report: Callable[[int], Tree],
) -> dict[str, Any] | None:
    """How many of a round's clients trained each unit: a line of ``submodels.jsonl``, None without sub-models.

    Args:
        algorithm: The method.
        state: The server's, before the round.
        cohort: The round's seats.
        delivered: Clients whose replies were folded.
        report: A client's last report after the round.
    """
    table = units_of(algorithm)
    if table is None:
        return None
    counts = {group: torch.zeros(n, device="cpu") for group, n in table.sizes.items()}
    seats = [seat for seat in cohort if seat.client in delivered]
    found = [trained(algorithm, state, seat.ctx, report(seat.client)) for seat in seats]
    holds = [units for units in found if units is not None]
    for group, index in ((group, index) for units in holds for group, index in units.items()):
        counts[group][index.cpu()] += 1
    told = {group: _binned(part) for group, part in counts.items()}
    return {"clients": len(holds), "units": dict(table.sizes), "trained": told}


def _binned(counts: Tensor) -> list[float]:
    if len(counts) > BINS:
        counts = torch.stack([part.mean() for part in counts.tensor_split(BINS)])
    return [round(value, 2) for value in counts.tolist()]


def overlaps(held: Sequence[tuple[Held, Tensor]], sizes: Mapping[str, int]) -> list[list[float]]:
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
    above = torch.triu_indices(len(held), len(held), 1, device="cpu")
    like, alike = (_shared(each)[above[0], above[1]] for each in (classes, units))
    found: list[list[float]] = []
    for value in like.unique().tolist():
        pairs = alike[like == value]
        found.append([round(value, 4), round(float(pairs.mean()), 4), len(pairs)])
    return found


def _marks(index: Tensor, n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.float64, device="cpu").index_fill(0, index.cpu().long(), 1.0)


def _shared(marks: Tensor) -> Tensor:
    """Members that two sets share over members of either, for all pairs of rows."""
    both, each = marks @ marks.T, marks.sum(1)
    return both / (each[:, None] + each - both)
