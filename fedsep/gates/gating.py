"""Gates on units: a in [0, 1] for each, multiplied onto the unit wherever it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep.core import Params
from fedsep.models.tracing.multiplying import Reader
from fedsep.models.units import Axis, Units

Gates = Mapping[str, Tensor]
"""By group: a number in [0, 1] for each unit that there is."""


@dataclass(frozen=True)
class Gating:
    """Multiplies a model's units by gates: x to a * x.

    A unit is gated where convolutions and linear layers read it, so once on every way that its values take, behind
    normalisation and activation. With gates of 0 and 1 the model computes what the sub-model of the units with 1
    computes, whatever the activations are. A unit's own kernels need no gate then: nothing reads them.

    A scaler divides by the share of units that it finds; of gated units there is the share sum(a) / n.

    Attributes:
        units: Which dimensions of the parameters count the same units, of the whole model.
        readers: The dimensions by which units are read.
        scalers: By layer: the group whose units a scaler looks at.
    """

    units: Units
    readers: tuple[Reader, ...]
    scalers: Mapping[str, str]

    def __call__(self, params: Params, gates: Gates) -> Params:
        """The parameters of the gated model, whole or a sub-model, differentiable in both, and what scalers divide by.

        Args:
            params: Its parameters.
            gates: Of all its units; groups that are not named are not gated.
        """
        return {**self.weighted(params, gates), **self.shares(gates)}

    def weighted(self, params: Params, gates: Gates) -> Params:
        """a * x alone: every name is a parameter's."""
        factors = [(name, dim, axis) for name, dim in self.readers
                   if (axis := self.units.axes[name][dim]) is not None and axis.group in gates]  # fmt: skip
        weighted = dict(params)
        for name, dim, axis in factors:
            part = weighted[name]
            weighted[name] = part * _along(gates[axis.group], axis, dim, part.dim()).to(part.dtype)
        return weighted

    def shares(self, gates: Gates) -> Params:
        """By scaler: the share of the layer's units that there is, one unit's at least; derivatives hold it fixed.

        It depends on how many units there are, not on which: all gates of a group move it alike.
        """
        return {f"{layer}.share": gates[group].detach().sum().clamp_min(1.0) / self.units.sizes[group]
                for layer, group in self.scalers.items() if group in gates}  # fmt: skip


def _along(gates: Tensor, axis: Axis, dim: int, dims: int) -> Tensor:
    """One number for each place of a dimension, to be broadcast."""
    each = gates.repeat_interleave(axis.inner).repeat(axis.outer)
    return each.reshape(*(-1 if place == dim else 1 for place in range(dims)))


def hard(gates: Gates) -> dict[str, Tensor]:
    """1 where a gate is at least 1/2, else 0, with the derivative of the gates themselves (straight through)."""
    return {group: part + ((part >= 0.5).to(part.dtype) - part).detach() for group, part in gates.items()}


def spread(keep: Mapping[str, Tensor], sizes: Mapping[str, int], like: Tensor) -> dict[str, Tensor]:
    """Gates of a whole model: 1 for the units that are kept, 0 for the others; all 1 for groups that are not named."""
    found: dict[str, Tensor] = {}
    for group, n in sizes.items():
        ones = like.new_ones(n)
        found[group] = torch.zeros_like(ones).index_fill(0, keep[group].to(like.device), 1.0) if group in keep else ones
    return found
