"""Deep Gradient Compression: Top-K with momentum inside the memory, and a warm-up."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep import downlinks
from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import Count, Fraction, Momentum, checked
from fedsep.servers.optimize import Rule
from fedsep.wires.momentum_correction import momentum_correction
from fedsep.wires.per_tensor import Per
from fedsep.wires.staged import staged
from fedsep.wires.topk import topk


@checked(takes=sgd)
def dgc(
    task: Task,
    *,
    fraction: Fraction = 0.001,
    correction: Momentum = 0.9,
    nesterov: bool = False,
    masking: bool = True,
    warmup: tuple[Fraction, ...] = (0.25, 0.0625, 0.015625, 0.004),
    warmup_rounds: Count = 1,
    per: Per = "tensor",
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    seed: int = 0,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""Every client sends the largest coordinates of its summed-up momentum.

    g = y_I - y_0;  u_m <- m u_m + g;  v_m <- v_m + u_m;  the largest coordinates of v_m are sent, and of these v_m and
    u_m are set to 0;  x <- x + mean_m of what was sent. Down: the coordinates that changed since the client was last
    seen, or the whole model when that has fewer bytes. With fraction 1 and m = 0 this is FedAvg.

    The momentum is the client's: give the server none. Gradients are clipped where they are taken, by ``clip`` of the
    local steps; the paper scales its bound by the root of the number of workers. With one local step this is the
    paper's method, with more the change of a round stands for the gradient.

    Args:
        task: The local problem f.
        fraction: Part of the coordinates that is sent after the warm-up, rounded up.
        correction: m, the momentum. The local steps' own ``momentum`` is another one, inside a round.
        nesterov: u <- m (u + g), v <- v + u + g.
        masking: Whether u is set to 0 where v is sent (factor masking).
        warmup: Fractions of the first rounds, one after the other.
        warmup_rounds: How many rounds each of them is used.
        per: The largest of each ``tensor``, as in the paper, or of the whole model (``global``).
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``uniform`` or ``samples``.
        uplink: How a change is sent instead, with its momentum and its warm-up.
        downlink: How the server's changes are sent instead, its error fed back by the server; ``wires.dense`` sends
            the whole model.
        seed: Of what a downlink draws.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 8 * k
        down: min(8 * changed, 4 * d)

    k is the sum over the tensors of ceil(fraction * n), fraction that of the round; changed is the number of
    coordinates that the last round changed.

    Memory:
        Server: the model, and the round in which each coordinate changed. Client: u_m, v_m and a copy of the model,
        12 d.

    Reference:
        Lin et al. 2018, arXiv:1712.01887. The warm-up's default is the paper's; its threshold from a sample is not
        used: the largest coordinates are found exactly. In practice vectors are often sent densely: here they are not.
    """
    start = task.init()
    wires = tuple(topk(fraction=part, per=per) for part in (*warmup, fraction))
    corrected = momentum_correction(
        staged(wires, rounds=warmup_rounds), momentum=correction, nesterov=nesterov, masking=masking
    )
    down = downlinks.changed(start, server) if downlink is None else downlinks.by_wire(start, downlink, server, seed)
    return FedSep(sgd(task, **local), uplink=uplink or corrected, weighting=weighting, **down)
