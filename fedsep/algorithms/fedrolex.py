"""FedRolex: the window of units that a client trains moves on by one every round."""

from __future__ import annotations

from typing import Unpack

from fedsep.core import Task
from fedsep.fedsep import FedSep, Weighting
from fedsep.ranges import checked
from fedsep.submodels import SubmodelArguments, submodels
from fedsep.views.plans import Rolling


@checked(takes=submodels)
def fedrolex(
    task: Task,
    *,
    weighting: Weighting = "uniform",
    **rest: Unpack[SubmodelArguments],
) -> FedSep:
    r"""Local SGD on sub-models that roll over the layers, so that all units are trained alike.

    In round t a client of capability p gets units (t + i) mod n, i < ceil(p n), of every group of n; averaged as by
    ``heterofl``, which this is in round 0. At capability 1 it is FedAvg.

    Args:
        task: The local problem f.
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
        Alam et al. 2022, arXiv:2212.01548. Deviations from the public code (numbers as in docs/sub-models.md): the
        window moves up, as in the paper, not down, which are the same windows in another order (B3.8); coordinates are
        divided by plain counts of the clients that hold them, where the code weights normalisations and the classifier
        by counters that go on over rounds and clients, so that it is not FedAvg at capability 1 (B3.1); evaluation has
        calibrated statistics (B3.6).
    """
    return submodels(task, Rolling(), weighting=weighting, **rest)
