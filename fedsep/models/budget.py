"""What a capability means: a share of the width, of the parameters, or of the multiply-adds."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from fedsep import tree
from fedsep.core import Params
from fedsep.models.units import Units, kept, sliced_at
from fedsep.tasks.pure import Pure

_OPTIONS = {"parameters": "params", "multiply-adds": "flops"}


@dataclass(frozen=True)
class Budget:
    """From a capability p to the share of the units: the largest whose sub-model costs at most p^2 of the whole.

    A sub-model of p times the width has about p^2 of the parameters and multiply-adds where every group is cut, and
    about p of them where residual streams stay whole: with a budget, both cost the same.

    Attributes:
        units: Which groups are cut.
        cost: Of the sub-model that has these many units of each group: it does not matter which.
        called: What is counted, for messages.
        tied: Whether all groups are cut, or only those that one kernel alone makes.
    """

    units: Units
    cost: Callable[[Params], int]
    whole: Params
    called: str
    tied: bool = field(default=True, compare=False)  # which follows from the units
    _shares: dict[float, float] = field(default_factory=dict[float, float], compare=False, repr=False)

    def __call__(self, capability: float) -> float:
        """The share; the smallest that can be cut where the budget does not suffice for it."""
        if capability not in self._shares:
            self._shares[capability] = self._found(capability)
        return self._shares[capability]

    def _found(self, capability: float) -> float:
        every = {number / n for n in self.units.sizes.values() for number in range(1, n + 1)}
        widths = sorted(width for width in every if not sliced_at(self.units, width))
        allowed = capability**2 * self.at(1.0) + 1e-6
        return widths[max(0, bisect.bisect_right(widths, allowed, key=self.at) - 1)]

    def at(self, share: float) -> int:
        """What a sub-model of a share of the units costs."""
        keep = {group: torch.arange(kept(n, share), device="meta") for group, n in self.units.sizes.items()}
        return self.cost(self.units.cut(self.whole, keep))

    def mistakes(self, capability: float) -> list[str]:
        """Why the budget of a capability cannot be met."""
        least, whole = self.at(self(capability)), self.at(1.0)
        if least <= capability**2 * whole + 1e-6:
            return []
        fewest = (
            "the fewest channels that group normalisation allows" if self.units.divisors else "one unit of each group"
        )
        enough = math.ceil(1e4 * math.sqrt(least / whole)) / 1e4
        ways = ["a wider model", "budget=width", *([] if self.tied else ["gates=all_tied"])]
        return [
            f"budget={_OPTIONS[self.called]} cannot be met: of the whole model's {whole:,} {self.called}, a client of "
            f"capability {capability:g} may have {capability**2:.2%}, and with {fewest} it has {least / whole:.2%}: "
            f"use capabilities of {enough:g} or more, {', '.join(ways[:-1])}, or {ways[-1]}"
        ]


def of_parameters(units: Units, params: Params, *, tied: bool = True) -> Budget:
    """A budget of parameters."""
    return Budget(units, tree.size, _shapes(params), "parameters", tied)


def of_multiply_adds(units: Units, params: Params, model: Pure, shape: tuple[int, ...], *, tied: bool = True) -> Budget:
    """A budget of the multiply-adds of convolutions and matrix products in one forward pass.

    Args:
        units: Which groups are cut.
        params: Of the whole model.
        model: The module.
        shape: Of one input.
        tied: Whether all groups are cut.
    """
    return Budget(units, lambda part: multiply_adds(model, part, shape), _shapes(params), "multiply-adds", tied)


def multiply_adds(model: Pure, params: Params, shape: tuple[int, ...]) -> int:
    """Multiply-adds of convolutions and matrix products for two inputs: half of what torch's counter counts.

    Nothing is computed: only shapes pass through the model. Two, as a batch normalisation has no statistics of one.
    """
    from torch.utils.flop_counter import FlopCounterMode

    inputs = torch.zeros(2, *shape, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(_shapes(params), inputs)
    return counter.get_total_flops() // 2


def _shapes(params: Params) -> Params:
    return {name: part.to("meta") for name, part in params.items()}
