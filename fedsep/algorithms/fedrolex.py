"""FedRolex: the window of units that a client trains moves on by one every round."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.models.units import Units
from fedsep.ranges import checked
from fedsep.servers.optimize import Rule
from fedsep.submodels import Reduction, submodels, table_of
from fedsep.views.plans import Rolling


@checked(takes=sgd)
def fedrolex(
    task: Task,
    *,
    units: Units | None = None,
    own_classes: bool = True,
    reduce: Reduction = "coverage_mean",
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""Local SGD on sub-models that roll over the layers, so that all units are trained alike.

    In round t a client of capability p gets units (t + i) mod n, i < ceil(p n), of every group of n; averaged as by
    ``heterofl``, which this is in round 0. At capability 1 it is FedAvg.

    Args:
        task: The local problem f.
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
        Alam et al. 2022, arXiv:2212.01548. Deviations from the public code: the window moves up, as in the paper, not
        down (the same windows in another order); coordinates are divided by plain counts of the clients that hold them,
        where the code weights normalisations and the classifier by counters that go on over rounds and clients (trap
        B3.1), so that it is not FedAvg at capability 1; evaluation has calibrated statistics (trap B3.6).
    """
    return submodels(
        task,
        sgd(task, **local),
        table_of(task, units),
        Rolling(),
        own_classes=own_classes,
        reduce=reduce,
        server=server,
        weighting=weighting,
        uplink=uplink,
        downlink=downlink,
    )
