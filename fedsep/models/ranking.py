"""Rankings of units: all units of each group, the best first; any sub-model can be cut from one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedsep.core import FedSepError

Ranking = dict[str, Tensor]
"""By group: all its units, the best first, int64, shape (n,)."""

_SHORT = 1 << 15


def ranked(scores: Mapping[str, Tensor]) -> Ranking:
    """The units in the order of their scores, the largest first; of equals the one with the lower number."""
    return {group: _order(part) for group, part in scores.items()}


def finite(scores: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A client's scores as they are.

    Raises:
        FedSepError: Some are not finite: their order would say nothing, and the best units would be the first ones.
    """
    for group, part in scores.items():
        if not bool(part.isfinite().all()):
            raise FedSepError(f"the scores of the units of group {group!r} must be finite (got nan or inf)")
    return scores


def _order(scores: Tensor) -> Tensor:
    return torch.sort(scores, descending=True, stable=True).indices


def natural(sizes: Mapping[str, int]) -> Ranking:
    """The units in the order of their numbers."""
    return {group: torch.arange(n) for group, n in sizes.items()}


def chosen(ranking: Tensor, count: int, rolling: float, round: int) -> Tensor:
    """Exactly ``count`` units in increasing order: the best, and a share ``rolling`` of them from a window on the rest.

    The window has r = floor(rolling count) units: those at (round + i) mod m, i < r, of the m that are not among the
    best count - r, in the order of their numbers. With ``rolling`` 1 this is FedRolex's window.
    """
    moving = int(rolling * count + 1e-9)
    rest = ranking[count - moving :].sort().values
    window = rest[(round + torch.arange(moving, device=rest.device)) % len(rest)]
    return torch.cat([ranking[: count - moving], window]).sort().values


def places(ranking: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By group and unit: 1 for the first, 1/n for the last."""
    default = torch.get_default_dtype()

    def each(order: Tensor) -> Tensor:
        n = len(order)
        falling = torch.arange(n, 0, -1, dtype=default, device=order.device) / n
        return torch.zeros_like(falling).index_copy(0, order, falling)

    return {group: each(order) for group, order in ranking.items()}


def renewed(ranking: Ranking, keep: Mapping[str, Tensor], scores: Mapping[str, Tensor]) -> Ranking:
    """The scored units first, in the order of their scores, then the others as they were."""

    def each(order: Tensor, held: Tensor, score: Tensor) -> Tensor:
        best = held[_order(score)]
        return torch.cat([best, order[~torch.isin(order, held)]])

    return {group: each(order, keep[group], scores[group]) for group, order in ranking.items()}


def in_common(scores: Mapping[str, Tensor], share: float) -> Mapping[str, Tensor]:
    """Scores that follow the units' numbers, the same for all clients, by a share, and one's own scores by the rest.

    By each a unit has a place, 0 for the first. Units are scored by the mean of both, with the share as its weight.

    Args:
        scores: By group: a number for each unit, larger where it shall rather be kept.
        share: 0: the scores as they are; 1: the order of the numbers.
    """
    if not share:
        return scores

    def each(part: Tensor) -> Tensor:
        # In float64 a share such as 1/2 or 3/4 is exact, so that equals are equal on every device.
        number = torch.arange(len(part), dtype=torch.float64, device=part.device)
        own = torch.empty_like(number).index_copy(0, _order(part), number)
        return -torch.lerp(own, number, share)

    return {group: each(part) for group, part in scores.items()}


def shortened(units: Mapping[str, Tensor], sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """As they travel: two bytes a unit, four in groups of more than 32,768."""
    return {group: part.to(torch.int16 if sizes[group] <= _SHORT else torch.int32) for group, part in units.items()}


def read_ranking(sent: Mapping[str, Tensor], sizes: Mapping[str, int]) -> Ranking:
    """A ranking as it travelled, its groups in the order of ``sizes``.

    Raises:
        FedSepError: It does not have every unit of a group once.
    """
    ranking = {group: sent[group].to(torch.int64) for group in sizes}
    for group, n in sizes.items():
        order = ranking[group]
        if not torch.equal(order.sort().values, torch.arange(n, device=order.device)):
            raise FedSepError(f"the ranking of group {group} does not have each of its {n} units once")
    return ranking
