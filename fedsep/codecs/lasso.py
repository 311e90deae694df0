"""The paper's compressed codec (Eq. 4 and 5): decode solves a LASSO problem, encode its derivative on the support."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, NotRequired, TypedDict

import torch
from torch import Tensor

from fedsep import random, tree
from fedsep.core import Ctx, Decoded, FedSepError, Info, Params, Shard
from fedsep.lasso import (
    Matrix,
    Prepared,
    Products,
    Solution,
    apply,
    factorise,
    fista,
    ista,
    iterate,
    prepared,
    restricted,
)
from fedsep.memo import Memo
from fedsep.operators import Gaussian, LinearOperator, MakeOperator, gaussian
from fedsep.operators.per_layer import matrix_bytes, stand_in

_FEW = 10  # steps in a check

_SKETCH = 4  # what the client's key is folded with to draw a sketch of its own

Decoder = Literal["fista", "ista"]
Encoder = Literal["direct", "cg", "neumann"]
Start = Literal["initial", "zero"]


class Memory(TypedDict):
    """A client's: the key of its sketch and, for a warm start, its last decoded y, shape (d,)."""

    key: Tensor
    y: NotRequired[Tensor]


def normal(p: int, d: int, key: Tensor) -> Gaussian:
    """A stored matrix of independent entries N(0, 1/p), the paper's."""
    return gaussian(p, d, key, orthonormal=False)


@dataclass(frozen=True)
class Lasso:
    """y_x = argmin_y 1/2 |S y - x|^2 + beta |y|_1 and dx = S_A (S_A^T S_A + damping I)^-1 dy_A, A = supp(y_x).

    Without damping dx = +J^T dy: Eq. (5) as printed, which leaves out the minus sign of Eq. (2), in the limit of its
    series. Only what changes on the support is communicated; where |S^T x|_inf <= beta the minimiser is 0, and nothing
    is ever learned from there (``absorbing`` is then 1 in the log).

    Decode takes at most ``steps`` proximal steps from ``first``, the initial model or 0. It is then a function of x:
    all clients share one computation, and the server's model is theirs. With ``warm_start`` it goes on from the
    client's last y: clients whose last rounds were the same ones share it; the server, which keeps no y, starts from
    ``first``.

    With ``private`` sketches each client draws its own S^(m) when it enrols and keeps its key. All decode the same x to
    models of their own; h(x) is the mean of their losses and the mean of their dx its gradient, but the server, which
    decodes with the shared S, serves a model that no client has trained.

    Attributes:
        first: Where decode starts, a model's parameters; also gives their names and shapes.
        p: Communication dimension.
        beta: Of the penalty, absolute.
        key: Of the shared sketch.
        operator: Makes S.
        decoder: ``"fista"`` or ``"ista"`` (the paper's).
        steps: Proximal steps of a decode, at most.
        tolerance: Relative duality gap at which decode stops.
        gamma: Step of ista and of the Neumann series, below 2 / |S|^2.
        warm_start: Whether decode goes on from the client's last y.
        encoder: ``"direct"``: one factorisation for all clients, where S is stored, else as ``"cg"``; or ``"neumann"``
            for gamma sum_{q=0..Q} S_A (I - gamma S_A^T S_A)^q dy_A.
        terms: Q, or the largest number of steps of cg.
        damping: Of direct and cg.
        private: Whether each client has a sketch of its own.

    Bytes:
        Up and down: 4 p in float32.
    """

    first: Params
    p: int
    beta: float
    key: Tensor
    operator: MakeOperator = normal
    decoder: Decoder = "fista"
    steps: int = 10
    tolerance: float = 1e-4
    gamma: float = 0.0
    warm_start: bool = False
    encoder: Encoder = "direct"
    terms: int = 100
    damping: float = 1e-3
    private: bool = False
    _decodes: Memo = field(default_factory=Memo, compare=False, repr=False)
    _factors: Memo = field(default_factory=Memo, compare=False, repr=False)
    _grams: Memo = field(default_factory=Memo, compare=False, repr=False)
    _ready: Memo = field(default_factory=Memo, compare=False, repr=False)

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

    def enroll(self, x: dict[str, Tensor], ctx: Ctx) -> Memory:
        """The shared sketch's key, or that of one of the client's own."""
        key = random.fold(ctx.key, _SKETCH) if self.private else self.key
        return {"key": key, "y": self._ravel(self.first)[0]} if self.warm_start else {"key": key}

    def decode(self, x: dict[str, Tensor], memory: Memory, shard: Shard, ctx: Ctx) -> tuple[Decoded, Memory]:
        """Proximal steps, to ``tolerance`` or ``steps``.

        Raises:
            FedSepError: x is not finite.
        """
        first, unravel = self._ravel(self.first)
        solution, largest = self._solve(x["omega"], memory.get("y", first), memory["key"])
        if not bool(torch.isfinite(solution.gap)):
            raise FedSepError("x is not a finite number: learning diverged; choose a smaller server_lr or lr")
        after: Memory = {**memory, "y": solution.y} if self.warm_start else memory
        return Decoded(unravel(solution.y), residual=(solution, largest)), after

    def encode(
        self, start: Decoded, y: Params, x: dict[str, Tensor], memory: Memory, shard: Shard, ctx: Ctx
    ) -> tuple[dict[str, Tensor], Memory, Info]:
        """S_A (S_A^T S_A + damping I)^-1 dy_A, and what decode was like.

        Raises:
            FedSepError: The system is singular: see ``fedsep.lasso.factorise``.
        """
        solution, largest = start.residual
        support = solution.y.nonzero()[:, 0]
        change = self._ravel(tree.sub(y, start.y))[0][support]
        dx, residual = self._encode(support, change, memory["key"], x["omega"])
        info = {
            "support": torch.tensor(len(support)),
            "duality_gap": solution.gap,
            "decode_steps": solution.steps,
            "absorbing": largest <= self.beta,
            "encode_residual": residual,
        }
        return {"omega": dx}, memory, info

    def advance(self, x: dict[str, Tensor], round: int) -> tuple[dict[str, Tensor], bool]:
        """Nothing happens between rounds."""
        return x, False

    def stored(self) -> int:
        """Bytes of S, where it is a stored matrix."""
        return matrix_bytes(self._maker, self.p, tree.size(self.first))

    def sketchless(self) -> Lasso:
        """The same messages of a sketch without factorisation, by a few steps, for a check."""
        other = stand_in(self._maker, self.p, tree.size(self.first), self.key)
        made = replace(self, operator=other, beta=1e-9, steps=min(self.steps, _FEW), terms=min(self.terms, _FEW))
        return replace(made, _decodes=Memo(), _factors=Memo(), _grams=Memo(), _ready=Memo())  # nothing of S

    def model(self, x: dict[str, Tensor]) -> Params:
        """What a client decodes from x alone, by the shared sketch."""
        first, unravel = self._ravel(self.first)
        return unravel(self._solve(x["omega"], first, self.key)[0].y)

    @property
    def _maker(self) -> MakeOperator:
        """``operator``, with its options where it is ``normal``."""
        return partial(gaussian, orthonormal=False) if self.operator is normal else self.operator

    def _solve(self, x: Tensor, start: Tensor, key: Tensor) -> tuple[Solution, Tensor]:
        """y with its certificate, and |S^T x|_inf."""

        def compute() -> tuple[Solution, Tensor]:
            sketch = _stored(self._sketch(key))
            if self.decoder == "ista":
                found = ista(sketch, x, self.beta, start, gamma=self.gamma, steps=self.steps, tolerance=self.tolerance)
            else:
                ready = partial(self._prepared, sketch, key)
                found = fista(sketch, x, self.beta, start, steps=self.steps, tolerance=self.tolerance, prepare=ready)
            return found, sketch.rmv(x).abs().max()

        return self._decodes(compute, 0, key, x, start)

    def _encode(self, support: Tensor, change: Tensor, key: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """dx, and the relative residual of the system (of the Neumann series: its last term)."""
        if len(support) == 0:
            return torch.zeros_like(x), x.new_zeros(())
        sketch = _stored(self._sketch(key))
        if self.encoder == "direct" and isinstance(sketch, Matrix):
            gram = partial(self._gram, sketch, key)
            factor = self._factors(lambda: factorise(sketch, support, self.damping, gram), 0, key, support)
            return apply(factor, sketch, support, change), x.new_zeros(())
        gamma = self.gamma if self.encoder == "neumann" else None
        columns = restricted(sketch, support, len(self._ravel(self.first)[0]))
        return iterate(columns, change, damping=self.damping, terms=self.terms, gamma=gamma, p=self.p)

    def _gram(self, sketch: Matrix, key: Tensor) -> Tensor:
        """S S^T."""
        return self._grams(lambda: sketch.rows @ sketch.rows.mT, 0, key)

    def _prepared(self, sketch: Products, key: Tensor) -> Prepared | None:
        """Made for the shared sketch alone: a private one is decoded once, which takes less than that."""
        if self.private or not isinstance(sketch, Matrix):
            return None
        return self._ready(lambda: prepared(sketch, self._gram(sketch, key)), 0, key)

    def _sketch(self, key: Tensor) -> LinearOperator:
        return self.operator(self.p, tree.size(self.first), key)

    def _ravel(self, params: Params) -> tuple[Tensor, Callable[[Tensor], Params]]:
        """One vector in the order of ``first``, whatever the order in which the names came."""
        return tree.ravel({name: params[name] for name in self.first})


def _stored(sketch: LinearOperator) -> Products:
    """Where S is stored as it is, the matrix, whose columns can be gathered."""
    if isinstance(sketch, Gaussian) and (sketch.exact or not sketch.orthonormal):
        return Matrix(sketch.rows)
    return sketch
