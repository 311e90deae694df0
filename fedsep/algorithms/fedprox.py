"""FedProx: FedAvg whose clients are held near the server's model."""

from __future__ import annotations

from typing import Any

from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.schedules import Schedule
from fedsep.learners.sgd import sgd
from fedsep.ranges import Count, Momentum, NonNegative, Positive, checked
from fedsep.servers.optimize import Optimize, Rule
from fedsep.servers.sgd import SGDRule
from fedsep.wires.dense import Dense


@checked
def fedprox(
    task: Task,
    *,
    mu: NonNegative = 0.01,
    lr: Positive = 0.1,
    steps: Count | None = None,
    epochs: Count | None = None,
    batch_size: Count | None = 64,
    momentum: Momentum = 0.0,
    weight_decay: NonNegative = 0.0,
    clip: Positive | None = None,
    schedule: Schedule | None = None,
    server: Rule | None = None,
    weighting: Weighting = "samples",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
) -> FedSep:
    r"""FedAvg on f(y) + mu/2 |y - x_t|^2.

    y_i = y_{i-1} - lr (grad f(y_{i-1}; B_i) + mu (y_{i-1} - x_t)); the rest is FedAvg, which mu = 0 gives exactly.

    Args:
        task: The local problem f.
        mu: Strength of the proximal term.
        lr: eta, the local learning rate.
        steps: I, the local steps in a round; 5 if neither steps nor epochs are given.
        epochs: Passes over a client's data in a round, instead of steps.
        batch_size: Examples in a minibatch; None takes all.
        momentum: Local momentum, started anew in every round.
        weight_decay: Local weight decay.
        clip: Largest norm of a local gradient, the proximal term's included.
        schedule: Factor of lr by round, from ``fedsep.learners``.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``samples``: by a client's number of examples; ``uniform``: equal.
        uplink: How a change is sent, from ``fedsep.wires``; float32 by default.
        downlink: How the model is sent; float32 by default.

    Bytes:
        up: 4 * d
        down: 4 * d

    Memory:
        Server: the model. Client: nothing between rounds.

    Reference:
        Li et al. 2020, arXiv:1812.06127.
    """
    learner = sgd(
        task,
        lr=lr,
        steps=steps,
        epochs=epochs,
        batch_size=batch_size,
        momentum=momentum,
        weight_decay=weight_decay,
        clip=clip,
        proximal=mu,
        schedule=schedule,
    )
    return FedSep(
        learner,
        uplink=uplink or Dense(),
        downlink=downlink or Dense(),
        server=Optimize(server or SGDRule()),
        weighting=weighting,
    )
