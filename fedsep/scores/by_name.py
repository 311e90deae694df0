"""Scores by their name: the one place where a new kind is plugged in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from fedsep.core import FedSepError, Task
from fedsep.models.units import Units
from fedsep.scores.activation import activation
from fedsep.scores.scorer import Scorer
from fedsep.scores.taylor import taylor
from fedsep.submodels import BudgetName, Gates
from fedsep.views.submodel import Submodel

Scores = Literal["gates", "taylor", "activation"]
"""What units are scored by: ``gates`` fitted to the client's data (``fedsep.gates``), ``taylor`` or ``activation``."""

Scoring = Callable[[Task, Units, int | None], Scorer]
"""Makes a scorer of a method's task and units, as ``fedsep.scores.taylor`` does, some of whose options may be given.

The third argument is the number of classes, where a client's loss leaves out the scores of those that it lacks.
"""


def scorer_of(
    scores: Scores | Scoring, task: Task, part: Submodel, images: int, gates: Gates, budget: BudgetName
) -> Scorer:
    """The scorer of a name, or one of the user's own.

    Args:
        scores: The name, or what makes the scorer.
        task: The local problem.
        part: What is cut: ``units``, how many of them a capability is (``counts``), and ``classes``, whose number is
            None where a client's loss counts also those that it lacks.
        images: Training examples that are looked at; gates take as many as their steps need.
        gates: Which groups of units ``part`` cuts.
        budget: What a capability is.

    Raises:
        FedSepError: There is no such name, or the task has not what the scores need.
    """
    if scores == "gates":
        from fedsep.gates import gate_scores

        return gate_scores(task, part.units, gates=gates, budget=budget, classes=part.classes)
    if scores == "taylor":
        return taylor(task, part.units, part.classes, images=images)
    if scores == "activation":
        return activation(task, part.units, images=images)
    if isinstance(scores, str):
        raise FedSepError(
            f"scores must be one of {', '.join(get_args(Scores))}, or what makes a scorer (got {scores!r})"
        )
    return scores(task, part.units, part.classes)
