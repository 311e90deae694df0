"""Peak memory with 1,000 and with 10,000 clients: client states on disk, 6 examples each, 100 clients a round.

Usage: python benchmarks/memory.py [--out records/memory.json] [--rounds 40]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from fedsep import Cohort, Evaluate, algorithms, data, fit, models, tasks
from fedsep.algorithms.fedsep_personal import NearServer
from fedsep.environment import environment

CLIENTS = (1_000, 10_000)
EXAMPLES = 6
COHORT = 100


def peak(clients: int, rounds: int) -> dict[str, Any]:
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
        files = list(Path(folder).rglob("clients/**/*.safetensors"))
        stored = sum(path.stat().st_size for path in files)
    return {
        "clients": clients,
        "rounds": rounds,
        "peak_MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "client_states_on_disk": len(files),
        "client_states_MiB": round(stored / 2**20, 1),
        "accuracy": run.summary["metrics"]["accuracy"]["last"],
        "seconds": round(run.summary["seconds"], 1),
    }


def main() -> None:
    """Measures each number of clients in a process of its own, prints the growth and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--clients", type=int, default=None, help="measure this number only, in this process")
    options = parser.parse_args()
    if options.clients is not None:
        print(json.dumps(peak(options.clients, options.rounds)))
        return
    rows: list[dict[str, Any]] = []
    for clients in CLIENTS:
        command = [
            sys.executable,
            "-m",
            "benchmarks.memory",
            "--clients",
            str(clients),
            "--rounds",
            str(options.rounds),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(rows[-1]), flush=True)
    growth = rows[-1]["peak_MiB"] / rows[0]["peak_MiB"] - 1
    print(f"growth of peak memory from {CLIENTS[0]:,} to {CLIENTS[-1]:,} clients: {growth:.1%}")
    if options.out is not None:
        record = {"environment": environment("sequential", 0), "rows": rows, "growth": round(growth, 4)}
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
