"""FedSep over a re-drawn sketch whose coordinates travel in a few bits, both ways."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Unpack

from fedsep import downlinks, random, tree
from fedsep.codecs.spaces import Sketched
from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.operators import MakeOperator, dct
from fedsep.ranges import Count, Positive, Range, checked
from fedsep.rates import USUAL_LR, check_sketch, server_rate, sketch_calendar
from fedsep.servers.optimize import Optimize, Rule
from fedsep.servers.sgd import SGDRule
from fedsep.wires import error_feedback, lloyd_max
from fedsep.wires.error_feedback import forgetting

Bits = Annotated[int, Range(ge=1, le=8)]

_DOWN = 1  # what the shared key is folded with for the downlink's draws


@checked(takes=sgd)
def fedsep_quantised(
    task: Task,
    *,
    p: Count,
    bits: Bits = 1,
    bits_down: Bits | None = None,
    scale_bits: Literal[8, 32] = 8,
    period: Count | Literal["auto", "never"] = "auto",
    server_lr: Positive | None = None,
    server: Rule | None = None,
    operator: MakeOperator = dct,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    seed: int = 0,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""p coordinates of a few bits and one scale, up and down: y = theta_0 + S^+ x, S re-drawn every ``period`` rounds.

    Up: q_m = Q(e_m + (S^+)^T (y_I - y_0)), e_m <- what Q lost. Server: x <- x + eta_g mean_m q_m. Down: what the
    server's x is ahead of the clients' copy, v = Q(x - x'), x' <- x' + v on both ends. At a period's end both ends fold
    theta_0 <- theta_0 + S^+ x', x, x', e_m <- 0, and draw the next S from a key that all share.

    A coordinate of S dy is a sum of many terms and so close to Gaussian: Q is the Lloyd-Max code of the normal density,
    with one scale per message, and one bit a coordinate costs little. The default operator has exactly orthonormal
    rows without a factorisation, so re-drawing it costs next to nothing.

    Args:
        task: The local problem f; its initial parameters are the first anchor on both ends.
        p: Communication dimension, at most d, the number of model parameters.
        bits: Of a coordinate on the uplink.
        bits_down: Of a coordinate on the downlink; as many as on the uplink by default.
        scale_bits: Of a message's scale; 8 sends its logarithm.
        period: Rounds between two sketches; ``never`` keeps the first. ``auto``: 2 for p <= d/150, 3 to d/60,
            5 to d/20, 10 above. Tune it on validation data.
        server_lr: eta_g; None: c min(d/p, 6 sqrt(d/p)), where S S^T is about c I (c = 1 with orthonormal rows).
        server: Server optimiser of x, from ``fedsep.servers``, instead of averaging at ``server_lr``; its state
            starts anew with every sketch.
        operator: Makes S, from ``fedsep.operators``.
        weighting: ``uniform`` (line 20 of Algorithm 1) or ``samples``.
        uplink: Sends the coordinates instead of ``bits``, from ``fedsep.wires``; wrap it in error feedback yourself,
            which then forgets at every re-draw, too.
        downlink: Sends the server's change instead of ``bits_down``, without error feedback of its own: the server
            keeps what a contracting wire leaves out, and goes on from the clients' copy with any other.
        seed: Of the sketches; the same on both ends.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: ceil(p * bits / 8) + scale_bits / 8
        down: ceil(p * bits_down / 8) + scale_bits / 8

    In round 0 nothing is sent down. A client that was away is sent the messages of all rounds it missed, or
    the model (4 d, and 4 p inside a period) when that is smaller.

    Memory:
        Server: the anchor, x, the clients' copy of x, and messages of at most 4 d bytes. Client: the anchor, x and
        its error, 4 d + 8 p.

    Reference:
        The codec is Remark 2 of FedSep (NeurIPS 2023) with the pseudo-inverse; the sketch that is re-drawn and its
        quantisation are this library's. Few bits of rotated coordinates: DRIVE (arXiv:2105.08339), EDEN
        (arXiv:2108.08842), which have p = d. Error feedback: arXiv:1901.09847.
    """
    start = task.init()
    d = tree.size(start)
    check_sketch("fedsep_quantised", p, d, server, server_lr)
    calendar = sketch_calendar(period, p, d)
    key = random.fold(random.key(seed), p)
    space = Sketched(start, p, calendar, key, operator)
    rate = server_rate("fedsep_quantised", p, d, space.scale, server_lr, local.get("lr", USUAL_LR))
    up = forgetting(uplink or error_feedback(lloyd_max(bits=bits, scale_bits=scale_bits)), calendar.renewed)
    down = downlink or lloyd_max(bits=bits_down or bits, scale_bits=scale_bits)
    rule = Optimize({"omega": server or SGDRule(rate)})
    parts = downlinks.announced(space, down, rule, random.fold(key, _DOWN), p)
    return FedSep(sgd(task, **local), uplink=up, weighting=weighting, **parts)
