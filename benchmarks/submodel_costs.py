"""What a client of a fleet pays at the paper's size: ResNet-18 of base width 64, 32 x 32 pixels, batches of 32.

Seconds are processor time of one thread; memory is the peak of a process of its own during a client's round, above what
it held before: Linux forgets the peak of what came earlier, such as the check of the units, when 5 is written to
/proc/self/clear_refs. Random images: the time does not depend on them. Each measurement is a process of its own.

- ``step``: a local step of a client of each capability, outside refreshes.
- ``round``: a whole client round of 2 batches (decode, learn, encode) by FedSep's mask outside a refresh and by
  FedRolex, at the same capability; memory at a refresh and outside.
- ``refresh``: scoring of the units on 200 images, on the whole model and on the held sub-model, beside one local epoch
  of a full-size client with 500 images.

Usage: python -m benchmarks.submodel_costs [--width 64] [--repeats 3] [--out records/submodel_costs.json]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from fedsep import FedSep, algorithms, models, random, tasks
from fedsep.core import Ctx, Samples, Shard, Task
from fedsep.environment import environment

LEVELS = (1.0, 0.5, 0.25, 0.125, 0.0625)
SHAPE, CLASSES, BATCH, IMAGES = (3, 32, 32), 10, 32, 500
LOCAL: dict[str, Any] = {"lr": 0.01, "batch_size": BATCH}

ONCE: dict[str, dict[str, Any]] = {"fedsep_mask": {"refresh_every": None}, "fedsep_shared": {"refresh_every": 1000}}
"""Units are scored in the first round that is measured, and in no other."""

METHODS: dict[str, Callable[..., FedSep]] = {
    "fedsep_mask": algorithms.fedsep_mask,
    "fedsep_mask, held": lambda task, **local: algorithms.fedsep_mask(task, scored_on="held", **local),
    "fedsep_shared, held": lambda task, **local: algorithms.fedsep_shared(task, scored_on="held", **local),
    "fedrolex": algorithms.fedrolex,
    "heterofl": algorithms.heterofl,
}


def shard() -> Shard:
    """A client's 500 images of two classes."""
    return Shard(Samples(random.normal(random.key(1), IMAGES, *SHAPE), torch.arange(IMAGES) % 2))


def rounds(method: FedSep, task: Task, capability: float, count: int) -> Iterator[tuple[float, float]]:
    """Processor seconds of a client's rounds, and the process's peak during each, in MiB above what it held before."""
    state, data, memory, report = method.init(task.init()), shard(), None, None
    for number in range(count):
        ctx = Ctx(number, capability, random.fold(random.key(3), number), number - 1, report)
        payload = method.broadcast(state, ctx)
        memory = method.enroll(payload, ctx) if memory is None else memory
        before, began = forget_peak(), time.process_time()
        reply, memory, _ = method.update(payload, memory, data, ctx)
        yield time.process_time() - began, status("VmHWM") - before
        report = reply.get("report", report) if isinstance(reply, dict) else report


def forget_peak() -> float:
    """Gives freed memory back, and lets the peak of the resident set begin here; the resident set, in MiB. Linux only.

    Without it the peak would be that of whatever was largest so far: of the whole model, also for a narrow client.
    """
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(name: str) -> float:
    """A size of this process, as the kernel counts it, in MiB."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None, f"the kernel tells no {name}"
    return int(found[1]) / 1024


def measure(asked: tuple[str, float, int, int]) -> dict[str, Any]:
    """A method at a capability: its refresh, where it has one, and its rounds between refreshes."""
    torch.set_num_threads(1)
    name, capability, width, steps = asked
    task = tasks.classification(models.resnet(SHAPE, CLASSES, width=width), shape=SHAPE)
    once = ONCE.get(name.partition(",")[0], {})
    local = LOCAL | ({"steps": steps} if steps else {"epochs": 1}) | once
    found = list(rounds(METHODS[name](task, **local), task, capability, 4))
    (first, first_peak), rest = found[0], found[1:]
    row = {"method": name, "capability": capability, "width": width, "steps": steps or -(-IMAGES // BATCH)}
    row |= {"seconds": round(statistics.median(seconds for seconds, _ in rest), 3)}
    row |= {"peak_mib": round(max(at for _, at in rest), 1)}
    return row | ({"refresh_seconds": round(first, 3), "refresh_peak_mib": round(first_peak, 1)} if once else {})


def jobs(width: int) -> Iterator[tuple[str, float, int, int]]:
    """What is measured: all levels outside refreshes, refreshes of strong and weak clients, an epoch in full."""
    for level in LEVELS:
        yield "heterofl", level, width, 2
        yield "fedrolex", level, width, 2
        yield "fedsep_mask", level, width, 2
    for level in (1.0, 0.25, 0.0625):
        yield "fedsep_mask, held", level, width, 2
        yield "fedsep_shared, held", level, width, 2
    yield "heterofl", 1.0, width, 0


def main() -> None:
    """Measures everything, one process after another, and writes the record as rows come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    record: dict[str, Any] = {"environment": environment("sequential", 0), "rows": []}
    for _ in range(options.repeats):
        for asked in jobs(options.width):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                row = pool.apply(measure, (asked,))
            record["rows"].append(row)
            print(json.dumps(row), flush=True)
            if options.out is not None:
                options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
