"""A control: all clients train the same units, drawn anew every round."""

from __future__ import annotations

from typing import Unpack

from fedsep.core import Task
from fedsep.fedsep import FedSep, Weighting
from fedsep.ranges import checked
from fedsep.submodels import RankedArguments, submodels
from fedsep.views.plans import SharedRandom


@checked(takes=submodels)
def shared_random(
    task: Task, *, seed: int = 0, weighting: Weighting = "uniform", **rest: Unpack[RankedArguments]
) -> FedSep:
    r"""Local SGD on random sub-models, nested in one another in each round.

    As ``federated_dropout``, but the order of the units is drawn once a round for all clients. What a shared plan that
    looks at data gains over this comes from the data, and not from its being shared.

    Args:
        task: The local problem f.
        seed: Of the draws.
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
        None; the control of ``fedsep_shared``.
    """
    return submodels(task, SharedRandom(seed), weighting=weighting, **rest)
