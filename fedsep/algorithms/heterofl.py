"""HeteroFL: every client trains the first units of each layer, as many as it can hold."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.models.units import Units
from fedsep.ranges import checked
from fedsep.servers.optimize import Rule
from fedsep.submodels import Reduction, submodels, table_of
from fedsep.views.plans import Static


@checked(takes=sgd)
def heterofl(
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
    r"""Local SGD on nested sub-models; each coordinate is averaged over the clients that hold it.

    A client of capability p gets units 0 .. ceil(p n) - 1 of every group of n (channels that a residual sum adds are
    one group);  x_j <- x_j + sum_m w_m dy_mj / sum_m w_m over the clients m that hold coordinate j, and x_j stays where
    nobody does. At capability 1 and with all classes everywhere this is FedAvg.

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
        Diao et al. 2021, arXiv:2010.01264. Its public code at first had one block a stage in what it calls ResNet-18
        (trap B1.1): give the number of blocks to ``models.resnet``. Its scaler and static batch normalisation are the
        model's affair here (``models.resnet``, ``models.small_cnn``).
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
    )
