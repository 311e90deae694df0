"""Scaled signs with error feedback."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep import downlinks
from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import checked
from fedsep.servers.optimize import Rule
from fedsep.wires.error_feedback import error_feedback
from fedsep.wires.per_tensor import Per
from fedsep.wires.scales import ScaleBits
from fedsep.wires.sign import sign


@checked(takes=sgd)
def signsgd_ef(
    task: Task,
    *,
    per: Per = "tensor",
    scale_bits: ScaleBits = 32,
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    seed: int = 0,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""One bit a coordinate: every client sends the signs of its change and their mean magnitude.

    u = e_m + (y_I - y_0);  q_m = |u|_1 / n sign(u), for each tensor by itself;  e_m <- u - q_m;  x <- x + mean_m q_m.
    The mean of signs is not a sign: the download is dense, unless ``downlink`` is ``wires.sign`` too. 0 counts as
    positive, and what that adds is taken back by e_m. What its authors' code calls signSGD is the scaled sign here.

    Args:
        task: The local problem f.
        per: One magnitude for each ``tensor``, or one for the whole model (``global``): two different methods.
        scale_bits: Of a magnitude: 32, or its logarithm in 8.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``uniform`` or ``samples``.
        uplink: How a change is sent instead, from ``fedsep.wires``; wrap it in error feedback yourself.
        downlink: How the server's changes are sent, from ``fedsep.wires``, its error fed back by the server; by default
            (and by ``wires.dense``) the whole model is sent.
        seed: Of what a downlink draws.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: signs + tensors * scale_bits / 8
        down: 4 * d

    signs is the sum of ceil(n / 8) over the tensors (one tensor of n = d with ``global``). By ``downlink=wires.sign()``
    a message of ceil(d / 8) + 4 goes down instead, or what a client missed.

    Memory:
        Server: the model; with another downlink also the clients' copy of it, and messages. Client: e_m, 4 d.

    Reference:
        Karimireddy et al. 2019, arXiv:1901.09847 (one step; here the change of a round).
    """
    return FedSep(
        sgd(task, **local),
        uplink=uplink or error_feedback(sign(per=per, scale_bits=scale_bits)),
        weighting=weighting,
        **downlinks.by_wire(task.init(), downlink, server, seed),
    )
