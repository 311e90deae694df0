"""A control: only clients that can hold enough of the model take part; the others idle."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.models.units import Units
from fedsep.ranges import Fraction, checked
from fedsep.servers.optimize import Rule
from fedsep.submodels import Fleet, Reduction, submodels, table_of
from fedsep.views.plans import Static


@checked(takes=sgd)
def exclude(
    task: Task,
    *,
    least: Fraction = 1.0,
    units: Units | None = None,
    own_classes: bool = True,
    reduce: Reduction = "coverage_mean",
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""HeteroFL in which clients of a capability below ``least`` do nothing, and are sent nothing.

    Cohorts are those of the other methods: a weak client keeps its seat and leaves it empty. A method that uses weak
    clients has something to show only where it is ahead of this.

    Args:
        task: The local problem f.
        least: The lowest capability that takes part; 1: only clients that hold the whole model.
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

    p is the number of parameters of the client's sub-model; all are 0 for a client that idles;
    numbers is that of the client's units with ``reduce`` importance, else 0.

    Memory:
        Server: the model. Client: nothing between rounds.

    Reference:
        None; after ``heterofl``.
    """
    return submodels(
        task,
        sgd(task, **local),
        table_of(task, units),
        Static(),
        own_classes=own_classes,
        reduce=reduce,
        server=server,
        weighting=weighting,
        uplink=uplink,
        downlink=downlink,
        fleet=Fleet(least=least),
    )
