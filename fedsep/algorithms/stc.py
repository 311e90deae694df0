"""Sparse ternary compression, both ways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

from fedsep import downlinks, tree
from fedsep.core import FedSepError, Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import Count, Fraction, checked
from fedsep.servers.optimize import Rule
from fedsep.wires.error_feedback import error_feedback
from fedsep.wires.indices import IndexName, index_code
from fedsep.wires.kept import kept, one_of
from fedsep.wires.scales import ScaleBits
from fedsep.wires.sign import Sign
from fedsep.wires.topk import TopK


@checked(takes=sgd)
def stc(
    task: Task,
    *,
    k: Count | None = None,
    fraction: Fraction | None = None,
    k_down: Count | None = None,
    scale_bits: ScaleBits = 32,
    index: IndexName = "golomb",
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    seed: int = 0,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""k signs, one magnitude and k positions, up and down, with error feedback at both ends.

    C(u)_j = sign(u_j) mu on the k largest coordinates of u, mu the mean of their magnitudes, else 0.
    Up: u = e_m + (y_I - y_0), C(u) is sent, e_m <- u - C(u). Down: the server moves by mean_m C(u_m), sends C of what
    it is ahead of the clients' copy, and keeps the rest.

    Args:
        task: The local problem f.
        k: Coordinates of a message, at most d.
        fraction: The same as a part of d, rounded up. Give one of the two.
        k_down: Coordinates of a message to the clients; as on the uplink by default.
        scale_bits: Of the magnitude: 32, or its logarithm in 8.
        index: How positions are sent: ``golomb`` (Golomb-Rice on the gaps), ``packed`` or ``int32``.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``uniform`` or ``samples``.
        uplink: How a change is sent instead; wrap it in error feedback yourself.
        downlink: How the server's changes are sent instead, its error fed back by the server; ``wires.dense``
            sends the whole model.
        seed: Of what a downlink draws.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: ceil(gaps / 8) + ceil(k / 8) + scale_bits / 8
        down: ceil(gaps_down / 8) + ceil(k_down / 8) + scale_bits / 8

    gaps is the number of bits of the positions in Golomb-Rice code, about k (log2(d / k) + 1.5). In round 0 nothing is
    sent down. A client that was away is sent the messages of all rounds it missed, or the model (4 d) when that is
    smaller.

    Memory:
        Server: the model, the clients' copy of it, and messages of at most 4 d bytes. Client: e_m and its copy, 8 d.

    Reference:
        Sattler et al. 2019, arXiv:1903.02891. There the server resends the sum of what a client missed; here the
        messages.
    """
    start = task.init()
    d = tree.size(start)
    one_of("stc", k, fraction)
    up = TopK(kept("stc", k, fraction, d), values=Sign(scale_bits), index=index_code(index))
    if k_down is not None and k_down > d:
        raise FedSepError(f"stc: k_down must be at most {d}, the number of coordinates of the message (got {k_down})")
    down = up if k_down is None else replace(up, k=k_down)
    return FedSep(
        sgd(task, **local),
        uplink=uplink or error_feedback(up),
        weighting=weighting,
        **downlinks.by_wire(start, downlink or down, server, seed),
    )
