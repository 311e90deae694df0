"""Scores by their name: the one place where a new kind is plugged in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

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

The third argument is the number of classes, where a client's loss leaves out the scores of those that it lacks. Options
called ``gates`` and ``budget`` are given what the method was given, as ``fedsep.gates.gate_scores`` needs it.
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
    if isinstance(scores, str) or not callable(scores):
        raise FedSepError(
            f"scores must be one of {', '.join(get_args(Scores))}, or what makes a scorer (got {scores!r})"
        )
    return _made(scores, (task, part.units, part.classes), {"gates": gates, "budget": budget})


def _made(scoring: Scoring, given: tuple[Task, Units, int | None], method: Mapping[str, str]) -> Scorer:
    """The scorer of a function, which is also told what of the method's options it asks for."""
    takes = inspect.signature(scoring).parameters
    asked = {name: value for name, value in method.items()
             if name in takes and takes[name].kind is inspect.Parameter.KEYWORD_ONLY}  # fmt: skip
    _refuse_misfit(scoring, given, asked)
    return scoring(*given, **asked)


def _refuse_misfit(scoring: Scoring, given: tuple[object, ...], asked: Mapping[str, str]) -> None:
    """Refuses what cannot be called so, and options that contradict the method's."""
    own: Mapping[str, Any] = getattr(scoring, "keywords", {})  # those of a partial: of a block of a recipe
    for name, value in asked.items():
        if own.get(name, value) != value:
            raise FedSepError(
                f"scores must have the method's {name}, {value}: give {name} to the method alone (got {own[name]!r})"
            )
    try:
        inspect.signature(scoring).bind(*given, **asked)
    except TypeError as error:
        raise FedSepError(
            f"scores must take a task, the table of its units and a number of classes, one after the other ({error})"
        ) from error
