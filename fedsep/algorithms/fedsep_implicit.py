"""FedSep with a lower-level problem of the user's own: Eq. (1) to (3) in general."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from fedsep import downlinks
from fedsep.codecs.implicit import Curvature, Implicit, Solver
from fedsep.core import FedSepError, Params, Task, Tree, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.implicit import Inner, Optimality
from fedsep.learners.sgd import LocalSGD, sgd
from fedsep.ranges import Count, NonNegative, NonNegativeInt, Positive, checked
from fedsep.servers.optimize import Optimize, Rule
from fedsep.servers.sgd import SGDRule
from fedsep.wires.dense import Dense


def _same(tree: Tree) -> Tree:
    """What it is given, as it is."""
    return tree


@checked(takes=sgd)
def fedsep_implicit(
    task: Task,
    *,
    inner: Inner | None = None,
    optimality: Optimality | None = None,
    initial: Callable[[Params], Tree] = _same,
    start: Callable[[Tree], Params] = _same,
    serve: Callable[[Tree], Params] = _same,
    decode_steps: NonNegativeInt = 10,
    decode_lr: Positive = 0.1,
    decode_batch_size: Count | None = None,
    warm_start: bool = True,
    solver: Solver = "neumann",
    terms: NonNegativeInt = 10,
    tau: Positive = 0.1,
    tolerance: Positive = 1e-6,
    damping: NonNegative = 0.0,
    encode_batch_size: Count | None = None,
    reuse: bool = False,
    curvature: Curvature = "hessian",
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    **local: Unpack[LocalSGD],
) -> FedSep:
    r"""y_x = argmin_y g(x, y) by gradient steps; dx = -d_xy g (d_yy g)^-1 (y_I - y_0), never forming a Hessian.

    The server's step on x is then one on h(x) = mean_m f_m(y_x^m): Remark 1.

    Args:
        task: The local problem f.
        inner: g(x, y, batch), a scalar, strongly convex in y. For ``curvature="gauss_newton"`` a ``Composite``.
        optimality: Instead of g, F(x, y, batch) with F = 0 at the decoded y (a prox's fixed point, say).
        initial: The model's parameters to x_1; by default x_1 is the model.
        start: x to y_0 of a client without memory; by default x.
        serve: x to the server's model; by default x.
        decode_steps: I_dec.
        decode_lr: gamma, below 1/L for g's largest curvature L.
        decode_batch_size: b_y; None takes all of the client's examples.
        warm_start: Decode from the client's last y (its memory) instead of y_0.
        solver: ``neumann``, the paper's Eq. (3), or ``cg`` (symmetric curvature only; one minibatch).
        terms: Q, or the largest number of steps of cg.
        tau: Step of the Neumann series, below 1/L.
        tolerance: Relative residual at which cg stops.
        damping: Added to the curvature's eigenvalues in encode.
        encode_batch_size: b_x; None takes all of the client's examples.
        reuse: One minibatch in all factors of the series (Eq. 3 as printed), which leaves a bias of order 1/b_x.
        curvature: ``hessian``, or ``gauss_newton``: never negative, where g is a ``Composite``.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``uniform`` (line 20 of Algorithm 1) or ``samples``.
        uplink: How dx is sent, from ``fedsep.wires``; float32 by default.
        downlink: How x is sent; float32 by default. With any wire but ``wires.dense`` clients keep a copy of x, and the
            server sends its changes, by the rules of ``fedsep_quantised``: nothing in round 0, then the messages that a
            client missed, or x where that is smaller.
        **local: The local steps: what ``learners.sgd`` takes.

    Bytes:
        up: 4 * p
        down: 4 * p

    p is the number of entries of x.

    Memory:
        Server: x. Client: its last y with ``warm_start``, else nothing.

    Reference:
        FedSep (NeurIPS 2023), Algorithm 1 and Eq. (1) to (3).

    Raises:
        FedSepError: Neither or both of ``inner`` and ``optimality``, or a solver that does not fit.
    """
    codec = Implicit(
        initial,
        start,
        serve,
        inner,
        optimality,
        decode_steps,
        decode_lr,
        decode_batch_size,
        warm_start,
        solver,
        terms,
        tau,
        tolerance,
        damping,
        encode_batch_size,
        reuse,
        curvature,
    )
    _refuse_mismatch(codec)
    parts = downlinks.followed(codec, Optimize(server or SGDRule()), task.init(), downlink)
    return FedSep(sgd(task, **local), uplink=uplink or Dense(), weighting=weighting, **parts)


def _refuse_mismatch(codec: Implicit) -> None:
    """Names every pair of options that cannot go together."""
    composite = hasattr(codec.inner, "outputs") and hasattr(codec.inner, "objective")
    errors = [
        ("give exactly one of inner (g) and optimality (F)", (codec.inner is None) == (codec.optimality is None)),
        ("solver='cg' needs a symmetric system: give inner, or use solver='neumann'",
         codec.optimality is not None and codec.solver == "cg"),
        ("curvature='gauss_newton' needs an inner with the methods outputs and objective (fedsep.implicit.Composite)",
         codec.curvature == "gauss_newton" and not composite),
    ]  # fmt: skip
    wrong = [message for message, holds in errors if holds]
    if wrong:
        raise FedSepError("fedsep_implicit: " + "; ".join(wrong))
