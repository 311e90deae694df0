"""FetchSGD: linear sketches up, the largest coordinates of their sum down."""

from __future__ import annotations

from typing import Unpack

from fedsep import tree
from fedsep.codecs.patched import Patched
from fedsep.core import FedSepError, Task
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.schedules import Schedule
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import Count, Momentum, Positive, checked
from fedsep.servers.fetchsgd import ErrorUpdate, FetchSGD
from fedsep.servers.track import Track
from fedsep.views.changes import Changes
from fedsep.wires.count_sketch import CountSketchWire, Table, require_odd

_ROWS, _FEW = 5, 50  # a table of fewer numbers has one row


@checked(takes=sgd)
def fetchsgd(
    task: Task,
    *,
    p: Count,
    rows: Count | None = None,
    k: Count | None = None,
    server_lr: Positive = 1.0,
    server_momentum: Momentum = 0.0,
    error_update: ErrorUpdate = "zero_cells",
    lr_in_error: bool = False,
    mask_momentum: bool = True,
    server_schedule: Schedule | None = None,
    weighting: Weighting = "uniform",
    seed: int = 0,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""Clients send count sketches of their changes; the server opens their sum and sends its k largest coordinates.

    Up: S (y_I - y_0), a table of r rows and c cells. Server: T = mean_m S (y_I - y_0)_m; M <- rho M + T; E <- E + M;
    D = top_k(median over rows of E's estimates); x <- x + eta_g D; the cells that S D touches become 0 in E and M.
    Clients remember nothing but the model: momentum and error live in two tables on the server. Down: the coordinates
    that changed since the client was last seen. With one row, c = k = d and rho = 0 this is FedAvg.

    It takes no other ``uplink``, ``server`` or ``downlink``: the sketch is the message, which only a server that adds
    tables can open; momentum, rate and error are that server's own; and the k coordinates it moves are the news.

    Args:
        task: The local problem f.
        p: Numbers in a table, r c, at most d.
        rows: r, odd; None: 5, or 1 where p < 50. It must divide p.
        k: Coordinates that the server moves in a round, at most d. None: c / 10, at least 1. Tune k / c.
        server_lr: eta_g.
        server_momentum: rho.
        error_update: ``zero_cells`` sets the cells that S D touches to 0 (the authors' code: subtracting made it
            diverge); ``subtract`` takes S D off, as the paper prints it.
        lr_in_error: E <- E + eta_g M and x <- x + D, as the paper prints it; it differs only under a schedule of eta_g.
        mask_momentum: Whether the cells that S D touches become 0 in M, too (the authors' code does it).
        server_schedule: Factor of server_lr by round, from ``fedsep.learners``.
        weighting: ``uniform`` or ``samples``.
        seed: Of the hashes; the same on both ends.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * p
        down: min(8 * changed, 4 * d)

    changed is the number of coordinates that the last round changed, at most k. Half of what is sent down are
    positions.

    Memory:
        Server: the model, the round in which each coordinate changed, two tables: 8 d + 8 p. Client: the model, 4 d.

    Reference:
        Rothchild et al. 2020, arXiv:2007.07682, which sketches one gradient a round; here it is the change of I local
        steps, with their learning rate in it. Defaults as in the authors' code.
    """
    start = task.init()
    d = tree.size(start)
    rows = rows or (_ROWS if p >= _FEW else 1)
    require_odd("fetchsgd", rows)
    if p > d:
        raise FedSepError(f"fetchsgd: p must be at most d = {d}, the number of model parameters (got {p})")
    if p % rows:
        raise FedSepError(f"fetchsgd: p must be a multiple of rows = {rows} (got {p})")
    k = max(1, round(p / rows / 10)) if k is None else k
    if k > d:
        raise FedSepError(f"fetchsgd: k must be at most d = {d}, the number of model parameters (got {k})")
    sketch = Table(rows, p // rows, seed)
    server = FetchSGD(sketch, k, server_lr, server_momentum, error_update, lr_in_error, mask_momentum, server_schedule)
    return FedSep(
        sgd(task, **local),
        codec=Patched(start),
        view=Changes(),
        uplink=CountSketchWire(sketch, opened=False),
        server=Track(server),
        weighting=weighting,
    )
