"""FedAvg on one width for all clients: the smallest that all can hold, or the largest as an upper bound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.models.units import Units
from fedsep.ranges import Fraction, checked
from fedsep.servers.optimize import Rule
from fedsep.submodels import Fleet, Reduction, submodels, table_of
from fedsep.tasks.narrowed import narrowed
from fedsep.views.plans import Static


@checked(takes=sgd)
def homogeneous(
    task: Task,
    *,
    width: Fraction = 1.0,
    units: Units | None = None,
    own_classes: bool = True,
    reduce: Reduction = "coverage_mean",
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""FedAvg on a model with ceil(width n) of the n units of every group, whatever clients could hold.

    With the same local steps, masks and averages as the methods for heterogeneous clients. The model is initialised as
    one of its width, and its scalers do nothing. Width 1 and all classes everywhere: FedAvg.

    Args:
        task: The local problem f.
        width: Share of the units of every layer. The server's model is that narrow, too.
        units: Which dimensions of the parameters count the same units; derived from the task's model by default.
        own_classes: Whether a client leaves the scores of classes that it has not out of its loss, and the server moves
            a class's row by those clients only that have the class.
        reduce: How changes become one: ``coverage_mean`` averages a class's row over the clients that have the class,
            and all else over all clients; ``mean``, ``importance`` and ``shuffled`` as for ``heterofl``, but that all
            clients hold as much: an importance is not multiplied by a capability.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``uniform``, or ``samples``: by a client's number of examples.
        uplink: How a change is sent, from ``fedsep.wires``, without memory; float32 by default.
        downlink: How the sub-model is sent; float32 by default.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * p + ceil(classes / 8) + 4 * numbers
        down: 4 * p

    p is the number of parameters of the narrower model; numbers is that of its units with ``reduce`` importance, else
    0.

    Memory:
        Server: the model. Client: nothing between rounds.

    Reference:
        Diao et al. 2021, arXiv:2010.01264: the bounds that its comparison has.
    """
    task, table = narrowed(task, table_of(task, units), width)
    method = submodels(
        task,
        Static(),
        units=table,
        own_classes=own_classes,
        reduce=reduce,
        server=server,
        weighting=weighting,
        uplink=uplink,
        downlink=downlink,
        fleet=Fleet(width=1.0),
        **local,
    )
    return replace(method, task=task)
