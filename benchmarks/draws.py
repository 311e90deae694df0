"""What could be gained if the next round's minibatches were prepared meanwhile: the part of a round that draws them.

Seconds of the processor in W1's and W2's local steps on one thread, and in their minibatches alone: positions drawn,
images taken and made floats. The two take turns.

Usage: python -m benchmarks.draws [--rounds 10] [--out records/draws.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.markdown import table
from benchmarks.workloads import W1, W2, Workload
from fedsep import learners, random, tasks
from fedsep.core import Ctx, Decoded
from fedsep.environment import environment
from fedsep.learners.batches import minibatches

RECORD = Path("records/draws.json")


def measured(workload: Workload, rounds: int) -> dict[str, Any]:
    """Median seconds of a round's cohort; the first round is not counted."""
    fleet = workload.federation()
    task = tasks.classification(workload.model(fleet.shape, fleet.classes))
    learner, start = learners.sgd(task, steps=workload.steps, batch_size=workload.batch_size), Decoded(task.init())
    parts = [fleet.shard(client) for client in range(workload.cohort)]
    spent: dict[str, list[float]] = {"minibatches": [], "local_steps": []}
    for number in range(rounds + 1):
        keys = [random.fold(random.key(number), client) for client in range(workload.cohort)]

        def draw(keys: list[Any] = keys) -> None:
            for part, key in zip(parts, keys, strict=True):
                list(minibatches(part.train, key, workload.batch_size, workload.steps))

        def learn(keys: list[Any] = keys, number: int = number) -> None:
            for part, key in zip(parts, keys, strict=True):
                learner.learn(start, part, Ctx(number, 1.0, key))

        for name, act in {"minibatches": draw, "local_steps": learn}.items():
            spent[name].append(processor(act))
    middle = {name: round(statistics.median(each[1:]), 5) for name, each in spent.items()}
    return {"workload": workload.name, "rounds": rounds, "seconds": middle}


def processor(act: Callable[[], None]) -> float:
    """Seconds of the processor, which other programs do not lengthen as they do those of the clock."""
    began = time.process_time()
    act()
    return time.process_time() - began


def page_table() -> str:
    """The record as a table."""
    if not RECORD.is_file():
        return "Not measured yet."
    record = json.loads(RECORD.read_text())
    lines = [
        [row["workload"], *(f"{1e3 * part:.1f}" for part in row["seconds"].values()),
         f"{row['seconds']['minibatches'] / row['seconds']['local_steps']:.1%}"]
        for row in record["rows"]
    ]  # fmt: skip
    of = record["environment"]
    told = f"{of['machine']['cpu']}, one thread, torch {of['torch']}, {of['started']}."
    head = ["workload", "minibatches, ms of the processor a round", "local steps, with them", "part"]
    return f"{table(head, lines)}\n\n{told}"


def main() -> None:
    """Measures, prints and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = {"environment": environment("none", 0), "rows": [measured(each, options.rounds) for each in (W1, W2)]}
    print(json.dumps(record["rows"]))
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
