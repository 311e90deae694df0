"""A control: every client trains units that are drawn for it once."""

from __future__ import annotations

from typing import Unpack

from fedsep.core import Task
from fedsep.fedsep import FedSep, Weighting
from fedsep.ranges import Part, checked
from fedsep.submodels import RankedArguments, submodels
from fedsep.views.plans import KeptRandom


@checked(takes=submodels)
def kept_random(
    task: Task, *, common: Part = 0.0, weighting: Weighting = "uniform", **rest: Unpack[RankedArguments]
) -> FedSep:
    r"""Local SGD on random sub-models, each client's being the same for ever.

    As ``federated_dropout``, but the order of the units is drawn from the key of a client's first accepted round. What
    a method with personal masks gains over this comes from the masks, and not from their being kept.

    Args:
        task: The local problem f.
        common: Weight of the order that all clients have in common in every client's, as in ``fedsep_mask``.
        weighting: ``uniform``, or ``samples``: by a client's number of examples.
        **rest: The reduction, the wires, the local steps: what ``submodels`` takes.

    Bytes:
        up: 4 * p + ceil(classes / 8) + 4 * numbers + first
        down: 4 * p

    p is the number of parameters of the client's sub-model; classes are told with ``own_classes`` only; numbers
    is that of the client's units with ``reduce`` importance, else 0. first is 8 in a client's first round, the key, and
    else 0.

    Memory:
        Server: the model, and each client's key. Client: its key.

    Reference:
        None; the control of ``fedsep_mask``.
    """
    return submodels(task, KeptRandom(common), weighting=weighting, **rest)
