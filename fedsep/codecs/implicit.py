"""The general codec of FedSep: decode by gradient steps on g, encode by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import torch

from fedsep import tree
from fedsep.core import Batch, Ctx, Decoded, FedSepError, Info, Params, Shard, Tree
from fedsep.implicit import (
    Composite,
    Inner,
    Optimality,
    Solution,
    adjoint_product,
    conjugate_gradient,
    cross_product,
    gauss_newton_product,
    gradient_condition,
    neumann,
)
from fedsep.learners.batches import minibatches
from fedsep.random import fold

_DECODE, _ENCODE = 2, 3  # what the client's key is folded with to draw B_y and B_x

Solver = Literal["neumann", "cg"]
Curvature = Literal["hessian", "gauss_newton"]


@dataclass(frozen=True)
class Implicit:
    """y_x = argmin_y g(x, y) and dx = J^T dy = -d_xy g (d_yy g)^-1 dy (Eq. 1-3, in the convention of one sign).

    Attributes:
        initial: The model's parameters to x_1.
        start: x to y_0, where a client without memory starts to decode.
        serve: x to the server's model.
        inner: g; None where ``optimality`` is given.
        optimality: F(x, y, batch) with F = 0 at y_x, instead of g.
        decode_steps: I_dec.
        decode_lr: gamma.
        decode_batch_size: b_y; None means all of the client's training data.
        warm_start: Whether to start at the client's last y.
        solver: ``"neumann"`` (the paper's, Eq. 3) or ``"cg"``.
        terms: Q, or the largest number of steps of cg.
        step: tau < 1 / L; of no effect on cg.
        tolerance: Relative residual at which cg stops.
        damping: Added to the curvature's eigenvalues in encode.
        encode_batch_size: b_x; None means all of the client's training data.
        reuse: One minibatch in all factors (Eq. 3 as printed) instead of a fresh one in each.
        curvature: ``"hessian"``, or ``"gauss_newton"`` where ``inner`` is a ``Composite``.

    Bytes:
        Up and down: x's, 4 p in float32.
    """

    initial: Callable[[Params], Tree]
    start: Callable[[Tree], Params]
    serve: Callable[[Tree], Params]
    inner: Inner | None = None
    optimality: Optimality | None = None
    decode_steps: int = 10
    decode_lr: float = 0.1
    decode_batch_size: int | None = None
    warm_start: bool = True
    solver: Solver = "neumann"
    terms: int = 10
    step: float = 0.1
    tolerance: float = 1e-6
    damping: float = 0.0
    encode_batch_size: int | None = None
    reuse: bool = False
    curvature: Curvature = "hessian"

    def init(self, params: Params) -> Tree:
        """x_1."""
        return self.initial(params)

    def enroll(self, x: Tree, ctx: Ctx) -> Params | tuple[()]:
        """y_0, if decode starts warm."""
        return self.start(x) if self.warm_start else ()

    def decode(self, x: Tree, memory: Params | tuple[()], shard: Shard, ctx: Ctx) -> tuple[Decoded, Params | tuple[()]]:
        """Lines 7-11: I_dec steps of y <- y - gamma d_y g(x, y; B_y).

        Raises:
            FedSepError: The steps diverge.
        """
        y = cast(Params, memory) if self.warm_start else self.start(x)
        batches = minibatches(shard.train, fold(ctx.key, _DECODE), self.decode_batch_size, self.decode_steps)
        first = last = torch.zeros(())
        for number, batch in enumerate(batches):
            gradient = self._condition(x, y, batch)
            last = tree.norm(gradient)
            first = last if number == 0 else first
            y = tree.add(y, gradient, -self.decode_lr)
        # In full batches, steps below 2/L never make the gradient grow where g is convex; minibatches scatter.
        _refuse_divergence(first, last, y, self.decode_lr, 10.0 if self.decode_batch_size is None else 1e3)
        return Decoded(y, residual=last), y if self.warm_start else ()

    def encode(
        self, start: Decoded, y: Params, x: Tree, memory: Params | tuple[()], shard: Shard, ctx: Ctx
    ) -> tuple[Tree, Params | tuple[()], Info]:
        """Line 18: -d_xy g (d_yy g)^-1 (y - start.y), both derivatives at (x, start.y).

        Raises:
            EncodeError: g is not strongly convex there, or the series diverges.
        """
        batches = list(minibatches(shard.train, fold(ctx.key, _ENCODE), self.encode_batch_size, self._batch_count()))
        solution = self._solve(x, start.y, tree.sub(y, start.y), batches)
        dx = tree.scale(cross_product(self._condition, x, start.y, solution.value, batches[-1]), -1.0)
        return dx, memory, {"decode_residual": start.residual, "encode_residual": solution.residual}

    def advance(self, x: Tree, round: int) -> tuple[Tree, bool]:
        """Nothing happens between rounds."""
        return x, False

    def model(self, x: Tree) -> Params:
        """``serve(x)``."""
        return self.serve(x)

    def _solve(self, x: Tree, y: Params, v: Params, batches: list[Batch]) -> Solution:
        products = (self._product(x, y, batch) for batch in batches)
        once = next(products)

        def product(u: Tree, number: int) -> Tree:
            return tree.add((once if number == 0 else next(products, once))(u), u, self.damping)

        if self.solver == "cg":
            return conjugate_gradient(product, v, steps=self.terms, tolerance=self.tolerance)
        return neumann(product, v, terms=self.terms, step=self.step, symmetric=self.optimality is None)

    def _product(self, x: Tree, y: Params, batch: Batch) -> Callable[[Tree], Tree]:
        if self.curvature == "gauss_newton":
            return gauss_newton_product(cast(Composite, self.inner), x, y, batch)
        return adjoint_product(self._condition, x, y, batch)

    @property
    def _condition(self) -> Optimality:
        if self.optimality is not None:
            return self.optimality
        assert self.inner is not None
        return gradient_condition(self.inner)

    def _batch_count(self) -> int:
        """One minibatch in all, or one for every factor of the series and one for d_xy g."""
        fresh = self.solver == "neumann" and not self.reuse and self.encode_batch_size is not None
        return self.terms + 1 if fresh else 1


def _refuse_divergence(first: torch.Tensor, last: torch.Tensor, y: Params, lr: float, growth: float) -> None:
    """A gradient ``growth`` times the first one, or no number at all, is no decode."""
    finite = all(bool(torch.isfinite(part).all()) for part in y.values())
    if not finite or bool(last > growth * first.clamp_min(1e-6)):
        raise FedSepError(
            f"decode diverges: the gradient of g went from {float(first):.3g} to {float(last):.3g}; "
            f"decode_lr={lr} is not below 2 / L, L the largest curvature of g in y: choose it smaller"
        )
