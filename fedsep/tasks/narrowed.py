"""A task whose model is narrower than the module: a slice that is initialised as a model of that width would be."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fedsep.core import Batch, Params, Task
from fedsep.models.scaler import Scaler
from fedsep.models.units import Units, kept
from fedsep.tasks.pure import Pure


@dataclass(frozen=True)
class Narrowed:
    """The task with a share ``width`` of the units of every group.

    Attributes:
        whole: The task; its scalers take the narrower width for the full one.
        units: Of the whole model.
        width: The share.
    """

    whole: Task
    units: Units
    width: float

    @property
    def model(self) -> Pure | None:
        """The module as a function, where the task has one."""
        return getattr(self.whole, "model", None)

    @property
    def higher_is_better(self) -> Mapping[str, bool]:
        """The task's."""
        return getattr(self.whole, "higher_is_better", {})

    def init(self, first: int = 0) -> Params:
        """Some units of the whole model's parameters, with kernels as large as for the fewer inputs they have.

        Args:
            first: They are those from ``first`` times their number on.
        """
        whole = self.whole.init()
        counts = {group: (kept(n, self.width), n) for group, n in self.units.sizes.items()}
        keep = {group: (first * count + torch.arange(count)) % n for group, (count, n) in counts.items()}
        return {name: part * _gain(whole[name], part) for name, part in self.units.cut(whole, keep).items()}

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """The task's."""
        return self.whole.predict(params, x)

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The task's."""
        return self.whole.criterion(outputs, targets)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """The task's."""
        return self.whole.loss(params, batch)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """The task's."""
        return self.whole.metrics(outputs, targets)


def narrowed(task: Task, units: Units, width: float) -> tuple[Narrowed, Units]:
    """The narrower task, and its own units."""
    sizes = {group: kept(n, width) for group, n in units.sizes.items()}
    model = getattr(task, "model", None)
    if isinstance(model, Pure):
        task = replace(task, model=Pure(_rescaled(model.module, width)))  # type: ignore[reportArgumentType]
    return Narrowed(task, units, width), replace(units, sizes=sizes)


def _rescaled(module: Any, width: float) -> Any:
    module = copy.deepcopy(module)
    for layer in module.modules():
        if isinstance(layer, Scaler):
            layer.channels = kept(layer.channels, width)
    return module


def _gain(whole: Tensor, part: Tensor) -> float:
    """sqrt(inputs of a kernel / inputs that are left): initial weights are drawn by 1 / sqrt(inputs)."""
    if whole.dim() < 2:
        return 1.0
    return math.sqrt(whole[0].numel() / part[0].numel())
