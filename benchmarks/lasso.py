"""Times FISTA against scikit-learn's Lasso, both to the same duality gap, on one thread.

What a round of fedsep_lasso takes beside one of FedAvg is measured by ``python -m benchmarks.rounds``.

Usage: python -m benchmarks.lasso [--out records/lasso.json] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import Lasso
from torch import Tensor

from fedsep import random
from fedsep.environment import environment
from fedsep.lasso import Matrix, Solution, fista
from fedsep.operators import gaussian

P, D = 500, 20_000
BETA, GAP = 0.1, 1e-6  # beta in units of |S^T x|_inf; the relative duality gap at which both stop


def solvers(repeats: int) -> dict[str, Any]:
    """Both to the same duality gap, in float64, on one thread, in turn; x is the sketch of a normal vector."""
    torch.set_default_dtype(torch.float64)
    rows = gaussian(P, D, random.key(1), orthonormal=False).rows
    x = rows @ random.normal(random.key(2), D)
    beta = BETA * float((rows.mT @ x).abs().max())

    def objective(y: Tensor) -> float:
        return float(0.5 * (x - rows @ y).square().sum() + beta * y.abs().sum())

    def ours() -> Solution:
        return fista(Matrix(rows), x, beta, torch.zeros(D), steps=100_000, tolerance=GAP)

    least = objective(ours().y)
    columns = np.asfortranarray(rows.numpy())  # the layout that scikit-learn computes in
    # Its objective is 1/p of ours, and its tolerance is in units of |x|^2 / p.
    theirs = Lasso(alpha=beta / P, fit_intercept=False, tol=GAP * least / float(x @ x), max_iter=100_000)
    times: dict[str, list[float]] = {"fista": [], "scikit_learn": []}
    for _ in range(repeats):
        began = time.perf_counter()
        solution = ours()
        times["fista"].append(time.perf_counter() - began)
        began = time.perf_counter()
        theirs.fit(columns, x.numpy())
        times["scikit_learn"].append(time.perf_counter() - began)
    reference = objective(torch.from_numpy(theirs.coef_))
    torch.set_default_dtype(torch.float32)
    return {
        "p": P,
        "d": D,
        "beta_relative": BETA,
        "gap": {"fista": float(solution.gap), "scikit_learn": float(theirs.dual_gap_) * P / reference},
        "support": int((solution.y != 0).sum()),
        "steps": {"fista": int(solution.steps), "scikit_learn": int(theirs.n_iter_)},
        "objective_above_scikit_learn": objective(solution.y) / reference - 1,
        "seconds": {name: _spread(each) for name, each in times.items()},
        "ratio_of_medians": round(statistics.median(times["fista"]) / statistics.median(times["scikit_learn"]), 3),
    }


def _spread(times: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(times), 4),
        "least": round(min(times), 4),
        "most": round(max(times), 4),
        "runs": len(times),
    }


def main() -> None:
    """Times both, prints what was found and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = {"environment": environment("none", 1), "solvers": solvers(options.repeats)}
    print(json.dumps(record["solvers"]), flush=True)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
