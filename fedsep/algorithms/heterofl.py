"""HeteroFL: every client trains the first units of each layer, as many as it can hold."""

from __future__ import annotations

from typing import Unpack

from fedsep.core import Task
from fedsep.fedsep import FedSep, Weighting
from fedsep.ranges import checked
from fedsep.submodels import SubmodelArguments, submodels
from fedsep.views.plans import Static


@checked(takes=submodels)
def heterofl(
    task: Task,
    *,
    weighting: Weighting = "uniform",
    **rest: Unpack[SubmodelArguments],
) -> FedSep:
    r"""Local SGD on nested sub-models; each coordinate is averaged over the clients that hold it.

    A client of capability p gets units 0 .. ceil(p n) - 1 of every group of n (channels that a residual sum adds are
    one group);  x_j <- x_j + sum_m w_m dy_mj / sum_m w_m over the clients m that hold coordinate j, and x_j stays where
    nobody does. At capability 1 and with all classes everywhere this is FedAvg.

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
        Diao et al. 2021, arXiv:2010.01264. Its public code at first had one block a stage in what it calls ResNet-18
        (B1.1 in docs/sub-models.md): give the number of blocks to ``models.resnet``. Its scaler and static batch
        normalisation are the model's affair here (``models.resnet``, ``models.small_cnn``).
    """
    return submodels(task, Static(), weighting=weighting, **rest)
