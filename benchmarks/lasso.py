"""Times FISTA against scikit-learn's Lasso, and rounds of fedsep_lasso against FedAvg on W1.

Usage: python -m benchmarks.lasso [--out records/lasso.json] [--repeats 5] [--rounds 20] [--processes 2]
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

from benchmarks.rounds import WARM_UP, seconds
from benchmarks.workloads import W1
from fedsep import FedSep, algorithms, engines, random, tasks
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


def rounds(count: int, processes: int) -> list[dict[str, Any]]:
    """Rounds of W1 against FedAvg's, in alternating blocks."""
    fleet = W1.federation()
    task = tasks.classification(W1.model(fleet.shape, fleet.classes))
    local: dict[str, Any] = {"lr": 0.1, "steps": W1.steps, "batch_size": W1.batch_size}
    fifty: dict[str, Any] = {"p": P, "decode_steps": 50, "tolerance": 0.0}
    sparse: dict[str, Any] = {**fifty, "beta": BETA, "start": "zero", "warm_start": True}
    methods = {
        "fedsep_lasso p=500, by default": algorithms.fedsep_lasso(task, p=P, **local),
        "fedsep_lasso p=500, 50 steps": algorithms.fedsep_lasso(task, **fifty, **local),
        "fedsep_lasso p=500, 50 steps, start=zero": algorithms.fedsep_lasso(task, **sparse, **local),
        "fedsep_lasso p=500, 50 steps, start=zero, cg": algorithms.fedsep_lasso(task, **sparse, encoder="cg", **local),
    }
    rows = []
    for name, method in methods.items():
        times = _in_turn(method, algorithms.fedavg(task, **local), task, fleet, count, processes)
        ours, plain = (statistics.median(each) for each in times)
        row = {"workload": "W1", "method": name, "seconds": _spread(times[0]), "fedavg_seconds": _spread(times[1])}
        rows.append({**row, "ratio_to_fedavg": round(ours / plain, 3)})
    return rows


def _in_turn(
    method: FedSep, fedavg: FedSep, task: Any, fleet: Any, count: int, processes: int, block: int = 5
) -> tuple[list[float], list[float]]:
    """Seconds of the rounds of both, ``block`` of one and then of the other."""
    ours, plain = list[float](), list[float]()
    for _ in range(-(-count // block)):
        for times, each in ((ours, method), (plain, fedavg)):
            engine = engines.workers(processes=processes)
            times += seconds(each, task, fleet, W1.cohort, engine, block + WARM_UP + 1, lambda: None)
    return ours, plain


def _spread(times: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(times), 4),
        "least": round(min(times), 4),
        "most": round(max(times), 4),
        "runs": len(times),
    }


def main() -> None:
    """Runs both, prints a line for each result and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = {"environment": environment("workers", 0), "processes": options.processes}
    record["solvers"] = solvers(options.repeats)
    print(json.dumps(record["solvers"]), flush=True)
    record["rounds"] = rounds(options.rounds, options.processes)
    for row in record["rounds"]:
        print(json.dumps(row), flush=True)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
