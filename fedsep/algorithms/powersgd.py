"""PowerSGD: low-rank messages with a warm start, both ways, in one exchange a round."""

from __future__ import annotations

from typing import Any, Unpack

from fedsep import downlinks
from fedsep.core import Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import Count, checked
from fedsep.servers.optimize import Rule
from fedsep.wires.error_feedback import error_feedback
from fedsep.wires.low_rank import low_rank


@checked(takes=sgd)
def powersgd(
    task: Task,
    *,
    rank: Count = 1,
    rank_down: Count | None = None,
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    seed: int = 0,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""Every matrix of a change as a product of two thin ones, with error feedback at both ends.

    u = e_m + (y_I - y_0), and for each matrix U of it (first axis against the rest): P = orth(U Q_m), Q_m <- U^T P,
    P and Q_m are sent, e_m <- U - P Q_m^T. Vectors go as they are. The server moves by the mean, and sends down in the
    same way what it is ahead of the clients' copy, with a Q of its own; what that leaves out it keeps.

    The original averages P over the workers, then Q: two exchanges that make every worker's factors the same. Here is
    one exchange, each client has its own factors, and their mean has up to rank times the cohort: hence the second
    compression. Where rank is that of the matrix, nothing is left out and this is FedAvg.

    Args:
        task: The local problem f.
        rank: r, columns of P and Q.
        rank_down: The same on the downlink; as on the uplink by default.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``uniform`` or ``samples``.
        uplink: How a change is sent instead, from ``fedsep.wires``; wrap it in error feedback yourself.
        downlink: How the server's changes are sent instead; ``wires.dense`` sends the whole model.
        seed: Of what a downlink draws.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * factors
        down: 4 * factors_down

    factors is the sum over the matrices of min(rank * (rows + columns), rows * columns), and the length of the vectors;
    factors_down the same of ``rank_down``. In round 0 nothing is sent down. A client that was away is sent the messages
    of all rounds it missed, or the model (4 d) when that is smaller.

    Memory:
        Server: the model, the clients' copy of it, its Q, and messages of at most 4 d bytes. Client: e_m, its copy of
        the model, and Q: 8 d + 4 rank times the columns.

    Reference:
        Vogels et al. 2019, arXiv:1905.13727.
    """
    return FedSep(
        sgd(task, **local),
        uplink=uplink or error_feedback(low_rank(rank)),
        weighting=weighting,
        **downlinks.by_wire(task.init(), downlink or low_rank(rank_down or rank), server, seed),
    )
