"""Federated Dropout: every client trains units that are drawn for it anew every round."""

from __future__ import annotations

from typing import Unpack

from fedsep.core import Task
from fedsep.fedsep import FedSep, Weighting
from fedsep.models.untied import split
from fedsep.ranges import checked
from fedsep.submodels import SubmodelArguments, submodels, table_of
from fedsep.views.plans import Random


@checked(takes=submodels)
def federated_dropout(
    task: Task,
    *,
    untied: bool = False,
    weighting: Weighting = "uniform",
    **rest: Unpack[SubmodelArguments],
) -> FedSep:
    r"""Local SGD on random sub-models.

    A client of capability p gets the first ceil(p n) units of a random order of every group of n, drawn from the key
    that both ends have; averaged as by ``heterofl``. At capability 1 it is FedAvg, in any order of the units.

    Args:
        task: The local problem f.
        untied: Draws units for every layer by itself, as the public code of FedRolex's comparison does, also where a
            residual sum adds one layer's units to another's. Such a sub-model computes something else than the server's
            model, even at capability 1; for comparison with published figures only.
        weighting: ``uniform``, or ``samples``: by a client's number of examples.
        **rest: The reduction, the wires, the local steps: what ``submodels`` takes.

    Bytes:
        up: 4 * p + ceil(classes / 8) + 4 * numbers
        down: 4 * p

    p is the number of parameters of the client's sub-model; classes are told with ``own_classes`` only; numbers
    is that of the client's units with ``reduce`` importance, else 0.

    Memory:
        Server: the model. Client: nothing between rounds.

    Reference:
        Caldas et al. 2018, arXiv:1812.07210, with a share for each client as in FedRolex (arXiv:2212.01548). There
        the layers of a residual stream are drawn independently (B2 in docs/sub-models.md): ``untied=True``.
    """
    if untied:
        rest["units"] = split(table_of(task, rest.get("units")), task.init())
    return submodels(task, Random(), weighting=weighting, **rest)
