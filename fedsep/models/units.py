"""Which dimensions of a module's parameters count the same units, so that a narrower sub-model is a slice of tensors.

A unit is a channel or a hidden neuron. Whoever takes a unit out must take it out of every tensor that counts it: the
kernels that make it, its normalisation, the kernels that read it, and all of these again wherever a residual
connection adds it to another layer's unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedsep.core import FedSepError, Params


class Axis(NamedTuple):
    """A dimension that counts units of a group, each ``outer`` x ``inner`` times: (o * n + unit) * inner + i.

    ``inner`` is more than 1 where feature maps are flattened: a linear layer reads height x width numbers a channel.
    """

    group: str
    outer: int = 1
    inner: int = 1


Axes = tuple[Axis | None, ...]
Kept = Mapping[str, Tensor]
"""By group: the units that a sub-model has, int64, in its order."""


def kept(n: int, capability: float) -> int:
    """ceil(p n), and at least one: a layer is never empty. Rounding errors of p n do not add a unit."""
    return max(1, math.ceil(capability * n - 1e-9))


@dataclass(frozen=True)
class Units:
    """The table "dimension of a parameter -> group of units"; see ``units``.

    Attributes:
        sizes: Number of units of every group.
        axes: By parameter: for each dimension what it counts, None where it is never sliced.
        outputs: Parameters whose first dimension counts the model's outputs, such as a classifier's rows.
        divisors: By group: numbers that must divide how many units are kept (groups of a group normalisation), each
            with the layer that asks for it.
        in_first: Kernels that lie (in, out, ...), as those of transposed convolutions and embeddings do: they make the
            units of their second dimension and read those of the first. All others make the first's and read the
            second's.
    """

    sizes: Mapping[str, int]
    axes: Mapping[str, Axes]
    outputs: tuple[str, ...] = ()
    divisors: Mapping[str, tuple[tuple[int, str], ...]] = field(default_factory=dict[str, tuple[tuple[int, str], ...]])
    in_first: tuple[str, ...] = field(default=(), compare=False)  # it follows from the module

    def cut(self, params: Params, keep: Kept) -> Params:
        """The sub-model that has the units ``keep``; groups that it does not name stay whole. Differentiable."""
        return {name: self._cut(name, part, keep) for name, part in params.items()}

    def paste(self, part: Params, like: Params, keep: Kept) -> Params:
        """The transpose of ``cut``: the sub-model's tensors in the shapes of ``like``, 0 where it has nothing."""
        return {name: self._paste(name, each, like[name], keep) for name, each in part.items()}

    def cover(self, like: Params, keep: Kept) -> Params:
        """1 where the sub-model has a number, 0 elsewhere, in the shapes of ``like``."""
        return {name: self._cover(name, part, keep) for name, part in like.items()}

    def squares(self, params: Params) -> dict[str, Tensor]:
        """For each group, the sum of squares over the parameters that make each unit: those whose rows it is."""
        return self.sums({name: params[name].square() for name, _, _ in self._makers()})

    def sums(self, params: Params) -> dict[str, Tensor]:
        """For each group, the sum over the parameters that make each unit: its kernels, biases and normalisations."""
        sums: dict[str, Tensor] = {}
        for name, dim, axis in self._makers():
            part = params[name]
            rows = part.transpose(0, dim).flatten(1).sum(1) if part.dim() > 1 else part
            each = rows.reshape(axis.outer, -1, axis.inner).sum((0, 2))
            sums[axis.group] = sums[axis.group] + each if axis.group in sums else each
        return sums

    def weigh(self, like: Params, weights: Mapping[str, Tensor]) -> Params:
        """Every parameter's weights, to be broadcast: of the unit that it makes, else of the first it counts.

        Args:
            like: The model's parameters.
            weights: By group, a weight for each of all its units.
        """
        return {name: self._weights(name, part, weights) for name, part in like.items()}

    def _weights(self, name: str, part: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        axes = [(dim, axis) for dim, axis in enumerate(self.axes.get(name, ())) if axis is not None]
        if not axes:
            return part.new_ones(())
        dim, axis = next((each for each in axes if each[0] == self.making(name)), axes[0])
        each = weights[axis.group].to(part).repeat_interleave(axis.inner).repeat(axis.outer)
        return each.reshape(-1, *(1 for _ in part.shape[dim + 1 :]))

    def making(self, name: str) -> int:
        """The dimension of a parameter that counts the units that it makes; a kernel reads those of the other one."""
        return 1 if name in self.in_first else 0

    def _makers(self) -> list[tuple[str, int, Axis]]:
        """Parameters that make a group's units; of a group that none makes, all that count it."""
        every = [(name, dim, axis) for name, axes in self.axes.items() for dim, axis in enumerate(axes) if axis]
        made = {axis.group for name, dim, axis in every if dim == self.making(name)}
        return [each for each in every if each[1] == self.making(each[0]) or each[2].group not in made]

    def members(self, group: str) -> list[str]:
        """The layers whose parameters count a group's units."""
        names = [name for name, axes in self.axes.items() if any(axis and axis.group == group for axis in axes)]
        return list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))

    def inner(self) -> Units:
        """The table in which only those groups are cut that one kernel makes; residual streams stay whole.

        Raises:
            FedSepError: There are none.
        """
        made = [axes[self.making(name)] for name, axes in self.axes.items() if len(axes) > 1]
        kernels = [axis.group for axis in made if axis is not None]
        groups = {group for group in self.sizes if kernels.count(group) == 1}
        if not groups:
            raise FedSepError("gates must be all_tied: no group of the model's units is made by one kernel alone")
        axes = {name: tuple(axis if axis and axis.group in groups else None for axis in each)
                for name, each in self.axes.items()}  # fmt: skip
        sizes, divisors = ({group: part for group, part in table.items() if group in groups}
                           for table in (self.sizes, self.divisors))  # fmt: skip
        return replace(self, sizes=sizes, axes=axes, divisors=divisors)

    def _indices(self, name: str, keep: Kept) -> list[tuple[int, Tensor]]:
        """For every dimension that is sliced: the places that are kept."""
        axes = self.axes.get(name, ())
        return [
            (dim, places(axis, self.sizes[axis.group], keep[axis.group]))
            for dim, axis in enumerate(axes)
            if axis is not None and axis.group in keep
        ]

    def _cut(self, name: str, part: Tensor, keep: Kept) -> Tensor:
        for dim, index in self._indices(name, keep):
            part = part.index_select(dim, index)
        return part

    def _paste(self, name: str, part: Tensor, like: Tensor, keep: Kept) -> Tensor:
        for dim, index in self._indices(name, keep):
            shape = (*part.shape[:dim], like.shape[dim], *part.shape[dim + 1 :])
            part = part.new_zeros(shape).index_copy(dim, index, part)
        return part

    def _cover(self, name: str, like: Tensor, keep: Kept) -> Tensor:
        cover = torch.ones((), dtype=like.dtype, device=like.device)
        for dim, index in self._indices(name, keep):
            here = like.new_zeros(like.shape[dim]).index_fill(0, index, 1.0)
            cover = cover * here.reshape(-1, *(1 for _ in like.shape[dim + 1 :]))
        return cover.expand(like.shape)


def places(axis: Axis, n: int, index: Tensor) -> Tensor:
    """The places of a dimension that belong to the units ``index`` of a group of n."""
    if axis.outer == axis.inner == 1:
        return index
    outer = torch.arange(axis.outer, device=index.device)[:, None, None] * n
    inner = torch.arange(axis.inner, device=index.device)
    return ((outer + index[:, None]) * axis.inner + inner).reshape(-1)


def units(
    module: nn.Module,
    inputs: Sequence[int] | Tensor,
    *,
    declare: Mapping[str, Sequence[str | Axis | None]] | None = None,
    whole: Sequence[str] = (),
) -> Units:
    """The table of a module's units, found by following one forward pass, or declared; always checked by running.

    Convolutions, linear layers, normalisations, pooling, flattening, residual sums and elementwise operations are
    followed. The check: for every group alone and for all together, the sub-model that has some of the units gives
    what the whole model gives with all other units' parameters at 0.

    Args:
        module: Any module that is a pure function of its parameters.
        inputs: Shape of one input, without the batch; or some inputs, where they are not just numbers. A module that
            reads numbers of symbols says how many there are as ``symbols``.
        declare: The table written by hand, where the forward pass cannot be followed: for each parameter that is
            sliced, the group of each dimension (an ``Axis`` where its units do not lie one after the other), None
            where it stays whole. Nothing is derived then.
        whole: Names of layers whose inputs and outputs shall stay whole because they cannot be followed; a module may
            name its own as ``stay_whole``.

    Returns:
        The table; ``sizes`` has the groups, named after the first layer that makes their units.

    Raises:
        FedSepError: A layer is not understood, or the table does not hold; names the layer, and what to declare.
    """
    from fedsep.models.tracing import checking, declared, deriving, kernels

    whole = [*whole, *getattr(module, "stay_whole", ())]
    example = deriving.example(module, inputs)
    found = deriving.derived(module, example, whole) if declare is None else declared.declared(module, example, declare)
    checking.check_module(found, module, example)
    return replace(found, in_first=tuple(name for name in kernels.in_first(module, example) if name in found.axes))


def sliced_at(table: Units, share: float, holder: str = "") -> list[str]:
    """Why sub-models of a share of the units cannot be cut, as sentences; empty where they can.

    Args:
        table: The units.
        share: Of every group.
        holder: Who has them, for messages; empty: a client of this capability.
    """
    who = holder or f"a client of capability {share:g} holds"
    wrong: dict[tuple[int, int, int], list[str]] = {}
    for group, n in table.sizes.items():
        for divisor, layer in table.divisors.get(group, ()):
            if kept(n, share) % divisor:
                wrong.setdefault((divisor, kept(n, share), n), []).append(layer)
    return [
        f"group normalisation {layers[0]}{f' (and {len(layers) - 1} more)' if len(layers) > 1 else ''} has {divisor} "
        f"groups, which do not divide the {held} channels of {n} that {who}: give it a number of groups that divides "
        "all widths"
        for (divisor, held, n), layers in wrong.items()
    ]
