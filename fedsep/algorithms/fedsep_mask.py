"""FedSep's mask codec: every client trains the units that matter most to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from fedsep.codecs.present import Present
from fedsep.codecs.ranked import Ranked
from fedsep.core import Codec, FedSepError, Task, View
from fedsep.fedsep import FedSep, Weighting
from fedsep.masks import ScoredOn, Terms, ranked_submodels
from fedsep.ranges import Count, Momentum, Part, Positive, checked
from fedsep.scores import Scorer, Scores, Scoring
from fedsep.submodels import RankedArguments, submodels
from fedsep.views.personal import Personal
from fedsep.views.refresh import Refresh
from fedsep.views.submodel import Submodel

if TYPE_CHECKING:
    from fedsep.gates import SecondTerm


@checked(takes=submodels)
def fedsep_mask(
    task: Task,
    *,
    scores: Scores | Scoring = "gates",
    scored_on: ScoredOn = "full",
    refresh_every: Count | None = 2,
    rolling: Part = 0.0,
    common: Part = 0.0,
    images: Count = 200,
    memory: Momentum = 0.9,
    terms: Terms = "first",
    damping: Positive = 1.0,
    bound: Positive = 1.0,
    weighting: Weighting = "uniform",
    **rest: Unpack[RankedArguments],
) -> FedSep:
    r"""Local SGD on personal sub-models: a client scores the units on its own data and keeps the best.

    Every ``refresh_every``-th participation a client is sent the whole model x, scores its units, ranks them and
    reports the ranking; then, and until the next refresh, y_0 = a x with a the mask of the best ceil(p n) units of
    every group of n, exactly and without noise, for whatever capability p the client has in a round;  dx = a (y_I -
    y_0), the first term of Eq. (8). At capability 1 this is FedAvg.

    With ``terms`` both, a client also sends the second term at a refresh, a change of all of x:  -d_{x phi} g (H +
    damping I)^-1 (d_phi a)^T (x dx), phi = argmin g(x, phi) that of Eq. (7). The server's rule sees the reduced first
    terms plus the mean of the second over all that replied, those that sent none counting as 0. Between refreshes,
    when phi is of an older x, and where a client keeps every unit, so that its mask is 1 whatever x is, it sends the
    first term alone.

    Args:
        task: The local problem f.
        scores: What units are scored by: ``gates``, fitted to the client's data by Eq. (7) (``fedsep.gates``);
            ``taylor``, |parameter x gradient| summed over what makes a unit; ``activation``, its mean size where it is
            read; or what makes such a scorer: see ``fedsep.scores``.
        scored_on: ``full``: the whole model; ``held``: the client's sub-model, starting from the first units: the units
            that it has are then ranked before all others, and the whole model is never sent.
        refresh_every: Accepted participations from one refresh to the next; None: only the first is one.
        rolling: Share of a client's units that is not its best, but a window that rolls over the rest.
        common: Weight of an order that all clients have in common, that of the units' numbers, in a client's ranking:
            a unit is ranked by the mean of its places in both, among those that are scored. 0: the client's own, as in
            the paper; 1: nested sub-models, those of ``heterofl``, where nothing rolls. On MNIST a weight of 3/4 makes
            clients' quarter models better on their own classes than FedRolex's and Federated Dropout's in five settings
            of five, 0 in two at most; random masks with the same weight do so in four, and ``heterofl`` is as good or
            better (docs/results/heterogeneity.md).
        images: Training examples that a client scores on, at most all that it has; gates take 12 minibatches of 50, and
            the second term as many examples as this of the data that they are fitted to.
        memory: Of the server's mean of clients' rankings, which only says what narrower model it would serve: share of
            the old mean after a round.
        terms: Of Eq. (8): ``first``, or ``both``, for gates scored on the whole model. The second goes by the same
            ``uplink`` as the first, as a message of its own.
        damping: With both terms: added to the eigenvalues of H, the Gauss-Newton matrix of g in phi.
        bound: With both terms: largest norm of a client's second, over that of its first.
        weighting: ``uniform``, or ``samples``: by a client's number of examples.
        **rest: The reduction, the wires, the local steps: what ``submodels`` takes.

    Bytes:
        up: 4 * (p + p_second) + ceil(classes / 8) + 4 * numbers + report
        down: 4 * p_down

    p is the number of parameters of the client's sub-model; p_down is the same, or that of the whole model in a round
    in which the client scores it; p_second is that of the whole model where the second term is sent, else 0. classes
    are told with ``own_classes`` only; numbers is that of the client's units with ``reduce`` importance, else 0. report
    is 0, and at a refresh 2 for each unit of the whole model, with the round, 4 more; where ``refresh_every`` is above
    2, the report has its age, 4 more, and is sent again in all participations but the last before a refresh; where it
    is 1 or None, it has neither round nor age.

    Memory:
        Server: the model, a number for each unit, and each client's ranking, on the disk for large fleets; with both
        terms the model's size once more. Client: its ranking; with both terms, phi until it has encoded.

    Reference:
        "FedSep" (NeurIPS 2023), Eq. (6) and Remark 3, with masks refreshed as in its section 5.2; with both terms
        Eq. (8), as docs/derivations/mask.md derives it. Coordinates of the first term are divided by the clients that
        hold them, where line 20 divides by all: ``reduce="mean"``.
    """

    def plan(telling: Present, scorer: Scorer, part: Submodel) -> tuple[Codec[Any], View]:
        second = None if terms == "first" else _second(scores, scorer, scored_on, common, images, damping, bound)
        view = Personal(part, Refresh(refresh_every), rolling, scored_on == "held", second is not None)
        return Ranked(telling, scorer, view, second, common), view

    return ranked_submodels(
        task, plan, scores=scores, images=images, memory=memory, weighting=weighting, terms=terms, **rest
    )


def _second(
    scores: Scores | Scoring,
    scorer: Scorer,
    scored_on: ScoredOn,
    common: float,
    images: int,
    damping: float,
    bound: float,
) -> SecondTerm:
    """The second term of a scorer.

    Raises:
        FedSepError: Its scores have no phi, there is no whole model to differentiate at, or phi alone does not decide
            the mask.
    """
    from fedsep.gates import GateScores, SecondTerm

    if isinstance(scorer, GateScores) and scored_on == "full" and not common:
        return SecondTerm(scorer, images, damping, bound)
    wrong: list[str] = []
    if not isinstance(scorer, GateScores):
        got = scores if isinstance(scores, str) else type(scorer).__name__
        wrong.append(f"scores must be gates, or made by fedsep.gates.gate_scores: others have no phi (got {got})")
    if scored_on != "full":
        wrong.append(f"scored_on must be full: the second term is a change of the whole model (got {scored_on})")
    if common:
        wrong.append(f"common must be 0: the second term is of a mask that phi alone decides (got {common:g})")
    raise FedSepError(f"fedsep_mask with terms=both: {'; '.join(wrong)}")
