"""A table of units that was written by hand."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from fedsep.core import FedSepError, Params
from fedsep.models.tracing import deriving
from fedsep.models.units import Axes, Axis, Units
from fedsep.tasks.pure import Pure

Declared = Mapping[str, Sequence[str | Axis | None]]
"""By parameter: what each dimension counts."""


def declared(module: nn.Module, example: Tensor, declare: Declared) -> Units:
    """The table of a module; see ``table``.

    Group normalisations are looked up in the module. Outputs are followed back through the forward pass where that can
    be done: a head need not be last in the order of the parameters.
    """
    params = Pure(module).init()
    with torch.no_grad():
        outputs = module(example).shape[-1]
    found = table(params, declare, outputs)
    followed = deriving.outputs(module, example)
    rows = found.outputs if followed is None else _unsliced(followed, found.axes)
    divisors: dict[str, tuple[tuple[int, str], ...]] = {}
    for name, layer in module.named_modules():
        axis = found.axes.get(f"{name}.weight", (None,))[0]
        if isinstance(layer, nn.GroupNorm) and axis is not None:
            divisors[axis.group] = (*divisors.get(axis.group, ()), (layer.num_groups, name))
    return Units(found.sizes, found.axes, rows, divisors)


def table(params: Params, declare: Declared, outputs: int) -> Units:
    """The table of declared groups.

    A dimension that is a multiple of the group's size counts every unit several times in a row, as after flattening
    feature maps; for another layout give an ``Axis``.

    Args:
        params: The model's parameters.
        declare: By parameter: the group of each dimension.
        outputs: Number of the model's outputs; they are taken for those of the layer whose parameters are last.

    Raises:
        FedSepError: An unknown parameter, a wrong number of dimensions, or sizes that do not fit one another.
    """
    sizes = _sizes(params, declare)
    axes = {name: tuple(_axis(name, params[name], dim, counted, sizes) for dim, counted in enumerate(groups))
            for name, groups in declare.items()}  # fmt: skip
    last = list(params)[-2:]
    head = last[0].rpartition(".")[0]
    rows = [name for name in last if name.rpartition(".")[0] == head and params[name].shape[0] == outputs]
    return Units({group: size for group, (size, _) in sizes.items()}, axes, _unsliced(rows, axes))


def _unsliced(names: Iterable[str], axes: Mapping[str, Axes]) -> tuple[str, ...]:
    return tuple(name for name in names if axes.get(name, (None,))[0] is None)


def _sizes(params: Params, declare: Declared) -> dict[str, tuple[int, str]]:
    """Of each group: the smallest number of units that a dimension has, and where."""
    sizes: dict[str, tuple[int, str]] = {}
    for name, groups in declare.items():
        if name not in params:
            meant = "".join(f" (did you mean {near!r}?)" for near in difflib.get_close_matches(name, params, 1))
            raise FedSepError(f"units: declare names {name!r}, which is no parameter{meant}")
        if len(groups) != params[name].dim():
            raise FedSepError(f"units: declare gives {len(groups)} groups for {name}, of shape {_shape(params[name])}")
        for dim, (counted, size) in enumerate(zip(groups, params[name].shape, strict=True)):
            if counted is not None:
                axis = counted if isinstance(counted, Axis) else Axis(counted)
                here = size // (axis.outer * axis.inner), f"dimension {dim} of {name}"
                sizes[axis.group] = min(here, sizes.get(axis.group, here), key=lambda found: found[0])
    if not sizes:
        raise FedSepError("units: declare names no group")
    return sizes


def _axis(
    name: str, part: Tensor, dim: int, counted: str | Axis | None, sizes: Mapping[str, tuple[int, str]]
) -> Axis | None:
    if counted is None:
        return None
    size = part.shape[dim]
    given = counted if isinstance(counted, Axis) else None
    group = given.group if given else str(counted)
    n, where = sizes[group]
    axis = given or Axis(group, 1, size // n)
    if axis.outer * n * axis.inner != size:
        raise FedSepError(
            f"units: dimension {dim} of {name} has {size} places, which does not fit the {n} units of group "
            f"{group!r} ({where})"
        )
    return axis


def _shape(part: Tensor) -> tuple[int, ...]:
    return tuple(part.shape)
