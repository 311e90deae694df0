"""A control: only clients that can hold enough of the model take part; the others idle."""

from __future__ import annotations

from typing import Unpack

from fedsep.core import Task
from fedsep.fedsep import FedSep, Weighting
from fedsep.ranges import Fraction, checked
from fedsep.submodels import Fleet, SubmodelArguments, submodels
from fedsep.views.plans import Static


@checked(takes=submodels)
def exclude(
    task: Task,
    *,
    least: Fraction = 1.0,
    weighting: Weighting = "uniform",
    **rest: Unpack[SubmodelArguments],
) -> FedSep:
    r"""HeteroFL in which clients of a capability below ``least`` do nothing, and are sent nothing.

    Cohorts are those of the other methods: a weak client keeps its seat and leaves it empty. A method that uses weak
    clients has something to show only where it is ahead of this.

    Args:
        task: The local problem f.
        least: The lowest capability that takes part; 1: only clients that hold the whole model.
        weighting: ``uniform``, or ``samples``: by a client's number of examples.
        **rest: The reduction, the wires, the local steps: what ``submodels`` takes.

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
    return submodels(task, Static(), weighting=weighting, fleet=Fleet(least=least), **rest)
