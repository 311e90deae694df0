"""TernGrad: three values a coordinate, unbiased."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep import downlinks
from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import Positive, checked
from fedsep.servers.optimize import Rule
from fedsep.wires.per_tensor import Per
from fedsep.wires.ternary import ternary


@checked(takes=sgd)
def terngrad(
    task: Task,
    *,
    sigma: Positive | None = 2.5,
    per: Per = "tensor",
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    seed: int = 0,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""Every client sends 0 or +- the largest magnitude of its change, at random with the right mean.

    v = y_I - y_0 cut to +- sigma standard deviations, s = max |v|, for each tensor by itself;  coordinate j is sent as
    s sign(v_j) with probability |v_j| / s, else as 0;  x <- x + mean_m of these. There is no error feedback.

    The paper's scaler sharing, one s for all workers, which would also make the download small, needs a second exchange
    in the round: it is not built, and the download is dense. Nor are first and last layers left out.

    Args:
        task: The local problem f.
        sigma: Coordinates are first cut to so many standard deviations of their tensor, which biases them a little;
            None: they are not, and the mean is exactly right.
        per: One s for each ``tensor``, or one for the whole model (``global``).
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``uniform`` or ``samples``.
        uplink: How a change is sent instead, from ``fedsep.wires``.
        downlink: How the server's changes are sent, from ``fedsep.wires``; by default (and by ``wires.dense``) the
            whole model is sent.
        seed: Of what a downlink draws.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: codes + 4 * tensors
        down: 4 * d

    codes is the sum of ceil(n / 4) over the tensors: two bits a coordinate.

    Memory:
        Server: the model; with another downlink also the clients' copy of it, and messages. Client: nothing.

    Reference:
        Wen et al. 2017, arXiv:1705.07878.
    """
    return FedSep(
        sgd(task, **local),
        uplink=uplink or ternary(clip=sigma, per=per),
        weighting=weighting,
        **downlinks.by_wire(task.init(), downlink, server, seed),
    )
