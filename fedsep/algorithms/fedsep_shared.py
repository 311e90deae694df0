"""FedSep's masks by agreement: clients say which units matter to them, and all train those that matter most."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep.codecs.polled import Polled
from fedsep.codecs.present import Present
from fedsep.core import Codec, Task, View
from fedsep.fedsep import FedSep, Weighting
from fedsep.masks import ScoredOn, ranked_submodels
from fedsep.ranges import Count, Momentum, Part, checked
from fedsep.scores import Scorer, Scores, Scoring
from fedsep.submodels import RankedArguments, submodels
from fedsep.views.refresh import Refresh
from fedsep.views.shared import Shared
from fedsep.views.submodel import Submodel


@checked(takes=submodels)
def fedsep_shared(
    task: Task,
    *,
    scores: Scores | Scoring = "taylor",
    scored_on: ScoredOn = "full",
    refresh_every: Count = 2,
    clusters: Count = 1,
    rolling: Part = 0.0,
    images: Count = 200,
    memory: Momentum = 0.9,
    seed: int = 0,
    weighting: Weighting = "uniform",
    **rest: Unpack[RankedArguments],
) -> FedSep:
    r"""Local SGD on sub-models of the units that clients find important on average: one ranking, nested sub-models.

    Every ``refresh_every``-th participation a client tells a score of every unit, s_m. The server scales it so that
    its mean in each group is that of its own scores s of the same units, and  s <- memory s + (1 - memory) mean of the
    s_m of the round's clients that scored. All clients of a round train y_0 = a x, a the mask of the best ceil(p n)
    units of each group by s;  dx = a (y_I - y_0). It starts as ``heterofl``. At capability 1 this is FedAvg.

    Args:
        task: The local problem f.
        scores: What units are scored by: ``gates``, fitted to the client's data by Eq. (7) (``fedsep.gates``);
            ``taylor``, |parameter x gradient| summed over what makes a unit; ``activation``, its mean size where it is
            read; or what makes such a scorer: see ``fedsep.scores``.
        scored_on: ``full``: the whole model, which the client is sent for it; ``held``: the client's sub-model; then
            each unit's score is the mean over those who had it.
        refresh_every: Accepted participations from one scoring to the next.
        clusters: Number of rankings. A client has that of the cluster to whose scores its own last ones were most
            similar, and its scores go into that of the cluster to which they are; none until it has told some.
        rolling: Share of a client's units that is not the best, but a window that rolls over the rest, as FedRolex's.
        images: Training examples that a client scores on, at most all that it has; gates take 12 minibatches of 50.
        memory: Share of the old scores after a round.
        seed: Of the clusters' first scores.
        weighting: ``uniform``, or ``samples``: by a client's number of examples.
        **rest: The reduction, the wires, the local steps: what ``submodels`` takes.

    Bytes:
        up: 4 * p + ceil(classes / 8) + 4 * numbers + told
        down: 4 * p_down + 2 * units

    p is the number of parameters of the client's sub-model, units that of its units; p_down is p, or the number of all
    parameters in a round in which the client scores the whole model. classes are told with ``own_classes`` only;
    numbers is units with ``reduce`` importance, else 0. told is 0, and when scores are due 4 for each unit that is
    scored, with the round, 4 more, where ``refresh_every`` is above 1; where it is above 2, the age, 4 more, and
    round and age again in all participations but the last before a refresh. With clusters, told is the client's report:
    what is sent again then has the scores, and with ``scored_on`` held 2 for each unit.

    Memory:
        Server: the model and a number for each unit and cluster; with clusters each client's last scores, on the disk
        for large fleets. Client: its last report.

    Reference:
        After "FedSep" (NeurIPS 2023), section 4.2, where each client decides for itself: see ``fedsep_mask``.
    """

    def plan(telling: Present, scorer: Scorer, part: Submodel) -> tuple[Codec[Any], View]:
        view = Shared(part, Refresh(refresh_every), rolling, scored_on == "held", clusters)
        return Polled(telling, scorer, view, seed), view

    return ranked_submodels(task, plan, scores=scores, images=images, memory=memory, weighting=weighting, **rest)
