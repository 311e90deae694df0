"""Fjord: ordered dropout inside the clients, so that every prefix of the model is a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from fedsep.core import FedSepError, Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.ordered_dropout import OrderedDropout
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.models.units import Units
from fedsep.ranges import Fraction, argument_errors, checked
from fedsep.servers.optimize import Rule
from fedsep.submodels import Reduction, submodels, table_of
from fedsep.views.plans import Static


@checked(takes=sgd)
def fjord(
    task: Task,
    *,
    widths: Sequence[Fraction] = (0.0625, 0.125, 0.25, 0.5, 1.0),
    distil: bool = False,
    units: Units | None = None,
    own_classes: bool = True,
    reduce: Reduction = "coverage_mean",
    server: Rule | None = None,
    weighting: Weighting = "samples",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""HeteroFL whose clients draw, for every minibatch, how many of their units it trains.

    A client of capability p takes each step on the first ceil(q n) units of every group, q drawn from the ``widths`` up
    to p, each as likely. With ``distil`` the step also has the gradient of the client's whole sub-model, whose
    probabilities are then what the narrower one learns.  Averaged as by ``heterofl``, by samples. At capability 1 with
    widths (1,) it is FedAvg.

    Args:
        task: The local problem f.
        widths: P, what the clients draw from.
        distil: Whether narrower prefixes learn from the client's whole sub-model instead of from labels.
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
        Horvath et al. 2021, arXiv:2102.13451. Batch statistics are those of the minibatch at its width, where the
        paper keeps statistics for each width; in evaluation they are measured at the width that is evaluated.
    """
    errors = [error for width in widths for error in argument_errors("widths", width, Fraction)]
    if errors or not widths:
        raise FedSepError("fjord: " + (errors[0] if errors else "widths must name a share of the units (got none)"))
    table = table_of(task, units)
    return submodels(
        task,
        OrderedDropout(sgd(task, **local), table, tuple(widths), distil),
        table,
        Static(),
        own_classes=own_classes,
        reduce=reduce,
        server=server,
        weighting=weighting,
        uplink=uplink,
        downlink=downlink,
    )
