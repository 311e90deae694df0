"""Where and how a run was made: ``environment.json``."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from fedsep.files import write_json
from fedsep.folder import RunFolder

_FILE = "environment.json"


def versions() -> dict[str, str]:
    """What numbers may depend on: fedsep's and torch's versions."""
    return {"fedsep": _version(), "torch": torch.__version__}


def environment(engine: object, seed: int) -> dict[str, Any]:
    """The versions, machine, command and engine of a run that starts now."""
    return {
        **versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": {"cpu": processor(), "cores": os.cpu_count(), **_gpu()},
        "started": _now(),
        "command": command(),
        "seed": seed,
        "engine": re.sub(r" at 0x[0-9a-f]+", "", repr(engine)),
        "threads": torch.get_num_threads(),
    }


def record_start(
    folder: RunFolder | None,
    engine: object,
    seed: int,
    fleet: object,
    recipe: Mapping[str, Any] | None,
    chosen: Mapping[str, Any] | None = None,
) -> None:
    """Writes what a run is, before its first round: recipe, environment with the engine ``chosen``, and partition."""
    if folder is None:
        return
    if recipe is not None:
        folder.write_recipe(recipe)
    write_json(folder.path / _FILE, environment(engine, seed) | _chosen(chosen))
    folder.write_partition(fleet)


def record_resumption(
    folder: RunFolder | None,
    round: int,
    recipe: Mapping[str, Any] | None,
    chosen: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Adds when and how a run went on after ``round`` rounds, and gives its rows of metrics so far."""
    assert folder is not None
    if recipe is not None:
        folder.write_recipe(recipe)
    path, known = folder.path / _FILE, _known(folder)
    again = {"round": round, "started": _now(), "command": command(), **_chosen(chosen)}
    write_json(path, known | {"resumed": [*known.get("resumed", []), again]})
    (folder.path / "summary.json").unlink(missing_ok=True)  # what the run had come to is no longer true
    return folder.rows()


def chosen_engine(folder: RunFolder | None) -> dict[str, Any] | None:
    """The engine that was chosen for the run in a folder when it began, or last; None if none was."""
    known = {} if folder is None else _known(folder)
    return next((each["chosen"] for each in [*known.get("resumed", [])[::-1], known] if "chosen" in each), None)


def _known(folder: RunFolder) -> dict[str, Any]:
    path = folder.path / _FILE
    return json.loads(path.read_bytes()) if path.exists() else {}


def _chosen(record: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if record is None else {"chosen": dict(record)}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def command() -> str:
    """The command line without the folders in which programs happen to lie."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *sys.argv[1:]])


def _version() -> str:
    try:
        return metadata.version("fedsep")
    except metadata.PackageNotFoundError:
        return "not installed"


def _gpu() -> dict[str, str]:
    """The graphics processor, where this process computes on one."""
    return {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_initialized() else {}


def processor() -> str:
    """The processor's name; on Linux ``platform`` does not know it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.processor()
