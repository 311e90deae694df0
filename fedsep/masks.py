"""Sub-models of the units that matter most, put together: by each client's own ranking, or by one for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, Unpack

from fedsep.codecs.present import Present
from fedsep.core import Codec, Task, View
from fedsep.fedsep import FedSep, Weighting
from fedsep.scores import Scorer, Scores, Scoring, scorer_of
from fedsep.servers.both_terms import by_both_terms
from fedsep.servers.keep_scores import KeepScores
from fedsep.servers.optimize import Optimize
from fedsep.submodels import RankedArguments, submodels
from fedsep.views.plans import Static
from fedsep.views.submodel import Submodel
from fedsep.wires.by_name import by_name
from fedsep.wires.dense import Dense

ScoredOn = Literal["full", "held"]
"""What units are scored on: the whole model, which the client is sent for it, or the sub-model that it holds."""

Terms = Literal["first", "both"]
"""Which terms of Eq. (8) a client sends: a dy, or also what a change of x does to its mask."""

Plan = Callable[[Present, Scorer, Submodel], tuple[Codec[Any], View]]
"""Codec and view of a plan, from what is told beside a change, the scorer, and what is cut."""


def ranked_submodels(
    task: Task,
    plan: Plan,
    *,
    scores: Scores | Scoring,
    images: int,
    memory: float,
    weighting: Weighting,
    terms: Terms = "first",
    **rest: Unpack[RankedArguments],
) -> FedSep:
    """A sub-model method whose units are ranked by scores.

    Args:
        task: The local problem f.
        plan: Makes codec and view.
        scores: What units are scored by.
        images: Training examples that a client scores on.
        memory: Share of the server's old scores after a round.
        weighting: ``uniform`` or ``samples``.
        terms: What clients send; with both, the view's replies have a part ``second``.
        **rest: What ``submodels`` takes.
    """
    method = submodels(task, Static(), weighting=weighting, **rest)
    assert isinstance(method.view, Submodel)
    assert isinstance(method.server, Optimize)
    part, codec, wire = method.view, method.codec, rest.get("uplink") or Dense()
    changes = ("model",) if terms == "first" else ("model", "second")
    telling = codec if isinstance(codec, Present) else Present(None)
    kind = rest.get("gates", "all_tied"), rest.get("budget", "width")
    codec, view = plan(telling, scorer_of(scores, task, part, images, *kind), part)
    return replace(
        method,
        codec=codec,
        view=view,
        uplink=wire if isinstance(wire, Dense) else by_name(**dict.fromkeys(changes, wire)),
        server=KeepScores(method.server if terms == "first" else by_both_terms(method.server), memory),
    )
