"""How far it goes: a round over 1.0e8 parameters, and rounds among 1,000, 10,000 and 100,000 clients.

Every row is a process of its own. Peaks are what it was resident with at most, from its start to its end; seconds of
the processor are told beside those of the clock, since other programs may run.

Usage: python -m benchmarks.scale [--out records/scale.json] [--only parameters clients] [--rounds 20]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.memory import held
from fedsep import Cohort, Evaluate, algorithms, data, fit, models, random, tasks
from fedsep.cli.bench_apart import watch
from fedsep.environment import environment

RECIPE = "recipes/text/hundred_million.yaml"
CLIENTS = (1_000, 10_000, 100_000)
EXAMPLES, FEATURES, COHORT = 2, 16, 100


def parameters() -> dict[str, Any]:
    """The round of the recipe, through the command."""
    with tempfile.TemporaryDirectory() as out:
        began, spent = time.monotonic(), _processor()
        watched = watch([sys.executable, "-m", "fedsep", "run", RECIPE, "--out", out])
        took, used = time.monotonic() - began, _processor() - spent
        (path,) = Path(out).rglob("summary.json")
        summary = json.loads(path.read_text())
    return {
        "recipe": RECIPE,
        "parameters": summary["parameters"],
        "status": summary["status"],
        "bytes": summary["bytes"],
        "peak_MiB": round(watched.apart[0] / 2**20, 1),
        "round_seconds": round(summary["seconds"], 1),
        "command_seconds": round(took, 1),
        "processor_seconds": round(used, 1),
    }


def clients(count: int, rounds: int) -> dict[str, Any]:
    """Rounds among ``count`` clients of two examples each, in this process; their memories are on the disk."""
    torch.set_num_threads(1)
    x = random.normal(random.key(0), EXAMPLES * count, FEATURES)
    y = (x[:, 0] > 0).long()
    fleet = data.arrays(x, y, clients=count, test=0.01, name="made up")
    task = tasks.classification(models.mlp(fleet.shape, fleet.classes))
    method = algorithms.topk_ef(task, k=50, lr=0.1, steps=2, batch_size=2)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as out:
        run = fit(method, task, fleet, rounds=rounds, cohort=Cohort(per_round=COHORT), states="disk",
                  evaluate=Evaluate(rounds=(rounds,)), out=out)  # fmt: skip
        files, size = held(run.folder / "clients" if run.folder else Path(out))
    ends = [row["wall_seconds"] for row in run.metrics]
    return {
        "clients": count,
        "rounds": rounds,
        "round_seconds": round(statistics.median(b - a for a, b in pairwise(ends)), 3),
        "processor_seconds_a_round": round((time.process_time() - began) / rounds, 3),
        "peak_MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "states_on_disk": files,
        "states_MiB": round(size / 2**20, 1),
    }


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _apart(count: int, rounds: int) -> dict[str, Any]:
    """``clients`` in a process of its own."""
    import subprocess

    words = [sys.executable, "-m", "benchmarks.scale", "--clients", str(count), "--rounds", str(rounds)]
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    print(found, flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what is asked for and keeps the rest of the record as it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=("parameters", "clients"), default=("parameters", "clients"))
    parser.add_argument("--clients", type=int, default=None, help="measure this number only, in this process")
    options = parser.parse_args(arguments)
    if options.clients is not None:
        print(json.dumps(clients(options.clients, options.rounds)))
        return
    record: dict[str, Any] = {"environment": environment("sequential", 0)}
    if options.out is not None and options.out.is_file():
        record = {**json.loads(options.out.read_text()), **record}
    if "clients" in options.only:
        record["clients"] = [_apart(count, options.rounds) for count in CLIENTS]
    if "parameters" in options.only:
        record["parameters"] = parameters()
        print(record["parameters"])
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
