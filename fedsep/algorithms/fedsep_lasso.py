"""FedSep as the paper compresses with it: a random sketch, decoded by LASSO."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, Unpack

from torch import Tensor

from fedsep import downlinks, random, tree
from fedsep.codecs.lasso import Decoder, Encoder, Lasso, Start, normal
from fedsep.core import FedSepError, Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.lasso import squared_norm
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.operators import LinearOperator, MakeOperator
from fedsep.ranges import Count, NonNegative, Positive, checked
from fedsep.rates import USUAL_LR, check_sketch, server_rate
from fedsep.servers.optimize import Optimize, Rule
from fedsep.servers.sgd import SGDRule
from fedsep.wires.dense import Dense


@checked(takes=sgd)
def fedsep_lasso(
    task: Task,
    *,
    p: Count,
    beta: Positive = 0.003,
    start: Start = "initial",
    decoder: Decoder = "fista",
    decode_steps: Count = 10,
    tolerance: NonNegative = 1e-4,
    gamma: Positive | None = None,
    warm_start: bool = False,
    encoder: Encoder = "direct",
    terms: Count = 100,
    damping: NonNegative = 1e-3,
    private: bool = False,
    operator: MakeOperator = normal,
    server_lr: Positive | None = None,
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    seed: int = 0,
    **local: Unpack[LocalSGD],
) -> FedSep:
    """p numbers up and down: y = argmin 1/2 |S y - x|^2 + beta |y|_1, dx = S_A (S_A^T S_A)^-1 (y_I - y_0)_A.

    A is the support of y_0; x starts at S theta_0. This is the paper's codec (Eq. 4 and 5, with +J^T). Where p is far
    below d its minimiser is a sparse model that computes nothing, so decode is stopped early by default, I_dec = 10
    steps from theta_0: the method then learns about as ``fedsep_linear`` does with a fixed sketch, and slower than with
    one that is re-drawn. With ``start="zero"`` and many ``decode_steps`` the minimiser itself is decoded.

    Args:
        task: The local problem f.
        p: Communication dimension, at most d, the number of model parameters.
        beta: In units of |S^T x_1|_inf, x_1 = S theta_0; from 1 on, the start is absorbing: decode gives 0. With
            ``private`` it must be smaller, since |S_m^T x_1|_inf of a client's own sketch may be: so small that about
            one client in a million is above it, were the entries of S_m^T x_1 independent and normal; 0.4 to 0.9,
            more for larger d. What is allowed is told where it is not.
        start: Where decode starts: the ``initial`` model theta_0, made from the seed on both ends, or ``zero``.
        decoder: ``fista`` (restarted, on working sets) or ``ista``, the paper's.
        decode_steps: I_dec, proximal steps of a decode, at most.
        tolerance: Duality gap, relative to the objective, at which decode stops; 0 takes all the steps.
            Float32 does not resolve less than about 2e-6.
        gamma: Step of ista and of the Neumann series, below 2 / |S|^2; None: 1 / |S|^2. S is the shared sketch; with
            ``private`` below 1.5 / |S|^2, as those of clients have norms of their own: squared up to a third larger.
        warm_start: Whether a client's decode goes on from its last y: clients whose last rounds were the same ones
            share one computation (without, all do), and the server, which keeps no y, decodes from ``start``.
        encoder: ``direct`` for the damped system, factorised once for all clients where S is stored, and by conjugate
            gradients elsewhere; ``cg`` everywhere; or ``neumann``, the truncated series.
        terms: Q of the series, or the largest number of steps of cg.
        damping: Added to S_A^T S_A except by the series: it is singular for |A| > p and nearly so before.
        private: Each client decodes x by a sketch of its own, drawn when it enrols and kept. x then has no meaning
            that is shared: the server's model, decoded by the algorithm's sketch, is nobody's. A stored S is drawn
            anew for every client and round: choose a structured operator.
        operator: Makes S from p, d and a key; a stored matrix of entries N(0, 1/p) by default.
        server_lr: eta_g; None: from ``initial`` c min(d/p, 6 sqrt(d/p)), where S S^T is about c I, as for
            ``fedsep_linear``, since nearly all of y is in the support; from ``zero`` 1: J J^T = (S_A^T S_A)^-1 is large
            along some directions of a sparse support, and more diverges.
        server: Server optimiser of x, from ``fedsep.servers``, instead of averaging at ``server_lr``.
        weighting: ``uniform`` (line 20 of Algorithm 1) or ``samples``.
        uplink: How dx is sent, from ``fedsep.wires``; float32 by default.
        downlink: How x is sent; float32 by default. With any wire but ``wires.dense`` clients keep a copy of x, and the
            server sends its changes, by the rules of ``fedsep_quantised``: nothing in round 0, then the messages that a
            client missed, or x where that is smaller.
        seed: Of the sketch; the same on both ends.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * p
        down: 4 * p

    Memory:
        Server: x. Client: the key of its sketch; with a warm start its last y, 4 d. Both: S, 4 p d where it is stored;
            as much again and S S^T where fista takes steps on all of it, it is shared, and 4 p d is at most 256 MiB.

    Reference:
        FedSep (NeurIPS 2023), section 4.1. Deviations: the sign of Eq. (5), which has to be that of Eq. (2)'s negative;
        the system is damped, since its inverse does not exist for |A| > p; accelerated decode.
    """
    params = task.init()
    flat = tree.ravel(params)[0]
    d = flat.numel()
    check_sketch("fedsep_lasso", p, d, server, server_lr)
    key = random.fold(random.key(seed), p)
    sketch = operator(p, d, key)
    x = sketch.mv(flat)
    codec = Lasso(
        first=params if start == "initial" else tree.zeros_like(params),
        p=p,
        beta=_absolute(beta, float(sketch.rmv(x).abs().max()), _least(sketch, x) if private else None),
        key=key,
        operator=operator,
        decoder=decoder,
        steps=decode_steps,
        tolerance=tolerance,
        gamma=_gamma(sketch, gamma, encoder, decoder == "ista" or encoder == "neumann", 1.5 if private else 2.0),
        warm_start=warm_start,
        encoder=encoder,
        terms=terms,
        damping=damping,
        private=private,
    )
    if start == "zero":
        rate = 1.0 if server_lr is None else server_lr
    else:
        rate = server_rate("fedsep_lasso", p, d, sketch.scale, server_lr, local.get("lr", USUAL_LR))
    parts = downlinks.followed(codec, Optimize(server or SGDRule(rate)), params, downlink, seed)
    return FedSep(sgd(task, **local), uplink=uplink or Dense(), weighting=weighting, **parts)


def _least(sketch: LinearOperator, x: Tensor) -> float:
    """|S_m^T x|_inf below which no client's own sketch falls, but one in a million, were its entries normal.

    They have the mean square c |x|^2 / d, S S^T being about c I: nothing of the clients' sketches has to be drawn.
    """
    d = sketch.shape[1]
    inside = math.exp(math.log(1e-6) / d)  # of one entry, where all d are inside with one chance in a million
    return NormalDist().inv_cdf((1 + inside) / 2) * float(x.norm()) * math.sqrt(sketch.scale / d)


def _absolute(beta: float, largest: float, least: float | None) -> float:
    """beta in the units of x, ``largest`` being |S^T x_1|_inf, and ``least`` the same of private sketches."""
    if beta >= 1 or largest == 0:
        raise FedSepError(
            f"fedsep_lasso: beta={beta} makes the start absorbing: decode(x_1) is 0, and what is 0 never changes; beta "
            f"is in units of |S^T x_1|_inf = {largest:.4g}: choose it below 1"
            + ("" if largest else ", and a model that does not start at 0")
        )
    if least is not None and beta * largest >= least:
        raise FedSepError(
            f"fedsep_lasso: beta={beta} may make the start absorbing for clients with private sketches, whose "
            f"|S_m^T x_1|_inf may be as small as {least / largest:.3g} of that of the shared one: choose it below that"
        )
    return beta * largest


def _gamma(sketch: LinearOperator, chosen: float | None, encoder: Encoder, used: bool, most: float) -> float:
    """The chosen step, or 1 / |S|^2; 0 where nothing takes one."""
    if not used:
        if chosen is not None:
            raise FedSepError(
                f"fedsep_lasso: gamma={chosen} is of no effect with decoder='fista', which finds its step, and "
                f"encoder={encoder!r}: leave it out, or choose decoder='ista' or encoder='neumann'"
            )
        return 0.0
    squared = 1.001 * squared_norm(sketch, sketch.shape[1])  # which comes from below
    if chosen is not None and chosen >= most / squared:
        whose = "diverges: it must be" if most == 2 else "may diverge for clients with private sketches: it must be"
        raise FedSepError(
            f"fedsep_lasso: gamma={chosen} {whose} below {most:g} / |S|^2 = {most / squared:.4g} for this sketch"
        )
    return 1 / squared if chosen is None else chosen
