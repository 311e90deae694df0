"""The laws of linear operators, over matrices written out in full."""

from __future__ import annotations

import torch
from torch import Tensor

from fedsep import random
from fedsep.operators import LinearOperator, MakeOperator
from fedsep.testing.broken import LawBroken, require_close, require_same


def check_operator(make: MakeOperator, p: int = 6, d: int = 45, *, draws: int = 200) -> None:
    """Every law of operators, on small ones.

    Args:
        make: p, d and a key to S.
        p: Rows.
        d: Columns.
        draws: Keys over which E S^T S is averaged; it must be (scale p/d) I within six standard errors.

    Raises:
        LawBroken: A law does not hold; the message says which, what was expected and what came.
    """
    subject = getattr(make, "__name__", type(make).__name__)
    sketch = make(p, d, random.key(1))
    if tuple(sketch.shape) != (p, d):
        raise LawBroken("its shape is (p, d)", subject, str((p, d)), str(sketch.shape))
    tolerance = 1e-8 if torch.get_default_dtype() == torch.float64 else 1e-4
    rows = _written_out(sketch)
    require_close("rmv is the transpose of mv", subject, rows, sketch.mv(torch.eye(d)).mT, tolerance)
    batch = random.normal(random.key(2), 2, 3, d)
    require_close("a batch is its vectors one by one", subject, batch @ rows.mT, sketch.mv(batch), tolerance)
    require_close("it goes through vmap", subject, batch @ rows.mT, torch.vmap(torch.vmap(sketch.mv))(batch), tolerance)
    require_same("equal keys make equal operators", subject, rows, _written_out(make(p, d, random.key(1))))
    if torch.equal(rows, _written_out(make(p, d, random.key(3)))):
        raise LawBroken("other keys make other operators", subject, "another matrix", "the same")
    _norm(subject, sketch, rows, tolerance)
    x = random.normal(random.key(4), p)
    pseudo = sketch.mv(sketch.rmv(sketch.solve(x)))
    require_close("S S^T solve(x) = x", subject, x, pseudo, max(tolerance, 1e-7))
    _unbiased(subject, make, p, d, draws)


def _written_out(sketch: LinearOperator) -> Tensor:
    return sketch.rmv(torch.eye(sketch.shape[0]))


def _norm(subject: str, sketch: LinearOperator, rows: Tensor, tolerance: float) -> None:
    largest = float(torch.linalg.matrix_norm(rows, 2))
    if largest > sketch.norm * (1 + tolerance):
        raise LawBroken("norm bounds the spectral norm", subject, f"at least {largest:.6g}", f"{sketch.norm:.6g}")
    if sketch.orthonormal:
        identity = torch.eye(sketch.shape[0])
        require_close("orthonormal rows have S S^T = I", subject, identity, rows @ rows.mT, tolerance)


def _unbiased(subject: str, make: MakeOperator, p: int, d: int, draws: int) -> None:
    sketches = [make(p, d, random.fold(random.key(5), n)) for n in range(draws)]
    products = torch.stack([(rows := _written_out(sketch)).mT @ rows for sketch in sketches])
    mean, error = products.mean(0), products.std(0) / draws**0.5
    expected = sketches[0].scale * p / d * torch.eye(d)
    excess = (mean - expected).abs() - 6 * error - 1e-6
    if bool((excess > 0).any()):
        i, j = divmod(int(excess.argmax()), d)
        law = "E S^T S = scale p/d I"
        raise LawBroken(law, subject, f"{float(expected[i, j]):.4g} at {i, j}", f"{float(mean[i, j]):.4g}")
