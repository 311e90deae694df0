"""Split-Mix: the server's model is an ensemble of narrow ones; each client trains as many of them as it can hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.if_sent import IfSent
from fedsep.learners.per_block import PerBlock
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.models.units import Units
from fedsep.ranges import Count, checked
from fedsep.servers.optimize import Rule
from fedsep.submodels import Reduction, submodels, table_of
from fedsep.tasks.ensemble import Ensemble
from fedsep.tasks.narrowed import narrowed
from fedsep.views.blocks import Blocks
from fedsep.views.plans import Static
from fedsep.views.submodel import Submodel


@checked(takes=sgd)
def splitmix(
    task: Task,
    *,
    blocks: Count = 4,
    units: Units | None = None,
    own_classes: bool = True,
    reduce: Reduction = "coverage_mean",
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""FedAvg on k independent models of 1/k of the width, whose mean output is served.

    A client of capability p gets floor(p k) of the models, drawn anew every round; one of them, or a prefix of
    ceil(p k m) of the m units of its groups, where it cannot hold more. It trains each by itself, on the same
    minibatches; each model is averaged over the clients that trained it. One model at capability 1 is FedAvg.

    Args:
        task: The local problem f.
        blocks: k, the number of narrow models, each of 1/k of the width; 1/k should not be above the weakest
            client's capability.
        units: Which dimensions of the parameters count the same units; derived from the task's model by default.
        own_classes: Whether a client leaves the scores of classes that it has not out of its loss, and the server moves
            a class's row by those clients only that have the class.
        reduce: ``coverage_mean`` averages a model over the clients that trained it, ``mean`` divides by all that
            replied; ``importance`` averages by one number a unit from each client, ``shuffled`` is its control: see
            ``fedsep.submodels.Reduction``. A client that holds whole models counts as one of capability 1 in each.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``uniform``, or ``samples``: by a client's number of examples.
        uplink: How a change is sent, from ``fedsep.wires``, without memory; float32 by default.
        downlink: How the sub-model is sent; float32 by default.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * p + ceil(classes / 8) + 4 * numbers
        down: 4 * p

    p is the number of parameters of the client's models; classes are told with ``own_classes`` only; numbers is that of
    the models' units with ``reduce`` importance, else 0.

    Memory:
        Server: k narrow models, together 1/k of the whole one. Client: nothing between rounds.

    Reference:
        Hong et al. 2022, arXiv:2203.09747, without its adversarial training. There a client's budget is a number of
        models; that weaker clients train a prefix of one is ours (B9.1 in docs/sub-models.md). A model of 1/k of the
        width has 1/k^2 of the parameters, so that a client holds less here than under ``heterofl``.
    """
    block, table = narrowed(task, table_of(task, units), 1 / blocks)
    method = submodels(
        block,
        Static(),
        units=table,
        own_classes=own_classes,
        reduce=reduce,
        server=server,
        weighting=weighting,
        uplink=uplink,
        downlink=downlink,
        **local,
    )
    assert isinstance(method.learner, IfSent)
    assert isinstance(method.view, Submodel)
    learner, view = PerBlock(method.learner.learner), Blocks(method.view, blocks)
    return replace(method, learner=learner, view=view, task=Ensemble(block, blocks))
