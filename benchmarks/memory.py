"""Peak memory with 1,000 and with 10,000 clients: client states on disk, 6 examples each, 100 clients a round.

Every run is a process of its own. Its peak is the largest resident set that the system saw from its start to the end
of ``fit``: interpreter and libraries, the data set, training, checkpoints and the evaluation at the end. What was
resident before ``fit`` is told beside it, so that one sees what ``fit`` itself added. The two sizes take turns.

Usage: python -m benchmarks.memory [--out records/memory.json] [--rounds 100] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from fedsep import Cohort, Evaluate, algorithms, data, fit, models, tasks
from fedsep.algorithms.fedsep_personal import NearServer
from fedsep.environment import environment

CLIENTS = (1_000, 10_000)
EXAMPLES = 6
COHORT = 100


def measure(clients: int, rounds: int) -> dict[str, Any]:
    """Trains in this process and reads its peak resident memory.

    The data set is MNIST in both cases, so that what differs is the number of clients alone; each client
    keeps its last model, 31 kB, from which its next decode starts.
    """
    torch.set_num_threads(1)
    fleet = data.mnist(clients=clients, partition=data.sizes([EXAMPLES] * clients))
    task = tasks.classification(models.logistic(fleet.shape, fleet.classes))
    method = algorithms.fedsep_implicit(
        task, inner=NearServer(task, 1.0), decode_steps=2, decode_lr=0.05, solver="cg", terms=3, steps=2, batch_size=6
    )
    loaded = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as folder:
        run = fit(
            method,
            task,
            fleet,
            rounds=rounds,
            cohort=Cohort(per_round=COHORT),
            states="disk",
            evaluate=Evaluate(rounds=(rounds,)),
            out=folder,
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # in KiB on Linux; counting takes some too
        count, stored = held(run.folder / "clients" if run.folder else Path(folder))
    return {
        "loaded_MiB": loaded / 2**20,
        "peak_MiB": peak,
        "client_states_on_disk": count,
        "client_states_MiB": stored / 2**20,
        "accuracy": run.summary["metrics"]["accuracy"]["last"],
        "seconds": run.summary["seconds"],
    }


def held(folder: Path) -> tuple[int, int]:
    """Number of files below a folder, and their bytes."""
    sizes = [os.path.getsize(Path(path, name)) for path, _, names in os.walk(folder) for name in names]
    return len(sizes), sum(sizes)


def several(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {
        "median": round(statistics.median(values), 1),
        "least": round(min(values), 1),
        "most": round(max(values), 1),
    }


def row(clients: int, rounds: int, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The runs of one size in the record."""
    spread = ("loaded_MiB", "peak_MiB", "seconds")
    same = {"client_states_on_disk": runs[0]["client_states_on_disk"], "accuracy": runs[0]["accuracy"]}
    same["client_states_MiB"] = round(runs[0]["client_states_MiB"], 1)
    figures = {name: several([run[name] for run in runs]) for name in spread}
    return {"clients": clients, "rounds": rounds, "processes": len(runs), **figures, **same}


def alone(clients: int, rounds: int) -> dict[str, Any]:
    """``measure`` in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.memory", "--clients", str(clients), "--rounds", str(rounds)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{clients:,} clients: {found['peak_MiB']:.1f} MiB in {found['seconds']:.0f} s", flush=True)
    return found


def main() -> None:
    """Measures both sizes in turn, prints the growth and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3, help="processes for each number of clients")
    parser.add_argument("--clients", type=int, default=None, help="measure this number only, in this process")
    options = parser.parse_args()
    if options.clients is not None:
        print(json.dumps(measure(options.clients, options.rounds)))
        return
    torch.set_num_threads(1)
    began = environment("sequential", 0)
    turns = [{clients: alone(clients, options.rounds) for clients in CLIENTS} for _ in range(options.repeats)]
    rows = [row(clients, options.rounds, [turn[clients] for turn in turns]) for clients in CLIENTS]
    few, many = (each["peak_MiB"]["median"] for each in rows)
    growth = many / few - 1
    print(f"growth of the median peak from {CLIENTS[0]:,} to {CLIENTS[-1]:,} clients: {growth:.1%}")
    if options.out is not None:
        told = json.loads(options.out.read_text()).get("told") if options.out.is_file() else None
        record = {"environment": began, "rows": rows, "growth": round(growth, 4)}
        record |= {} if told is None else {"told": told}  # by benchmarks.told
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
