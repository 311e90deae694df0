"""The paper's compressed codec (Eq. 4 and 5): decode solves a LASSO problem, encode its derivative on the support."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor

from fedsep import random, tree
from fedsep.core import Ctx, Decoded, FedSepError, Info, Params, Shard
from fedsep.implicit import conjugate_gradient, neumann
from fedsep.lasso import Columns, Masked, Matrix, Products, Solution, fista, ista
from fedsep.memo import Memo
from fedsep.operators import Gaussian, LinearOperator, MakeOperator, gaussian

_SKETCH = 4  # what the client's key is folded with to draw a sketch of its own
_SERVED = 20_000  # steps of the server's own decode, which has no start to go on from

Decoder = Literal["fista", "ista"]
Encoder = Literal["cg", "neumann"]


class Sparse(TypedDict):
    """A client's memory: its last decoded y, 0 before the first, shape (d,), and the key of its sketch."""

    y: Tensor
    key: Tensor


def normal(p: int, d: int, key: Tensor) -> Gaussian:
    """A stored matrix of independent entries N(0, 1/p), the paper's."""
    return gaussian(p, d, key, orthonormal=False)


@dataclass(frozen=True)
class Lasso:
    """y_x = argmin_y 1/2 |S y - x|^2 + beta |y|_1 and dx = S_A (S_A^T S_A + damping I)^-1 dy_A, A = supp(y_x).

    Without damping dx = +J^T dy: Eq. (5) as printed, which leaves out the minus sign of Eq. (2), and in the limit
    of its series. Only what changes on the support is communicated; where |S^T x|_inf <= beta, y_x = 0, the support
    is empty, and nothing is ever learned again (``absorbing`` is then 1 in the log).

    Clients that were sent the same x and start from the same y share one computation. With ``private`` sketches each
    client draws its own S^(m) when it enrols and keeps its key. All decode the same x to models of their own;
    h(x) is the mean of their losses and the mean of their dx its gradient, but the server, which decodes with the
    shared S, serves a model that no client has trained.

    Attributes:
        like: Parameters of the model's names and shapes.
        p: Communication dimension.
        beta: Of the penalty, absolute.
        key: Of the shared sketch.
        operator: Makes S.
        decoder: ``"fista"`` or ``"ista"`` (the paper's).
        steps: Proximal steps of a client's decode, at most.
        tolerance: Relative duality gap at which decode stops.
        gamma: Step of ista and of the Neumann series, below 2 / |S|^2.
        warm_start: Whether decode goes on from the client's last y.
        encoder: ``"cg"``, or ``"neumann"`` for gamma sum_{q=0..Q} S_A (I - gamma S_A^T S_A)^q dy_A.
        terms: Q, or the largest number of steps of cg.
        damping: Of cg.
        private: Whether each client has a sketch of its own.

    Bytes:
        Up and down: 4 p in float32.
    """

    like: Params
    p: int
    beta: float
    key: Tensor
    operator: MakeOperator = normal
    decoder: Decoder = "fista"
    steps: int = 200
    tolerance: float = 1e-4
    gamma: float = 0.0
    warm_start: bool = True
    encoder: Encoder = "cg"
    terms: int = 100
    damping: float = 1e-3
    private: bool = False
    _decodes: Memo = field(default_factory=Memo, compare=False, repr=False)
    _gathers: Memo = field(default_factory=Memo, compare=False, repr=False)

    def init(self, params: Params) -> dict[str, Tensor]:
        """x_1 = S theta_0.

        Raises:
            FedSepError: x_1 is absorbing.
        """
        sketch, flat = self._sketch(self.key), self._ravel(params)[0]
        x = sketch.mv(flat)
        largest = float(sketch.rmv(x).abs().max())
        if not self.beta < largest:
            raise FedSepError(f"decode(S theta_0) is 0 for beta={self.beta:.6g}: choose it below {largest:.6g}")
        return {"omega": x}

    def enroll(self, x: dict[str, Tensor], ctx: Ctx) -> Sparse:
        """No y yet; the shared sketch, or one of the client's own."""
        y = torch.zeros_like(self._ravel(self.like)[0])
        return {"y": y, "key": random.fold(ctx.key, _SKETCH) if self.private else self.key}

    def decode(self, x: dict[str, Tensor], memory: Sparse, shard: Shard, ctx: Ctx) -> tuple[Decoded, Sparse]:
        """Proximal steps from the client's last y, to ``tolerance`` or ``steps``.

        Raises:
            FedSepError: x is not finite.
        """
        start = memory["y"] if self.warm_start else torch.zeros_like(memory["y"])
        solution = self._solve(x["omega"], start, memory["key"])
        if not bool(torch.isfinite(solution.gap)):
            raise FedSepError("x is not a finite number: learning diverged; choose a smaller server_lr or lr")
        y = self._ravel(self.like)[1](solution.y)
        return Decoded(y, residual=solution), {**memory, "y": solution.y} if self.warm_start else memory

    def encode(
        self, start: Decoded, y: Params, x: dict[str, Tensor], memory: Sparse, shard: Shard, ctx: Ctx
    ) -> tuple[dict[str, Tensor], Sparse, Info]:
        """S_A (S_A^T S_A + damping I)^-1 dy_A, and what decode was like.

        Raises:
            FedSepError: The support has more than p coordinates and there is no damping.
        """
        solution: Solution = start.residual
        support = solution.y.nonzero()[:, 0]
        change = self._ravel(tree.sub(y, start.y))[0][support]
        dx, residual = self._encode(support, change, memory["key"], x["omega"])
        empty = torch.tensor(len(support) == 0)
        return {"omega": dx}, memory, {
            "support": torch.tensor(len(support)),
            "duality_gap": solution.gap,
            "decode_steps": solution.steps,
            "absorbing": empty & (solution.correlation <= self.beta),
            "encode_residual": residual,
        }  # fmt: skip

    def advance(self, x: dict[str, Tensor], round: int) -> tuple[dict[str, Tensor], bool]:
        """Nothing happens between rounds."""
        return x, False

    def model(self, x: dict[str, Tensor]) -> Params:
        """y_x by the shared sketch, to ``tolerance`` whatever it takes."""
        flat, unravel = self._ravel(self.like)
        sketch = _gatherable(self._sketch(self.key))
        start = torch.zeros_like(flat)
        return unravel(fista(sketch, x["omega"], self.beta, start, steps=_SERVED, tolerance=self.tolerance).y)

    def _solve(self, x: Tensor, start: Tensor, key: Tensor) -> Solution:
        def compute() -> Solution:
            sketch = _gatherable(self._sketch(key))
            options: dict[str, Any] = {"steps": self.steps, "tolerance": self.tolerance}
            if self.decoder == "ista":
                return ista(sketch, x, self.beta, start, gamma=self.gamma, **options)
            return fista(sketch, x, self.beta, start, **options)

        return self._decodes(compute, 0, key, x, start)

    def _encode(self, support: Tensor, change: Tensor, key: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """dx, and the relative residual of the system (of the Neumann series: its last term)."""
        if len(support) == 0:
            return torch.zeros_like(x), x.new_zeros(())
        columns = self._restricted(support, key)

        def product(u: Tensor, number: int) -> Tensor:
            return columns.rmv(columns.mv(u)) + (self.damping * u if self.encoder == "cg" else 0.0)

        if self.encoder == "neumann":
            solution = neumann(product, change, terms=self.terms, step=self.gamma)
            return columns.mv(solution.value), solution.residual
        if len(support) > self.p and self.damping == 0:
            raise FedSepError(
                f"decode stopped at a support of {len(support)} coordinates, more than p={self.p}, where S_A^T S_A has "
                "no inverse: give damping > 0, a larger beta, more decode_steps, or encoder='neumann'"
            )
        tolerance = torch.finfo(change.dtype).eps ** 0.75  # 6e-6 in float32
        solution = conjugate_gradient(product, change, steps=self.terms, tolerance=tolerance)
        return columns.mv(solution.value), solution.residual

    def _restricted(self, support: Tensor, key: Tensor) -> Products:
        sketch = _gatherable(self._sketch(key))
        if not isinstance(sketch, Columns):
            return Masked(sketch, support, self._ravel(self.like)[0].numel())
        return Matrix(self._gathers(lambda: sketch.columns(support), 0, key, support))

    def _sketch(self, key: Tensor) -> LinearOperator:
        return self.operator(self.p, sum(part.numel() for part in self.like.values()), key)

    def _ravel(self, params: Params) -> tuple[Tensor, Callable[[Tensor], Params]]:
        """One vector in the order of ``like``, whatever the order in which the names came."""
        return tree.ravel({name: params[name] for name in self.like})


def _gatherable(sketch: LinearOperator) -> Products:
    """Where S is stored as it is, the matrix, whose columns can be gathered."""
    if isinstance(sketch, Gaussian) and (sketch.whiten is None or not sketch.orthonormal):
        return Matrix(sketch.rows)
    return sketch
