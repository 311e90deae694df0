"""EDEN: few bits a coordinate of the whole model after a random rotation; at one bit DRIVE."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep import downlinks
from fedsep.core import FedSepError, Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import Fraction, checked
from fedsep.servers.optimize import Rule
from fedsep.wires.eden import eden as rotated
from fedsep.wires.lloyd_max import Bits
from fedsep.wires.scales import ScaleBits


@checked(takes=sgd)
def eden(
    task: Task,
    *,
    bits: Bits = 1,
    fraction: Fraction = 1.0,
    bits_down: Bits | None = None,
    scale_bits: ScaleBits = 32,
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    seed: int = 0,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""Every client rotates its change at random and sends a few bits a coordinate; unbiased, no error feedback.

    v = y_I - y_0;  z = R v, R random and made from the round's key;  q the Lloyd-Max levels of z;  what is read is
    R^T q |v|^2 / <z, q>, which is unbiased over R;  x <- x + mean_m of these. It is the codec of FedSep's quantised
    sketch at p = d and with a rotation of each client's own. Its squared error is pi / 2 - 1 of |v|^2 at one bit.

    Args:
        task: The local problem f.
        bits: Of a coordinate on the uplink.
        fraction: Part of the rotated coordinates that is sent: fewer than one bit a coordinate.
        bits_down: Of a coordinate on the downlink, where the server goes on from what the clients read; None: the
            whole model in float32.
        scale_bits: Of a message's scale.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``uniform`` or ``samples``.
        uplink: How a change is sent instead, from ``fedsep.wires``.
        downlink: How the server's changes are sent, from ``fedsep.wires``; by default (and by ``wires.dense``) the
            whole model is sent.
        seed: Of what a downlink draws.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: ceil(ceil(fraction * d) * bits / 8) + scale_bits / 8
        down: 4 * d

    With bits_down a message of ceil(d * bits_down / 8) + scale_bits / 8 goes down (nothing in round 0), or what a
    client missed, or the model when that is smaller.

    Memory:
        Server: the model; with bits_down also the clients' copy of it, and messages. Client: nothing, or its copy, 4 d.

    Reference:
        Vargaftik et al. 2022, arXiv:2108.08842; at one bit 2021, arXiv:2105.08339. The padding of both is avoided.
    """
    if bits_down is not None and downlink is not None:
        raise FedSepError("eden: give bits_down or downlink, not both")
    if bits_down is not None:
        downlink = rotated(bits=bits_down, scale_bits=scale_bits)
    return FedSep(
        sgd(task, **local),
        uplink=uplink or rotated(bits=bits, fraction=fraction, scale_bits=scale_bits),
        weighting=weighting,
        **downlinks.by_wire(task.init(), downlink, server, seed),
    )
