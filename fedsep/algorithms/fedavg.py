"""FedAvg: the identity on every part but the learner."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep import downlinks
from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import checked
from fedsep.servers.optimize import Rule
from fedsep.wires.dense import Dense


@checked(takes=sgd)
def fedavg(
    task: Task,
    *,
    server: Rule | None = None,
    weighting: Weighting = "samples",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    seed: int = 0,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""Local SGD from the server's model, averaged.

    y_0 = x_t;  y_i = y_{i-1} - lr grad f(y_{i-1}; B_i), i = 1..I;  x_{t+1} = x_t + sum_m w_m (y_I - y_0) / sum_m w_m.

    Args:
        task: The local problem f.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``samples``: w_m is the client's number of examples; ``uniform``: 1.
        uplink: How a change is sent, from ``fedsep.wires``; float32 by default.
        downlink: ``wires.dense`` sends the model, in float32 by default; any other wire sends the server's changes, and
            the server feeds its error back.
        seed: Of what a downlink draws.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * d
        down: 4 * d

    Memory:
        Server: the model. Client: nothing between rounds.

    Reference:
        McMahan et al. 2017, arXiv:1602.05629. ``weighting="uniform"`` is line 20 of FedSep's Algorithm 1.
    """
    learner = sgd(task, **local)
    return FedSep(
        learner,
        uplink=uplink or Dense(),
        weighting=weighting,
        **downlinks.by_wire(task.init(), downlink, server, seed),
    )
