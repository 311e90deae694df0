"""A measurement of ``fedsep bench`` from outside: its process is started, its memory watched, its result read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fedsep.cli.bench_one import PLAIN
from fedsep.cli.footprint import footprint, peaks
from fedsep.engines.workers import usable_cores
from fedsep.recipes import Recipe, Sources

REFERENCE = "fedsep.engines.sequential"
"""The engine that others are compared with."""

_TORCHRUN = "fedsep.engines.torchrun"
_LOOK_SECONDS = 0.05  # between two looks at memory
_OF_TORCHRUN = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"}


def measured_apart(
    recipe: Recipe, method: str, engine: str, sources: Sources, rounds: int, device: str
) -> dict[str, Any]:
    """What a process of its own found; ``error`` if it found nothing."""
    block = {"use": REFERENCE if engine == PLAIN else engine}
    if engine == recipe.engine.use:
        block = {key: value for key, value in recipe.engine.resolved().items() if key != "faults"}
    job = {
        "tree": {**recipe.single(method, recipe.seeds[0]), "engine": block},
        "file": recipe.file,
        "allow": recipe.allow,
        "method": method,
        "rounds": rounds,
        "data_dir": None if sources.data_dir is None else str(sources.data_dir),
        "download": sources.download,
        "device": device,
        "engine": engine,
    }
    with tempfile.TemporaryDirectory(prefix="fedsep-bench-") as folder:
        job_file, result_file = Path(folder) / "job.json", Path(folder) / "result.json"
        job_file.write_text(json.dumps(job, default=str), encoding="utf-8")
        words = [*_program(engine, device), str(job_file), str(result_file)]
        watched = watch(words)
        if not result_file.exists():
            return {"error": f"its process ended with exit code {watched.code}: {watched.said}"}
        return {"memory": watched.together, **json.loads(result_file.read_text(encoding="utf-8"))}


def _program(engine: str, device: str) -> list[str]:
    if engine != _TORCHRUN:
        return [sys.executable, "-m", "fedsep.cli.bench_one"]
    count = str(_processes(device))
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count, "-m",
            "fedsep.cli.bench_one"]  # fmt: skip


def _processes(device: str) -> int:
    """One for each device of the machine, or each core."""
    return max(1, torch.cuda.device_count() if device.startswith("cuda") else usable_cores())


class Watched(NamedTuple):
    """What was seen of a program.

    Attributes:
        together: Most bytes that it and all it started had at a time, what they share counted once; None: not told.
        apart: Most bytes that each of its processes was resident with, the first one's first.
        code: Its exit code.
        said: The last line it said.
    """

    together: int | None
    apart: tuple[int, ...]
    code: int
    said: str


def watch(words: Sequence[str]) -> Watched:
    """Runs a program and looks at its memory until it ends."""
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    kept = {name: value for name, value in os.environ.items() if name not in _OF_TORCHRUN}
    most: int | None = None
    apart: dict[int, int] = {}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(words, env={**kept, "PYTHONPATH": paths}, stdout=said, stderr=said)
        try:
            while process.poll() is None:
                now = footprint(process.pid)
                most = now if most is None else max(most, now or 0)
                apart |= peaks(process.pid)
                time.sleep(_LOOK_SECONDS)
        finally:
            process.terminate()
            process.wait()
        said.seek(0)
        lines = [line for line in said.read().splitlines() if line.strip()]
    return Watched(most, tuple(apart.values()), process.returncode, lines[-1] if lines else "it said nothing")
