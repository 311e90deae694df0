"""Where a method's plan is asked which part of the server's model somebody holds: a client, or whoever is served.

A client's plan may rest on what it last reported, which its context carries, and on what the server keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedsep.core import Algorithm, Ctx, Params, Tree
from fedsep.models.units import Axis, Units
from fedsep.views.submodel import Submodel

Held = dict[str, Tensor]
"""By group: units, int64."""


def cuts(algorithm: Algorithm[Any, Any]) -> bool:
    """Whether clients of different capabilities hold different parts of the server's model."""
    view: Any = getattr(algorithm, "view", None)
    return hasattr(view, "submodel") and getattr(_part(view), "width", None) is None


def narrows(algorithm: Algorithm[Any, Any]) -> bool:
    """Whether the server's model can be served at a share of its units."""
    return hasattr(getattr(algorithm, "view", None), "narrower")


def unfit(algorithm: Algorithm[Any, Any], shares: Sequence[float]) -> list[str]:
    """Why the server's model cannot be served at these shares of its units, whatever clients can hold."""
    view: Any = getattr(algorithm, "view", None)
    if not narrows(algorithm) or not hasattr(view, "mistakes"):
        return []
    part = _part(view)
    if isinstance(part, Submodel):
        plain = replace(part, least=0.0, width=None, budget=None)
        if not hasattr(view, "blocks"):
            every = (plain.mistakes([share], f"a sub-model of {share:g} of the units has") for share in shares)
            return list(dict.fromkeys(text for each in every for text in each))
        view = replace(view, part=plain)
    return list(dict.fromkeys(view.mistakes(shares)))


def units_of(algorithm: Algorithm[Any, Any]) -> Units | None:
    """The table by which the method cuts; None where it does not cut by units, or all clients alike."""
    view: Any = getattr(algorithm, "view", None)
    return _part(view).units if cuts(algorithm) and hasattr(view, "keeps") else None


def rounded_up(algorithm: Algorithm[Any, Any], capabilities: Sequence[float]) -> list[str]:
    """Of which capabilities a client holds more than its share, since no group is left without a unit."""
    table, part = units_of(algorithm), _part(getattr(algorithm, "view", None))
    if table is None or not isinstance(part, Submodel) or part.budget is not None:
        return []
    found: list[str] = []
    for share in sorted(set(capabilities), reverse=True):
        lone = {group: n for group, n in table.sizes.items() if n * share < 1}
        if lone and share >= part.least:
            group, n = min(lone.items(), key=lambda item: item[1])
            found.append(
                f"a client of capability {share:g} keeps one unit where it would have less: of {group} 1 in {n}"
            )
    return found


def trained(algorithm: Algorithm[Any, Any], state: Any, ctx: Ctx, report: Tree) -> Held | None:
    """The units that a client trained in a round; None where it has none, or was too weak to take part.

    Args:
        algorithm: The method.
        state: The server's, before the round.
        ctx: What the client was told.
        report: Its last report after its reply: in rounds in which a client chooses its units, it says which.
    """
    view: Any = getattr(algorithm, "view", None)
    part = _part(view)
    if units_of(algorithm) is None or (hasattr(part, "idle") and part.idle(ctx)):
        return None
    choose: Callable[[Any, Ctx, Tree], Held] | None = getattr(view, "trains", None)
    return view.keeps(state.x, ctx) if choose is None else choose(state.x, ctx, report)


def kept(algorithm: Algorithm[Any, Any], state: Any, ctx: Ctx) -> Held | None:
    """The units that a client holds, by its last report; None where its method does not cut by units."""
    view: Any = getattr(algorithm, "view", None)
    return None if units_of(algorithm) is None else view.keeps(state.x, ctx)


def places(cut: Callable[[Params], Params], params: Params) -> dict[str, Tensor]:
    """For every number of a sub-model, its place in the whole model's tensor of the name, flat.

    Args:
        cut: Makes the sub-model out of any tensors of the whole model's shapes.
        params: The whole model's.
    """
    return cut({name: torch.arange(part.numel()).reshape(part.shape) for name, part in params.items()})


def units_at(table: Units, params: Params, where: dict[str, Tensor]) -> dict[str, list[int]]:
    """By group: the units that a sub-model has, in increasing order, told by the places of its numbers."""
    found: dict[str, list[int]] = {}
    for name, axes in table.axes.items():
        for dim, axis in enumerate(axes):
            if axis is not None and axis.group not in found:
                found[axis.group] = _along(axis, table.sizes[axis.group], params[name], where[name], dim)
    return {group: found[group] for group in table.sizes}


def _along(axis: Axis, n: int, whole: Tensor, where: Tensor, dim: int) -> list[int]:
    after = math.prod(whole.shape[dim + 1 :])
    at = where // after % whole.shape[dim]
    return (at // axis.inner % n).unique().tolist()


def _part(view: Any) -> Any:
    """What cuts, inside a view that adds a plan to it."""
    return getattr(view, "part", view)
