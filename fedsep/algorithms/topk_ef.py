"""Top-K with error feedback: FedAvg that sends its largest changes."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep import downlinks
from fedsep.core import FedSepError, Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import Count, Fraction, checked
from fedsep.servers.optimize import Rule
from fedsep.wires.error_feedback import error_feedback
from fedsep.wires.indices import IndexName
from fedsep.wires.kept import kept, one_of
from fedsep.wires.per_tensor import Per
from fedsep.wires.topk import topk


@checked(takes=sgd)
def topk_ef(
    task: Task,
    *,
    k: Count | None = None,
    fraction: Fraction | None = None,
    per: Per = "global",
    values: Wire[Any] | None = None,
    index: IndexName = "int32",
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    seed: int = 0,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""Every client sends the k largest coordinates of its change and of what it has not sent yet.

    u = e_m + (y_I - y_0);  c_m = top_k(u);  e_m <- u - c_m;  x <- x + mean_m c_m. Down: the coordinates that changed
    since the client was last seen, with their positions, or the whole model when that has fewer bytes. With k = d
    this is FedAvg.

    The memory e_m is part of the change and so has the learning rate in it already: a schedule of lr does not rescale
    it. It waits while its client is away. Global and per-tensor Top-K are different methods.

    Args:
        task: The local problem f.
        k: Coordinates that a client sends, at most d.
        fraction: The same as a part of d, rounded up. Give k, fraction or uplink.
        per: ``global`` compares all coordinates of the model; ``tensor`` sends k (or the fraction) of each tensor.
        values: How the k values are sent, from ``fedsep.wires``; float32 by default.
        index: How their positions are sent: ``int32``, ``packed`` or ``golomb``.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default. With momentum every coordinate
            changes in every round, and the download is dense.
        weighting: ``uniform`` or ``samples``.
        uplink: How a change is sent instead of by Top-K; wrap it in error feedback yourself.
        downlink: How the server's changes are sent instead, from ``fedsep.wires``, its error fed back by the server;
            ``wires.dense`` sends the whole model.
        seed: Of what a downlink draws.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 8 * k
        down: min(8 * changed, 4 * d)

    changed is the number of coordinates that the last round changed: at most k times the cohort. Half of what is
    sent are positions, counted under ``index``; papers that count values alone have 4 * k and 4 * changed.

    Memory:
        Server: the model, and the round in which each coordinate changed. Client: e_m and a copy of the model, 8 d.

    Reference:
        Stich et al. 2018, arXiv:1809.07599 (one step, memory scaled by lr). Stich 2019, arXiv:1805.09767: local steps.
    """
    start = task.init()
    if uplink is None:
        one_of("topk_ef", k, fraction)
        sizes = [part.numel() for part in start.values()]
        kept("topk_ef", k, fraction, sum(sizes) if per == "global" else min(sizes))
    elif k is not None or fraction is not None:
        raise FedSepError("topk_ef: give k, fraction or uplink, one of them")
    down = downlinks.changed(start, server) if downlink is None else downlinks.by_wire(start, downlink, server, seed)
    return FedSep(
        sgd(task, **local),
        uplink=uplink or error_feedback(topk(k, fraction=fraction, per=per, values=values, index=index)),
        weighting=weighting,
        **down,
    )
