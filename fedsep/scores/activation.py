"""Activation scores: how large a unit is where the next layers read it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedsep.core import Ctx, FedSepError, Params, Shard, Task
from fedsep.models.units import Axis, Units
from fedsep.ranges import Count, checked
from fedsep.scores.scorer import examples
from fedsep.tasks.pure import Pure

Sums = dict[str, tuple[Tensor, int]]
"""By group: a sum over passes, and how many there were."""


@dataclass(frozen=True)
class Activation:
    """See ``activation``."""

    model: Pure
    units: Units
    images: int = 200
    batch_size: int = 50

    def __call__(self, parameters: Params, shard: Shard, ctx: Ctx, keep: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """See ``Scorer``."""
        sums: Sums = {}
        with self._watched(sums), torch.no_grad():
            for batch in examples(shard.train, ctx, self.images, self.batch_size):
                self.model(parameters, batch.x)
        return {group: total / count for group, (total, count) in sums.items()}

    @contextmanager
    def _watched(self, sums: Sums) -> Generator[None]:
        """Inside, what every reader of a group is given is summed up."""

        def watch(axis: Axis) -> Any:
            def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                total, count = sums.get(axis.group, (0, 0))
                sums[axis.group] = total + _sizes(layer, inputs[0], axis), count + 1

            return hook

        handles = [self.model.module.get_submodule(layer).register_forward_pre_hook(watch(axis))
                   for layer, axis in readers(self.units, self.model.module)]  # fmt: skip
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _sizes(layer: nn.Module, x: Tensor, axis: Axis) -> Tensor:
    """Mean |x| of each unit over examples and places; a linear layer reads the last dimension, others the second."""
    places = x.abs().flatten(0, -2).T if isinstance(layer, nn.Linear) else x.abs().transpose(0, 1).flatten(1)
    return places.mean(1).reshape(axis.outer, -1, axis.inner).mean((0, 2))


def readers(units: Units, module: nn.Module) -> list[tuple[str, Axis]]:
    """The layers whose kernels read a group's units; an embedding is given numbers of rows, and reads none."""
    kernels = [(name.rpartition(".")[0], axes[1 - units.making(name)])
               for name, axes in units.axes.items() if len(axes) > 1]  # fmt: skip
    tables = {name for name, layer in module.named_modules() if isinstance(layer, nn.Embedding | nn.EmbeddingBag)}
    return [(layer, axis) for layer, axis in kernels if axis is not None and layer not in tables]


@checked
def activation(
    task: Task, units: Units, classes: Count | None = None, *, images: Count = 200, batch_size: Count = 50
) -> Activation:
    """Mean |activation| of a unit over training examples and places: of what the layers that read it are given.

    So it is measured after normalisation and nonlinearity; the mean over all layers that read the unit.

    Args:
        task: Its model must be a module.
        units: Of the whole model.
        classes: As for other scores; here they do not matter, since there is no loss.
        images: Training examples that are looked at, drawn anew each time; all where a client has fewer.
        batch_size: Examples of a pass.

    Raises:
        FedSepError: The task has no module, or nothing reads a group of units.
    """
    model = getattr(task, "model", None)
    if not isinstance(model, Pure):
        raise FedSepError(f"scores=activation needs a task whose model is a module (got {type(task).__name__})")
    unread = units.sizes.keys() - {axis.group for _, axis in readers(units, model.module)}
    if unread:
        raise FedSepError(f"scores=activation needs a layer that reads each group (none reads {min(unread)})")
    return Activation(model, units, images, batch_size)
