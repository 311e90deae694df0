"""Federated Dropout: every client trains units that are drawn for it anew every round."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.models.units import Units
from fedsep.models.untied import split
from fedsep.ranges import checked
from fedsep.servers.optimize import Rule
from fedsep.submodels import Reduction, submodels, table_of
from fedsep.views.plans import Random


@checked(takes=sgd)
def federated_dropout(
    task: Task,
    *,
    untied: bool = False,
    units: Units | None = None,
    own_classes: bool = True,
    reduce: Reduction = "coverage_mean",
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""Local SGD on random sub-models.

    A client of capability p gets the first ceil(p n) units of a random order of every group of n, drawn from the key
    that both ends have; averaged as by ``heterofl``. At capability 1 it is FedAvg, in any order of the units.

    Args:
        task: The local problem f.
        untied: Draws units for every layer by itself, as the public code of FedRolex's comparison does, also where a
            residual sum adds one layer's units to another's. Such a sub-model computes something else than the server's
            model, even at capability 1; for comparison with published figures only.
        units: Which dimensions of the parameters count the same units; derived from the task's model by default.
        own_classes: Whether a client leaves the scores of classes that it has not out of its loss, and the server moves
            a class's row by those clients only that have the class.
        reduce: ``coverage_mean`` divides each coordinate by the clients that hold it, ``mean`` by all that replied;
            ``importance`` averages by one number a unit from each client, ``shuffled`` is its control: see
            ``fedsep.submodels.Reduction``.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``uniform``, or ``samples``: by a client's number of examples.
        uplink: How a change is sent, from ``fedsep.wires``, without memory; float32 by default.
        downlink: How the sub-model is sent; float32 by default.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * p + ceil(classes / 8) + 4 * numbers
        down: 4 * p

    p is the number of parameters of the client's sub-model; classes are told with ``own_classes`` only; numbers
    is that of the client's units with ``reduce`` importance, else 0.

    Memory:
        Server: the model. Client: nothing between rounds.

    Reference:
        Caldas et al. 2018, arXiv:1812.07210, with a share for each client as in FedRolex (arXiv:2212.01548). There
        the layers of a residual stream are drawn independently (trap B2): ``untied=True``.
    """
    table = table_of(task, units)
    table = split(table, task.init()) if untied else table
    return submodels(
        task,
        sgd(task, **local),
        table,
        Random(),
        own_classes=own_classes,
        reduce=reduce,
        server=server,
        weighting=weighting,
        uplink=uplink,
        downlink=downlink,
    )
