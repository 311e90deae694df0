"""QSGD: a few levels a coordinate, unbiased."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep import downlinks
from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import Count, checked
from fedsep.servers.optimize import Rule
from fedsep.wires.qsgd import Levels
from fedsep.wires.qsgd import qsgd as quantised


@checked(takes=sgd)
def qsgd(
    task: Task,
    *,
    levels: Levels = 7,
    bucket: Count = 512,
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    seed: int = 0,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""Every client sends its change in few levels, rounded at random with the right mean; no error feedback.

    v = y_I - y_0 in buckets of ``bucket`` coordinates;  coordinate j of a bucket is |v| l / s, l one of the two whole
    numbers next to s v_j / |v|, at random so that the mean is v_j;  x <- x + mean_m of these. The variance is at most
    min(n / s^2, sqrt(n) / s) |v|^2 for a bucket of n.

    Args:
        task: The local problem f.
        levels: s: 1, 3, 7 and 15 fill 2, 3, 4 and 5 bits.
        bucket: Coordinates that share a norm.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``uniform`` or ``samples``.
        uplink: How a change is sent instead, from ``fedsep.wires``.
        downlink: How the server's changes are sent, from ``fedsep.wires``; by default (and by ``wires.dense``) the
            whole model is sent.
        seed: Of what a downlink draws.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * ceil(d / bucket) + ceil(d * ceil(log2(2 * levels + 1)) / 8)
        down: 4 * d

    The paper's Elias code, shorter at few levels, is not built.

    Memory:
        Server: the model; with another downlink also the clients' copy of it, and messages. Client: nothing.

    Reference:
        Alistarh et al. 2017, arXiv:1610.02132.
    """
    return FedSep(
        sgd(task, **local),
        uplink=uplink or quantised(levels, bucket=bucket),
        weighting=weighting,
        **downlinks.by_wire(task.init(), downlink, server, seed),
    )
