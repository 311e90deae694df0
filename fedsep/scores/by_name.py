"""Scores by their name: the one place where a new kind is plugged in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from fedsep.core import FedSepError, Task
from fedsep.models.units import Units
from fedsep.scores.activation import activation
from fedsep.scores.scorer import Scorer
from fedsep.scores.taylor import taylor

Scores = Literal["taylor", "activation"]
"""What units are scored by: ``taylor`` or ``activation``, as in ``fedsep.scores``."""

Scoring = Callable[[Task, Units], Scorer]
"""Makes a scorer of a method's task and units: ``fedsep.scores.taylor``, some of whose options may be given."""


def scorer_of(scores: Scores | Scoring, task: Task, units: Units, images: int, classes: int | None) -> Scorer:
    """The scorer of a name, or one of the user's own.

    Args:
        scores: The name, or what makes the scorer.
        task: The local problem.
        units: Of the whole model.
        images: Training examples that are looked at.
        classes: Number of classes, where a client's loss leaves out those that it lacks; else None.

    Raises:
        FedSepError: There is no such name, or the task has not what the scores need.
    """
    if scores == "taylor":
        return taylor(task, units, images=images, classes=classes)
    if scores == "activation":
        return activation(task, units, images=images)
    if isinstance(scores, str):
        raise FedSepError(
            f"scores must be one of {', '.join(get_args(Scores))}, or what makes a scorer (got {scores!r})"
        )
    return scores(task, units)
