"""One measurement of ``fedsep bench``, in a process of its own: python -m fedsep.cli.bench_one JOB RESULT.

A fresh process for each engine: no memory or thread of one is left for the next. Under torchrun all ranks run this.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from fedsep.cli.device import use_device
from fedsep.cli.job import answer
from fedsep.cli.plain import plain_loop
from fedsep.core import Params
from fedsep.recipes import Experiment, Sources, build, from_tree
from fedsep.results import Row
from fedsep.train import fit

PLAIN = "plain"
"""Names the loop that is no engine."""


def main(job_file: str, result_file: str) -> None:
    """Reads a job, measures, and writes what was found."""
    answer(job_file, result_file, measure)


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each round, and a digest of all that came out.

    Args:
        job: ``tree`` (the resolved recipe with the engine in question), ``file``, ``allow``, ``method``, ``rounds``,
            ``data_dir``, ``download``, ``device``, ``engine`` (a path, or ``PLAIN``).

    Raises:
        FedSepError: The engine cannot run this here.
    """
    use_device(job["device"])
    recipe = from_tree(job["tree"], job["file"], allow=job["allow"])
    data_dir = None if job["data_dir"] is None else Path(job["data_dir"])
    sources = Sources(data_dir, job["download"])
    experiment = build(recipe, recipe.seeds[0], sources, frozenset([job["method"]]))
    if job["engine"] == PLAIN:
        return {"seconds": plain_loop(experiment, job["method"], job["rounds"])}
    return _fitted(experiment, job["method"], job["rounds"])


def _fitted(experiment: Experiment, method: str, rounds: int) -> dict[str, Any]:
    recipe = experiment.recipe
    told = recipe.options()
    told["evaluate"] = replace(told["evaluate"], rounds=(rounds,))
    run = fit(
        experiment.algorithms[method],
        experiment.task,
        experiment.federation,
        rounds=rounds,
        seed=experiment.seed,
        engine=recipe.engine.build({}),
        states=recipe.states,
        **told,
    )
    ends = [0.0, *(row["wall_seconds"] for row in run.metrics)]
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None
    return {"seconds": [b - a for a, b in pairwise(ends)], "digest": _digest(run.params, run.metrics), "gpu": gpu}


def _digest(params: Params, rows: list[Row]) -> str:
    """Equal for runs that agree in every bit of the model, and in every figure but times."""
    digest = hashlib.sha256()
    for name in sorted(params):
        digest.update(params[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    kept = [{name: value for name, value in row.items() if not name.startswith("wall_")} for row in rows]
    digest.update(json.dumps(kept).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:])
