"""A client that trains on its own classes only: the scores of the others are left out of its loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep.core import Ctx, Decoded, Info, Params, Shard, Task
from fedsep.learners.sgd import Steps
from fedsep.tasks.around import Around


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
class Masked(Around):
    """A task in which the scores of absent classes are replaced by 0, so that their rows get no gradient.

    They still count as exp(0) in the softmax's denominator. With all classes present this is the task itself.

    Attributes:
        task: The task.
        present: Which classes there are, bool of shape (classes,).

    Reference:
        Diao et al. 2021, arXiv:2010.01264.
    """

    present: Tensor

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """Scores, 0 for absent classes."""
        return self.task.predict(params, x).where(self.present, 0.0)


def masked(task: Task, shard: Shard, classes: int | None) -> Task:
    """The task with the classes that the shard has; the task itself where ``classes`` is None."""
    return task if classes is None else Masked(task, present(shard.train.y, classes))


def present(labels: Tensor, classes: int) -> Tensor:
    """Which of the classes occur, bool of shape (classes,); labels have any shape."""
    return torch.isin(torch.arange(classes, device=labels.device), labels.long())


def among(scores: Tensor, labels: Tensor) -> Tensor:
    """Scores of which those of classes that are not among ``labels`` cannot win; outputs of other kinds as they are.

    Args:
        scores: Shape (n, classes).
        labels: Whole numbers, of any length.
    """
    if scores.dim() != 2 or scores.shape[1] < 2 or labels.is_floating_point() or labels.dim() != 1:
        return scores
    return scores.where(present(labels, scores.shape[1]), -torch.inf)
