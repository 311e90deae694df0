"""The units of a residual network as public code slices them: every layer by itself."""

from __future__ import annotations

from collections.abc import Mapping

from fedsep.core import Params
from fedsep.models.units import Axes, Axis, Units


def split(table: Units, params: Params) -> Units:
    """The table in which each kernel that adds to a residual stream has units of its own.

    Parameters are gone through in their order. A kernel makes new units; what reads a stream reads those that were made
    last; a kernel that reads other units than the last ones is a shortcut and makes no new ones. Such sub-models add up
    units that do not belong together.

    Args:
        table: With residual streams tied.
        params: The model's parameters, in its order.
    """
    latest: dict[str, str] = {group: group for group in table.sizes}
    made: dict[str, int] = {}
    axes: dict[str, Axes] = {}
    last: str | None = None
    for name in (name for name in params if name in table.axes):
        first, *rest = table.axes[name]
        read = [axis and axis._replace(group=latest[axis.group]) for axis in rest]
        source = next((axis.group for axis in read if axis), None)
        if first is not None and params[name].dim() > 1 and (source is None or last is None or source == last):
            made[first.group] = made.get(first.group, 0) + 1
            if made[first.group] > 1:
                latest[first.group] = f"{first.group} of {name.rpartition('.')[0]}"
            last = latest[first.group]
        axes[name] = (first and first._replace(group=latest[first.group]), *read)
    return Units(_sizes(table, axes), axes, table.outputs, _divisors(table, axes))


def _sizes(table: Units, axes: Mapping[str, Axes]) -> dict[str, int]:
    return {new.group: table.sizes[old.group] for old, new in _pairs(table, axes)}


def _divisors(table: Units, axes: Mapping[str, Axes]) -> dict[str, tuple[tuple[int, str], ...]]:
    return {new.group: table.divisors[old.group] for old, new in _pairs(table, axes) if old.group in table.divisors}


def _pairs(table: Units, axes: Mapping[str, Axes]) -> list[tuple[Axis, Axis]]:
    return [(old, new) for name, each in axes.items() for old, new in zip(table.axes[name], each, strict=True)
            if old is not None and new is not None]  # fmt: skip
