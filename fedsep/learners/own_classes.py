"""A client that trains on its own classes only: the scores of the others are left out of its loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep.core import Batch, Ctx, Decoded, Info, Params, Shard, Task
from fedsep.learners.sgd import Steps


@dataclass(frozen=True)
class OwnClasses:
    """Local steps on the masked cross-entropy; see ``Masked``.

    Attributes:
        learner: The steps.
        classes: Number of classes of the task.
    """

    learner: Steps
    classes: int

    def learn(self, start: Decoded, shard: Shard, ctx: Ctx) -> tuple[Params, Info]:
        """y_I, and the mean minibatch loss of the round, with the classes that the shard has."""
        return self.learner.on(masked(self.learner.task, shard, self.classes)).learn(start, shard, ctx)


@dataclass(frozen=True)
class Masked:
    """A task in which the scores of absent classes are replaced by 0, so that their rows get no gradient.

    They still count as exp(0) in the softmax's denominator. With all classes present this is the task itself.

    Attributes:
        task: The task.
        present: Which classes there are, bool of shape (classes,).

    Reference:
        Diao et al. 2021, arXiv:2010.01264.
    """

    task: Task
    present: Tensor

    def init(self) -> Params:
        """The task's."""
        return self.task.init()

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """Scores, 0 for absent classes."""
        return self.task.predict(params, x).where(self.present, 0.0)

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The task's."""
        return self.task.criterion(outputs, targets)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Of the masked scores."""
        return self.criterion(self.predict(params, batch.x), batch.y)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """The task's."""
        return self.task.metrics(outputs, targets)


def masked(task: Task, shard: Shard, classes: int | None) -> Task:
    """The task with the classes that the shard has; the task itself where ``classes`` is None."""
    return task if classes is None else Masked(task, present(shard.train.y, classes))


def present(labels: Tensor, classes: int) -> Tensor:
    """Which of the classes occur, bool of shape (classes,)."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)).any(0)
