"""LASSO: min_y 1/2 |S y - x|^2 + beta |y|_1, by proximal steps with a certificate: the duality gap.

Two solvers. ``ista`` takes plain proximal gradient steps (the paper's). ``fista`` takes accelerated ones, starts its
momentum anew where it points uphill, and iterates on a working set of gathered columns S_A where S has them; what
it left out is checked on all of S. Where S was prepared, steps on all of S take one product with it instead of two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fedsep.lasso.products import FEW, Columns, Matrix, Products
from fedsep.lasso.recurrence import Prepared, following, nothing

_CHECKS = 4  # a solve on working sets looks at all columns so often, however few its steps are
_WHOLE = 50  # steps on all of S after which it is asked again whether fewer columns would do
_CARRIED = 25  # steps over which S y is carried along by recurrence: momentum makes the rounding of each grow


class Solution(NamedTuple):
    """An approximate minimiser and its certificate, all tensors.

    Attributes:
        y: Shape (d,), exact zeros outside the support.
        gap: Duality gap over the objective: the objective is at most 1 / (1 - gap) times the smallest.
        correlation: |S^T (x - S y)|_inf, which is beta at the minimiser, unless that is 0.
        steps: Proximal steps taken.
    """

    y: Tensor
    gap: Tensor
    correlation: Tensor
    steps: Tensor


def soft(v: Tensor, threshold: float) -> Tensor:
    """sign(v) max(|v| - threshold, 0): the proximal map of the l1 norm."""
    return v - v.clamp(-threshold, threshold)  # exactly 0 inside


def relative_gap(x: Tensor, y: Tensor, residual: Tensor, correlation: Tensor, beta: float) -> Tensor:
    """(P(y) - D(u)) / P(y), with the residual x - S y scaled to the feasible dual point u, |S^T u|_inf <= beta.

    Args:
        x: Shape (p,).
        y: Shape (d,).
        residual: x - S y.
        correlation: |S^T residual|_inf.
        beta: Of the penalty.
    """
    primal = 0.5 * residual @ residual + beta * y.abs().sum()
    dual = residual * (beta / correlation.clamp_min(beta))
    return (primal - dual @ x + 0.5 * dual @ dual) / primal.clamp_min(torch.finfo(x.dtype).tiny)


def ista(
    sketch: Products, x: Tensor, beta: float, start: Tensor, *, gamma: float, steps: int, tolerance: float
) -> Solution:
    """y <- soft(y + gamma S^T (x - S y), gamma beta), the paper's decode.

    Args:
        sketch: S, of shape (p, d).
        x: Shape (p,).
        beta: Of the penalty, > 0.
        start: The first y, shape (d,).
        gamma: Step, below 2 / |S|^2.
        steps: At most so many.
        tolerance: Relative duality gap at which to stop.
    """
    y, taken = start, 0
    while True:
        residual = x - sketch.mv(y)
        toward = sketch.rmv(residual)
        correlation = toward.abs().max()
        gap = relative_gap(x, y, residual, correlation, beta)
        if taken >= steps or _done(y, gap, correlation, beta, tolerance):
            return Solution(y, gap, correlation, torch.tensor(taken))
        y, taken = soft(y + gamma * toward, gamma * beta), taken + 1


def fista(
    sketch: Products,
    x: Tensor,
    beta: float,
    start: Tensor,
    *,
    steps: int,
    tolerance: float,
    prepare: Callable[[], Prepared | None] = lambda: None,
) -> Solution:
    """Accelerated proximal steps (Beck and Teboulle 2009), restarted adaptively (O'Donoghue and Candes 2015).

    Where S has ``columns`` and y is sparse, the steps are taken on the support of y and the p columns that violate
    optimality most; then all columns are looked at again. The step is found by backtracking: no norm is needed.

    Args:
        sketch: S, of shape (p, d).
        x: Shape (p,).
        beta: Of the penalty, > 0.
        start: The first y, shape (d,).
        steps: At most so many, over all working sets.
        tolerance: Relative duality gap, over all columns, at which to stop.
        prepare: Gives what was made once for S, or None; asked where steps are taken on all of S.
    """
    taken, y, product = 0, start, _product(sketch, start)
    while True:
        residual = x - product
        toward = sketch.rmv(residual)
        correlation = toward.abs().max()
        gap = relative_gap(x, y, residual, correlation, beta)
        if taken >= steps or _done(y, gap, correlation, beta, tolerance):
            return Solution(y, gap, correlation, torch.tensor(taken))
        chosen = _working_set(y, toward, beta, x.numel()) if isinstance(sketch, Columns) else None
        if isinstance(sketch, Columns) and chosen is not None and len(chosen) <= FEW * len(y):
            part, goal = Matrix(sketch.columns(chosen)), max(0.5 * tolerance, 0.1 * float(gap))
            limit = min(steps - taken, max(1, steps // _CHECKS))
            inner, product, done = _accelerated(part, x, beta, y[chosen], product, toward[chosen], limit, goal)
            y = torch.zeros_like(y).index_copy(0, chosen, inner)
        else:
            limit = min(steps - taken, max(_WHOLE, steps // _CHECKS))
            ready = prepare()
            y, product, done = _accelerated(sketch, x, beta, y, product, toward, limit, tolerance, ready)
        taken += done


def _done(y: Tensor, gap: Tensor, correlation: Tensor, beta: float, tolerance: float) -> bool:
    """Whether y is good enough, or no number; 0 only is if it is the minimiser, however near: it has no support."""
    return not bool(gap > tolerance) and bool(y.any() | ~(correlation > beta))


def _product(sketch: Products, y: Tensor) -> Tensor:
    """S y; through the columns of y's support where these are few."""
    support = y.nonzero()[:, 0]
    if isinstance(sketch, Columns) and len(support) <= FEW * len(y):
        return sketch.columns(support) @ y[support]
    return sketch.mv(y)


def _working_set(y: Tensor, toward: Tensor, beta: float, most: int) -> Tensor:
    """Positions, in order, of y's support and of the ``most`` largest violations |S_j^T (x - S y)| > beta outside."""
    violation = toward.abs().masked_fill(y != 0, 0.0) - beta
    worst = violation.topk(min(most, violation.numel()))
    chosen = y != 0
    chosen[worst.indices[worst.values > 0]] = True
    return chosen.nonzero()[:, 0]


def _accelerated(
    sketch: Products,
    x: Tensor,
    beta: float,
    y: Tensor,
    product: Tensor,
    toward: Tensor,
    steps: int,
    tolerance: float,
    ready: Prepared | None = None,
) -> tuple[Tensor, Tensor, int]:
    """y, S y and the number of steps, one at least. S y is carried along: a step costs one product each way, or one."""
    residual = x - product
    # Where y fits x, the first is rounding; where y is 0, the second says nothing.
    slope = _curvature(ready.gram @ residual if ready else sketch.mv(toward), toward, x)
    curvature = max(slope, _curvature(product, y, x) if bool(y.any()) else 0.0)
    ahead, ahead_product, inertia = y, product, 1.0
    cut = nothing(ready) if ready else None
    for number in range(steps):
        if ready and number and number % _CARRIED == 0:
            product, ahead_product, cut = sketch.mv(y), sketch.mv(ahead), nothing(ready)
        if number:
            residual = x - ahead_product
            toward = sketch.rmv(residual)
            if bool(relative_gap(x, ahead, residual, toward.abs().max(), beta) <= tolerance):
                return y, sketch.mv(y) if ready else product, number
        while True:
            v, threshold = ahead + toward / curvature, beta / curvature
            new = soft(v, threshold)
            if ready and cut:
                moved = ahead_product + ready.gram @ residual / curvature
                new_product, cut = following(ready, moved, v, threshold, cut)
            else:
                new_product = sketch.mv(new)
            needed = _curvature(new_product - ahead_product, new - ahead, x)
            if not needed > curvature:  # nor is it a number, where x is none
                break
            curvature = 1.1 * needed
        uphill = bool((ahead - new) @ (new - y) > 0)
        grown = 1.0 if uphill else 0.5 + (0.25 + inertia**2) ** 0.5
        weight = 0.0 if uphill else (inertia - 1) / grown
        ahead, ahead_product = new + weight * (new - y), new_product + weight * (new_product - product)
        y, product, inertia = new, new_product, grown
    return y, sketch.mv(y) if ready else product, steps


def _curvature(product: Tensor, v: Tensor, x: Tensor) -> float:
    """|S v|^2 / |v|^2 less what may be rounding, x being of the size of the products whose difference S v is."""
    noise = 8 * torch.finfo(v.dtype).eps * x.norm()
    tiny = torch.finfo(v.dtype).tiny
    return float((product.norm() - noise).clamp_min(tiny**0.5) / v.norm().clamp_min(tiny**0.5)) ** 2
