"""Rankings of units: all units of each group, the best first; any sub-model can be cut from one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedsep.core import FedSepError

Ranking = dict[str, Tensor]
"""By group: all its units, the best first, int64, shape (n,)."""

_SHORT = 1 << 15
_PARTS = 10**6


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
    return {group: (len(order) - _places(order)).to(default) / len(order) for group, order in ranking.items()}


def _places(order: Tensor) -> Tensor:
    """By unit: its place, 0 for the first."""
    number = torch.arange(len(order), device=order.device)
    return torch.empty_like(number).index_copy(0, order, number)


def renewed(ranking: Ranking, keep: Mapping[str, Tensor], held: Ranking) -> Ranking:
    """The units that a client holds first, in the order of its ranking of these, then the others as they were."""

    def each(order: Tensor, units: Tensor, best: Tensor) -> Tensor:
        return torch.cat([units[best], order[~torch.isin(order, units)]])

    return {group: each(order, keep[group], held[group]) for group, order in ranking.items()}


def in_common(ranking: Ranking, weight: float) -> Ranking:
    """A ranking drawn to the order of the units' numbers, which is the same for all clients.

    A unit is ranked by the mean of its places in both, of equals the one with the lower number. With random rankings of
    32 units, the first quarter of what comes out has .25, .59, .84 and .94 of the first quarter of the units at weights
    of 0, 1/2, 3/4 and 7/8.

    Args:
        ranking: One's own.
        weight: Of the numbers, in millionths: integers, so that both ends agree on every machine. 0: the ranking as it
            is; 1: the numbers.
    """
    theirs = round(weight * _PARTS)

    def each(order: Tensor) -> Tensor:
        number = torch.arange(len(order), device=order.device)
        return torch.sort((_PARTS - theirs) * _places(order) + theirs * number, stable=True).indices

    return {group: each(order) for group, order in ranking.items()} if theirs else ranking


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
