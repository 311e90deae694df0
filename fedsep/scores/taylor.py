"""Taylor scores: how much the loss would change, to first order, without a unit."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsep.core import Ctx, Params, Shard, Task
from fedsep.gradients import value_and_gradient
from fedsep.learners.own_classes import masked
from fedsep.models.units import Units
from fedsep.ranges import Count, checked
from fedsep.scores.scorer import examples


@dataclass(frozen=True)
class Taylor:
    """See ``taylor``."""

    task: Task
    units: Units
    images: int = 200
    batch_size: int = 50
    classes: int | None = None

    def __call__(self, parameters: Params, shard: Shard, ctx: Ctx, keep: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """See ``Scorer``."""
        task = masked(self.task, shard, self.classes)
        total, count = dict[str, Tensor](), 0
        for batch in examples(shard.train, ctx, self.images, self.batch_size):
            _, gradient = value_and_gradient(lambda y, batch=batch: task.loss(y, batch), parameters)
            change = self.units.sums({name: part * gradient[name] for name, part in parameters.items()})
            total = {group: total.get(group, 0) + part.abs() for group, part in change.items()}
            count += 1
        return {group: part / count for group, part in total.items()}


@checked
def taylor(
    task: Task, units: Units, classes: Count | None = None, *, images: Count = 200, batch_size: Count = 50
) -> Taylor:
    """|sum of parameter x gradient| over the parameters that make a unit, the mean over minibatches of training data.

    The parameters that make a unit are its kernels, biases and normalisations in every layer that a residual sum ties
    together. Kernels before a batch normalisation add nothing to the sum, as their scale does not matter; the
    normalisation's own weight and bias do.

    Args:
        task: Gives the loss.
        units: Of the whole model.
        classes: Number of classes, where the scores of those that a client lacks are left out of its loss; else None.
        images: Training examples that are looked at, drawn anew each time; all where a client has fewer.
        batch_size: Examples of a minibatch.

    Reference:
        Molchanov et al. 2019, arXiv:1906.10771, Eq. (8), with sizes in place of squares.
    """
    return Taylor(task, units, images, batch_size, classes)
