"""The second term of Eq. (8): what a change of the server's model does to the mask that is learned from it.

docs/derivations/mask.md derives it. The first term, Diag(a), is what a view does when it puts a sub-model back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import vjp

from fedsep import tree
from fedsep.core import Batch, Ctx, Params, Shard, Task, Tree
from fedsep.gates.scoring import GateScores
from fedsep.implicit import Composite, conjugate_gradient, cross_product, gauss_newton_product, gradient_condition
from fedsep.scores.scorer import examples

Masked = Callable[[Params, Params], Params]
"""a(phi) * x, from x and phi; its derivative in phi is what stands for the mask's."""


class Term(NamedTuple):
    """The second term, and the relative residual of the linear system that it takes."""

    value: Params
    residual: Tensor


@dataclass(frozen=True)
class Relaxed:
    """Eq. (7) without noise and without the resource loss, as a function of x and phi.

    The resource loss does not depend on x, so it is no part of the mixed derivative; its curvature in phi is negative
    where it is concave in the gates, and is left out as the curvature of the network is.

    Attributes:
        scores: The gates.
        task: The client's local problem.
    """

    scores: GateScores
    task: Task

    def gates(self, phi: Params) -> dict[str, Tensor]:
        """Without noise."""
        return self.scores.relaxation.mean(self.scores.network(phi))

    def masked(self, x: Params, phi: Params) -> Params:
        """a(phi) * x."""
        return self.scores.gating.weighted(x, self.gates(phi))

    def outputs(self, x: Tree, y: Params, batch: Batch | None) -> Tensor:
        """The gated model's, y = phi."""
        assert batch is not None
        return self.task.predict(self.scores.gating(x, self.gates(y)), batch.x)

    def objective(self, outputs: Tree, x: Tree, y: Params, batch: Batch | None) -> Tensor:
        """Their loss."""
        assert batch is not None
        return self.task.criterion(outputs, batch.y)

    def __call__(self, x: Tree, y: Params, batch: Batch | None) -> Tensor:
        """The gated model's loss."""
        return self.objective(self.outputs(x, y, batch), x, y, batch)


def second_term(
    inner: Composite, masked: Masked, x: Params, phi: Params, v: Params, batch: Batch | None, *, damping: float,
    steps: int = 20, tolerance: float = 1e-3,
) -> Term:  # fmt: skip
    r"""(d_x a)^T (x * v) = -d_{x phi} g (H + damping I)^-1 (d_phi a)^T (x * v), phi = argmin g(x, .).

    By the implicit function theorem d_x phi = -H^-1 d_{phi x} g with H = d_{phi phi} g. g is not convex in phi, so H is
    its Gauss-Newton matrix, and damped: it is singular wherever phi has more numbers than the model has outputs.

    Args:
        inner: g as a function of x and phi; ``Relaxed`` for gates.
        masked: a(phi) * x. Where a is the hard mask, it has no derivative; the relaxed gates' is taken (straight
            through).
        x: The communication parameter.
        phi: Fitted to x.
        v: The sub-model's change in the shapes of x, 0 outside it.
        batch: Examples of D_val, the same in all derivatives.
        damping: Added to the eigenvalues of H.
        steps: Most steps of conjugate gradients.
        tolerance: Relative residual at which they stop.

    Returns:
        A change of all of x, to be added to the sub-model's: it reaches units that the client did not train.

    Raises:
        EncodeError: Something is not a finite number.
    """
    right = vjp(lambda z: masked(x, z), phi)[1](v)[0]
    curved = gauss_newton_product(inner, x, phi, batch)
    solution = conjugate_gradient(lambda u, _: tree.add(curved(u), u, damping), right, steps=steps, tolerance=tolerance)
    mixed = cross_product(gradient_condition(inner), x, phi, solution.value, batch)
    return Term(tree.scale(mixed, -1.0), solution.residual)


def bounded(term: Params, by: Params, most: float) -> Params:
    """A term no longer than ``most`` times another: where gates are nearly shut, H is nearly 0 and the term is huge."""
    size, limit = tree.norm(term), most * tree.norm(by)
    return tree.scale(term, (limit / size.clamp_min(torch.finfo(size.dtype).tiny)).clamp_max(1.0))


@dataclass(frozen=True)
class SecondTerm:
    """The second term as a client encodes it, of gates that it fitted to x.

    Attributes:
        scores: The gates.
        images: Most examples of D_val in the derivatives, drawn anew each time.
        damping: Added to the eigenvalues of H.
        bound: Largest norm, over that of the first term.
    """

    scores: GateScores
    images: int
    damping: float
    bound: float

    def __call__(self, x: Params, phi: Params, first: Params, shard: Shard, ctx: Ctx) -> Term:
        """The term, bounded.

        Args:
            x: The communication parameter.
            phi: Fitted to x.
            first: The first term, Diag(a) v: the sub-model's change in the shapes of x.
            shard: The client's data.
            ctx: Its context, whose key draws the examples.
        """
        inner = Relaxed(self.scores, self.scores.local(shard))
        [batch] = examples(self.scores.samples(shard), ctx, self.images, self.images)
        term = second_term(inner, inner.masked, x, phi, first, batch, damping=self.damping)
        return term._replace(value=bounded(term.value, first, self.bound))
