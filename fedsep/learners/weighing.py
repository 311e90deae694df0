"""Local steps that also say how much each unit was pulled at: one number a unit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsep.core import Ctx, Decoded, Info, Params, Shard, Task
from fedsep.learners.sgd import Step, Steps, arrived
from fedsep.models.units import Units

_NAME = "importance of "


@dataclass(frozen=True)
class Weighing:
    """A learner whose y also holds each unit's importance, under a name for each group.

    A unit's importance is the root of the sum of squared gradients, over all local steps, of the parameters that make
    it: its kernels, biases and normalisations.

    Attributes:
        learner: The steps.
        units: Of the whole model.
    """

    learner: Steps
    units: Units

    @property
    def task(self) -> Task:
        """The local problem."""
        return self.learner.task

    def on(self, task: Task) -> Weighing:
        """The same steps on another local problem."""
        return replace(self, learner=self.learner.on(task))

    def trail(self, start: Decoded, shard: Shard, ctx: Ctx) -> Iterator[Step]:
        """The local steps, one by one."""
        return self.learner.trail(start, shard, ctx)

    def learn(self, start: Decoded, shard: Shard, ctx: Ctx) -> tuple[Params, Info]:
        """y_I with the importances, and the mean minibatch loss of the round."""
        squares: dict[str, Tensor] = {}

        def noted() -> Iterator[Step]:
            for step in self.trail(start, shard, ctx):
                for group, value in self.units.squares(step.gradient).items():
                    squares[group] = squares[group] + value if group in squares else value
                yield step

        y, info = arrived(start, noted())
        return {**y, **{f"{_NAME}{group}": value.sqrt() for group, value in squares.items()}}, info


def importances(y: Params) -> dict[str, Tensor]:
    """Those that a learner left in y, by group; of several blocks, by ``N.GROUP``."""
    return {name.replace(_NAME, "", 1): part for name, part in y.items() if _NAME in name}


def relative(importance: dict[str, Tensor]) -> dict[str, Tensor]:
    """The size of each group's numbers over their mean size; all 1 where nothing pulled at the group."""

    def divided(part: Tensor) -> Tensor:
        mean = part.abs().mean()
        return torch.where(mean > 0, part.abs() / mean.clamp_min(torch.finfo(part.dtype).tiny), 1.0)

    return {group: divided(part) for group, part in importance.items()}
