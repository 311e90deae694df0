"""SCAFFOLD: FedAvg whose local steps are corrected by control variates."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep import downlinks
from fedsep.codecs.control_variate import ControlVariate
from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import Count, checked
from fedsep.servers.control_variate import Controls
from fedsep.servers.optimize import Rule
from fedsep.servers.sgd import SGDRule
from fedsep.wires.dense import Dense


@checked(takes=sgd)
def scaffold(
    task: Task,
    *,
    clients: Count,
    server: Rule | None = None,
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""Local SGD, every step corrected by the difference of the mean client's direction and the client's own.

    y <- y - lr (grad f(y; B) - c_m + c);  c_m+ = c_m - c - (y_I - x) / (I lr);  x <- x + mean_m (y_I - x) over the
    cohort;  c <- c + (1/M) sum_m (c_m+ - c_m), M counting all clients: a mean over the cohort is right only when
    everybody takes part. At any time c is the mean of all c_m, those of clients that were never invited being 0.

    Args:
        task: The local problem f.
        clients: M, the number of clients of the federation, invited or not.
        server: Server optimiser of the model, from ``fedsep.servers``; plain averaging by default. c has none.
        uplink: How dy and dc are sent, from ``fedsep.wires``; float32 by default. c is the mean of the c_m up to
            what a rounding wire loses.
        downlink: How x and c are sent; float32 by default. With any wire but ``wires.dense`` clients keep copies of
            both, 8 d, and the server sends their changes, by the rules of ``fedsep_quantised``. It must contract (c
            would keep its errors), and had better go by tensor: c has another scale than the model. A client whose copy
            proves wrong starts anew, with c_m = 0.
        **local: The local steps: what ``learners.sgd`` takes. With momentum, I lr is replaced by what a constant
            gradient moves y by; clipping bounds gradient and correction together.

    Bytes:
        up: 8 * d
        down: 8 * d

    With another downlink: nothing in round 0, then the messages that a client missed, or 8 d where that is smaller.

    Memory:
        Server: the model and c. Client: c_m, 4 d.

    Reference:
        Karimireddy et al. 2020, arXiv:1910.06378, option II.
    """
    learner = sgd(task, **local)
    controls = Controls(clients, server or SGDRule())
    parts = downlinks.followed(ControlVariate(learner), controls, task.init(), downlink)
    return FedSep(learner, uplink=uplink or Dense(), weighting="uniform", **parts)
