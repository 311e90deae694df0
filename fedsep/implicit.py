"""Encode from an optimality condition: products with J^T without ever forming a Hessian (Eq. 2 and 3).

y_x solves F(x, y) = 0; for y_x = argmin_y g(x, y), F = d_y g. By the implicit function theorem
J = -(d_y F)^-1 d_x F, so J^T v = -(d_x F)^T (d_y F)^-T v: one linear solve and one vector-Jacobian product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.func import grad, vjp

from fedsep import tree
from fedsep.core import Batch, FedSepError, Params, Tree
from fedsep.gradients import value_and_gradient

Inner = Callable[[Tree, Params, Batch | None], Tensor]
"""g(x, y, batch), a scalar, strongly convex in y; ``batch`` is None where the server decodes without data."""
Optimality = Callable[[Tree, Params, Batch | None], Tree]
"""F(x, y, batch), a tree of y's shape that is 0 at the decoded y."""
Product = Callable[[Tree, int], Tree]
"""(u, q) to (d_y F)^T u, with the q-th minibatch where it is stochastic."""


class EncodeError(FedSepError):
    """The linear system of encode has no usable solution; the message says what cures it."""


class Composite(Protocol):
    """g(x, y, batch) = objective(outputs(x, y, batch), x, y, batch): what a Gauss-Newton product needs."""

    def outputs(self, x: Tree, y: Params, batch: Batch | None) -> Tree:
        """The part whose curvature is dropped, such as a network's outputs."""
        ...

    def objective(self, outputs: Tree, x: Tree, y: Params, batch: Batch | None) -> Tensor:
        """Convex in (outputs, y)."""
        ...

    def __call__(self, x: Tree, y: Params, batch: Batch | None) -> Tensor:
        """g."""
        ...


class Solution(NamedTuple):
    """An approximate solution and the relative norm of its residual (for Neumann: of its last term)."""

    value: Tree
    residual: Tensor


def gradient_condition(inner: Inner) -> Optimality:
    """F = d_y g."""
    return lambda x, y, batch: value_and_gradient(lambda z: inner(x, z, batch), y)[1]


def adjoint_product(condition: Optimality, x: Tree, y: Params, batch: Batch | None) -> Callable[[Tree], Tree]:
    """u to (d_y F)^T u at (x, y); for F = d_y g this is the Hessian, which is symmetric."""
    pull = vjp(lambda z: condition(x, z, batch), y)[1]
    return lambda u: pull(u)[0]


def gauss_newton_product(inner: Composite, x: Tree, y: Params, batch: Batch | None) -> Callable[[Tree], Tree]:
    """u to K^T B K u, K the Jacobian of y -> (outputs, y) and B the Hessian of ``objective`` there.

    Positive semi-definite whenever ``objective`` is convex, also where g itself is not.
    """

    def stacked(z: Params) -> tuple[Tree, Params]:
        return inner.outputs(x, z, batch), z

    point, pull = stacked(y), vjp(stacked, y)[1]
    # The transpose of w -> K^T w is K itself: reverse mode alone, and every graph is built once.
    push = vjp(lambda w: pull(w)[0], tree.zeros_like(point))[1]
    curve = vjp(grad(lambda at: inner.objective(at[0], x, at[1], batch)), point)[1]
    return lambda u: pull(curve(push(u)[0])[0])[0]


def cross_product(condition: Optimality, x: Tree, y: Params, u: Tree, batch: Batch | None) -> Tree:
    """(d_x F)^T u at (x, y); for F = d_y g this is d_xy g u."""
    pull = vjp(lambda z: condition(z, y, batch), x)[1]
    return pull(u)[0]


def neumann(product: Product, v: Tree, *, terms: int, step: float, symmetric: bool = True) -> Solution:
    """tau sum_{q=0..Q} (I - tau H)^q v, the truncated inverse of Eq. (3).

    On a mu-strongly convex g with tau < 1/L its error is at most (1 - tau mu)^(Q+1) / mu |v|.

    Args:
        product: u and q to H u.
        v: Right-hand side.
        terms: Q.
        step: tau.
        symmetric: Whether H is; negative curvature is looked for only then, since <u, H u> says nothing else.

    Raises:
        EncodeError: The terms grow: tau >= 2/L, or H has negative curvature along them.
    """
    term = total = v
    for number in range(terms):
        curved = product(term, number)
        if symmetric:
            _refuse_negative(term, curved)
        term = tree.add(term, curved, -step)
        total = tree.add(total, term)
    share = tree.norm(term) / tree.norm(v).clamp_min(torch.finfo(torch.float32).tiny)
    if not bool(share <= 1 + 1e-6):
        raise EncodeError(
            f"the Neumann series diverges (its last term is {float(share):.3g} times the first): tau={step} is not "
            "below 2 / L, L the largest curvature of g in y; use a smaller tau, or solver='cg'"
        )
    return Solution(tree.scale(total, step), share)


def conjugate_gradient(product: Product, v: Tree, *, steps: int, tolerance: float) -> Solution:
    """H^-1 v for symmetric positive definite H, by at most ``steps`` products.

    Args:
        product: u and q to H u; q is always 0: the system must stay the same.
        v: Right-hand side.
        steps: Largest number of products.
        tolerance: Relative norm of the residual at which to stop.

    Raises:
        EncodeError: H has negative curvature along a search direction.
    """
    solution, residual, direction = tree.zeros_like(v), v, v
    square = start = tree.dot(v, v)
    for _ in range(steps):
        if bool(square <= tolerance**2 * start):
            break
        curved = product(direction, 0)
        _refuse_negative(direction, curved)
        curvature = tree.dot(direction, curved)
        if not bool(curvature > 0):
            break  # none but rounding is left: H is singular there
        along = square / curvature
        solution = tree.map(lambda s, d, a=along: s + a * d, solution, direction)
        residual = tree.map(lambda r, c, a=along: r - a * c, residual, curved)
        square, before = tree.dot(residual, residual), square
        direction = tree.map(lambda r, d, b=square / before: r + b * d, residual, direction)
    return Solution(solution, (square / start.clamp_min(torch.finfo(torch.float32).tiny)).sqrt())


def _refuse_negative(u: Tree, curved: Tree) -> None:
    """Raises if <u, H u> is negative beyond rounding, or not a number."""
    along, size = tree.dot(u, curved), tree.norm(u) * tree.norm(curved)
    if not bool(torch.isfinite(size)):
        raise EncodeError(
            "the change to encode, or g's curvature along it, is not a finite number: the learning stage or decode "
            "diverged, or the Neumann series did; choose a smaller lr, decode_lr or tau"
        )
    if not bool(along >= -1e-4 * size):
        raise EncodeError(
            f"g has negative curvature at the decoded y (u'Hu / |u||Hu| = {float(along / size):.3g}), so decode has no "
            "Jacobian there: add damping or a larger quadratic term to g, use curvature='gauss_newton', "
            "or run more decode steps"
        )
