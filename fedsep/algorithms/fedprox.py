"""FedProx: FedAvg whose clients are held near the server's model."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep import downlinks
from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import NonNegative, checked
from fedsep.servers.optimize import Rule
from fedsep.wires.dense import Dense


@checked(takes=sgd)
def fedprox(
    task: Task,
    *,
    mu: NonNegative = 0.01,
    server: Rule | None = None,
    weighting: Weighting = "samples",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    seed: int = 0,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""FedAvg on f(y) + mu/2 |y - x_t|^2.

    y_i = y_{i-1} - lr (grad f(y_{i-1}; B_i) + mu (y_{i-1} - x_t)); the rest is FedAvg, which mu = 0 gives exactly.

    Args:
        task: The local problem f.
        mu: Strength of the proximal term.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``samples``: by a client's number of examples; ``uniform``: equal.
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
        Li et al. 2020, arXiv:1812.06127.
    """
    learner = sgd(task, proximal=mu, **local)
    return FedSep(
        learner,
        uplink=uplink or Dense(),
        weighting=weighting,
        **downlinks.by_wire(task.init(), downlink, server, seed),
    )
