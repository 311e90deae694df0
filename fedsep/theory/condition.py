"""Proposition 3.6 on both beds, and how its constants, Q, I_dec and the rounds depend on the condition number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep.algorithms.fedsep_implicit import fedsep_implicit
from fedsep.core import Ctx, Decoded
from fedsep.fedsep import FedSep
from fedsep.random import fold, key, normal, uniform
from fedsep.theory.finding import Check, Finding, Line, Picture, Scale, slope
from fedsep.theory.logistic import Logistic, LogisticTask, logistic
from fedsep.theory.quadratic import quadratic

_EPSILON = 1e-3


def _method(bed: Logistic, *, decode_steps: int = 0, terms: int = 200, tau: float = 0.9, exact: bool = True) -> FedSep:
    d = len(bed.target)
    return fedsep_implicit(
        LogisticTask(d),
        inner=bed.inner,
        initial=lambda _: {"x": torch.zeros(d)},
        start=lambda x: {"y": torch.zeros_like(x["x"])},
        serve=lambda x: {"y": x["x"]},
        decode_steps=decode_steps,
        decode_lr=0.5,
        warm_start=False,
        solver="cg" if exact else "neumann",
        terms=terms,
        tau=tau,
        tolerance=1e-13,
    )


def _encode(method: FedSep, bed: Logistic, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
    """Enc{v} at (x, y) by the library."""
    start = Decoded({"y": y}, residual=torch.zeros(()))
    return method.codec.encode(start, {"y": y + v}, {"x": x}, (), bed.shard, Ctx(0, 1.0, key(0)))[0]["x"]


def _points(bed: Logistic, seed: int, count: int) -> Tensor:
    """Places y, near and far: where the curvature of the logistic loss is large, fading, and gone; and where f's is."""
    away = 10 ** (2.5 * uniform(fold(key(seed), 1), count, 1) - 0.5)
    way = normal(fold(key(seed), 2), count, len(bed.target))
    around = bed.target + 0.03 * normal(fold(key(seed), 3), 8, len(bed.target))
    return torch.cat([away * way / way.norm(dim=-1, keepdim=True), around])


def hypergradient(scale: Scale, seed: int) -> Finding:
    """Proposition 3.6: |μ_i − ∇h|² is at most 2L̂²|y_dec − y_x|² + 2κ²L²|ŷ_i − y_x|², and h is L̄-smooth."""
    checks: list[Check] = []
    for kappa in scale.conditions:
        bed = logistic(seed, kappa=kappa)
        method = _method(bed)
        points, worst, steepest = _points(bed, seed, 24), 0.0, 0.0
        for at, y in enumerate(points):
            x, exact = bed.tilted_to(y), bed.jacobian(y).mT @ bed.slope(y)
            draws = 10 ** (1 - 2 * uniform(fold(key(seed), 9 + at), 2, 1)) * normal(fold(key(seed), 99 + at), 2, len(y))
            reached, moved = y + draws[0], y + draws[1]
            mu = _encode(method, bed, x, reached, bed.slope(moved))
            limit = 2 * bed.lhat**2 * draws[0].square().sum() + 2 * kappa**2 * draws[1].square().sum()
            worst = max(worst, float((mu - exact).square().sum() / limit))
            near = y + 1e-3 * draws[0]
            change = _encode(method, bed, bed.tilted_to(near), near, bed.slope(near)) - exact
            steepest = max(steepest, float(change.norm() / (bed.tilted_to(near) - x).norm()))
        checks += [
            Check(f"a) largest |μ_i − ∇h|² over its bound, κ = {kappa}", "at most", 1.0, worst),
            Check(
                f"b) largest |∇h(x_2) − ∇h(x_1)| / |x_2 − x_1| against L̄, κ = {kappa}", "at most", bed.lbar, steepest
            ),
        ]
    return Finding([*checks, *_quadratic(seed)])


def _quadratic(seed: int) -> list[Check]:
    """On the first bed L̄ is attained: along the leading eigenvector of h's second derivative."""
    bed = quadratic(seed)
    way = torch.linalg.eigh(bed.curvature)[1][:, -1]
    x = torch.stack([bed.start, bed.start + way])
    change = (bed.gradient(x)[1] - bed.gradient(x)[0]).norm()
    return [
        Check("b) first bed: change of ∇h along the leading direction", "equals", bed.lipschitz, float(change)),
        Check("b) first bed: L̄ against κ² L", "at most", 1 / bed.mu**2, bed.lipschitz),
    ]


@dataclass(frozen=True)
class _Row:
    """What one condition number gave, measured and bounded."""

    jacobian: float
    turning: float
    bending: float
    terms: tuple[float, float]
    decode: tuple[float, float]
    rounds: tuple[float, float]


def condition_number(scale: Scale, seed: int) -> Finding:
    """Section 3.1: |J| is of order κ, L̂ at most κ², L̄ at most κ³; Q and I_dec of order κ log(κ/ε)."""
    kappas = [float(k) for k in scale.conditions]
    rows = [_row(logistic(seed, kappa=k), k, seed) for k in kappas]
    checks: list[Check] = []
    for k, row in zip(kappas, rows, strict=True):
        bed = logistic(seed, kappa=k)
        checks += [
            Check(f"|J| against κ = {k:g}", "at most", k, row.jacobian),
            Check(f"L̂ measured against its bound, κ = {k:g}", "at most", bed.lhat, row.turning),
            Check(f"L̄ measured against its bound, κ = {k:g}", "at most", bed.lbar, row.bending),
            Check(f"Q needed for a relative error of {_EPSILON:g}, κ = {k:g}", "at most", row.terms[1], row.terms[0]),
            Check(f"I_dec needed for an error of {_EPSILON:g}, κ = {k:g}", "at most", row.decode[1], row.decode[0]),
            Check(f"rounds to |∇h|² ≤ 1e-2, κ = {k:g}", "at most", row.rounds[1], row.rounds[0]),
        ]
    for what, bound, values in (
        ("|J|", 1.0, [row.jacobian for row in rows]),
        ("L̂", 2.0, [row.turning for row in rows]),
        ("L̄", 3.0, [row.bending for row in rows]),
    ):
        checks.append(Check(f"exponent of κ in {what} (predicted: at most)", "reported", bound, slope(kappas, values)))
    return Finding(checks, _pictures(seed, kappas, rows))


def _pictures(seed: int, kappas: list[float], rows: list[_Row]) -> list[Picture]:
    beds = [logistic(seed, kappa=k) for k in kappas]
    drawn = {
        "Constants of Proposition 3.6": [
            Line("L̂", kappas, [row.turning for row in rows]),
            Line("bound of L̂", kappas, [bed.lhat for bed in beds], False),
            Line("L̄", kappas, [row.bending for row in rows]),
            Line("bound of L̄", kappas, [bed.lbar for bed in beds], False),
        ],
        "Q and I_dec needed": [
            Line("Q", kappas, [row.terms[0] for row in rows]),
            Line("bound of Q", kappas, [row.terms[1] for row in rows], False),
            Line("I_dec", kappas, [row.decode[0] for row in rows]),
            Line("bound of I_dec", kappas, [row.decode[1] for row in rows], False),
        ],
        "Rounds to |∇h|² ≤ 1e-2": [
            Line("measured", kappas, [row.rounds[0] for row in rows]),
            Line("bound", kappas, [row.rounds[1] for row in rows], False),
        ],
    }
    return [Picture(title, "κ", lines, log_x=True) for title, lines in drawn.items()]


def _row(bed: Logistic, kappa: float, seed: int) -> _Row:
    points = _points(bed, seed, 200)
    turning = max(_turning(bed, y) for y in points)
    bending = max(bed.bend(y) for y in points)
    largest = max(float(torch.linalg.matrix_norm(bed.jacobian(y), 2)) for y in points)
    return _Row(
        largest, turning, bending, _terms(bed, kappa, points), _decode(bed, kappa, points), _rounds(bed, bending)
    )


def _turning(bed: Logistic, y: Tensor) -> float:
    """The norm of the derivative in y of d_xy g (d_yy g)^-1 u, at |u| = 1 along f's gradient."""
    u = bed.slope(y) / bed.slope(y).norm()
    turned = torch.func.jacrev(lambda at: bed.jacobian(at).mT @ u)(y)
    return float(torch.linalg.matrix_norm(turned, 2))


def _terms(bed: Logistic, kappa: float, points: Tensor) -> tuple[float, float]:
    """The least Q with |Enc{v} − J'v| ≤ ε kappa |v|, and the bound log(ε) / log(1 − tau mu) − 1."""
    y = points[points.norm(dim=-1).argmax()]  # where the logistic loss is flat, so that mu is attained
    v = bed.slope(y)
    x, exact, tau = bed.tilted_to(y), bed.jacobian(y).mT @ bed.slope(y), 0.9
    limit = max(0, math.ceil(math.log(_EPSILON) / math.log(1 - tau * bed.mu) - 1))

    def close(q: int) -> bool:
        error = _encode(_method(bed, terms=q, exact=False), bed, x, y, v) - exact
        return bool(error.norm() <= _EPSILON * kappa * v.norm())

    return float(_least(close, limit)), float(limit)


def _decode(bed: Logistic, kappa: float, points: Tensor) -> tuple[float, float]:
    """The least I_dec with |y_dec − y_x| ≤ ε |y_0 − y_x| (y_0 = 0), and log(ε) / log(1 − gamma mu)."""
    y = points[points.norm(dim=-1).argmax()]
    x, limit = bed.tilted_to(y), math.ceil(math.log(_EPSILON) / math.log(1 - 0.5 * bed.mu))

    def close(steps: int) -> bool:
        start, _ = _method(bed, decode_steps=steps).codec.decode({"x": x}, (), bed.shard, Ctx(0, 1.0, key(0)))
        return bool((start.y["y"] - y).norm() <= _EPSILON * y.norm())

    return float(_least(close, limit)), float(limit)


def _least(holds: Callable[[int], bool], limit: int) -> int:
    """The least n from which on it holds, by halving; ``limit + 1`` if it does not hold at the limit."""
    low, high = -1, limit + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _rounds(bed: Logistic, bending: float) -> tuple[float, float]:
    """Rounds of one step each, exact decode and encode, with eta eta_g = 1/(2 Lbar), Lbar as measured; its bound."""
    method, target = _method(bed), 1e-2
    y = torch.zeros_like(bed.target)
    x, count = bed.tilted_to(y), 0
    gap = float((1 + bed.target.square().sum()).sqrt() - 1)  # y_x can be b, where f is 0
    limit = 4 * bending * gap / target
    while count <= limit and count < _MOST:
        change = _encode(method, bed, x, y, bed.slope(y))
        if float(change.square().sum()) <= target:
            return float(count), limit
        x = x - change / (2 * bending)
        y = _solved(bed, x, y)
        count += 1
    return float("nan"), limit


_MOST = 2000


def _solved(bed: Logistic, x: Tensor, y: Tensor) -> Tensor:
    """y_x by Newton's method from nearby."""
    for _ in range(50):
        gradient = bed.tilt @ (bed.tilted_to(y) - x)
        if float(gradient.norm()) < 1e-12:
            break
        y = y - torch.linalg.solve(bed.hessian(y), gradient)
    return y
