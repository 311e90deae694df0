"""``theory.json``: what experiments found, kept after each of them, so that an interrupted command goes on."""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedsep.core import FedSepError
from fedsep.environment import environment
from fedsep.files import write_json, writing
from fedsep.recipes.text import inline
from fedsep.theory.finding import Finding, Scale
from fedsep.theory.settings import float64

Experiment = Callable[[Scale, int], Finding]
Record = dict[str, Any]
FILE = "theory.json"


def opened(folder: Path, scale: Scale, *, afresh: bool = False) -> Record:
    """What the folder has already, or a record without experiments.

    Raises:
        FedSepError: What is there cannot be read, or was measured at another scale.
    """
    path, wanted = folder / FILE, json.loads(json.dumps(asdict(scale)))
    empty: Record = {"scale": wanted, "environment": environment("sequential", 0), "experiments": {}}
    if afresh or not path.exists():
        return empty
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        known = record["scale"], record["experiments"].keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FedSepError(f"{path}: cannot be read ({error}); --overwrite starts anew") from None
    if known[0] != wanted:
        raise FedSepError(f"{path} was measured with {inline(known[0])}, not {inline(wanted)}: give another --out, or "
                          "--overwrite")  # fmt: skip
    return record


def todo(record: Record, experiments: Iterable[Experiment], scale: Scale) -> list[tuple[Experiment, int]]:
    """Experiments and seeds that the record does not have."""
    have = record["experiments"]
    return [
        (one, seed)
        for one in experiments
        for seed in scale.seeds
        if str(seed) not in have.get(one.__name__, {"seeds": {}})["seeds"]
    ]


def add(record: Record, folder: Path, experiment: Experiment, scale: Scale, seed: int) -> Finding:
    """Carries out an experiment with a seed, in float64, and writes the record.

    Raises:
        FedSepError: The record cannot be written.
    """
    began = time.process_time()
    with float64():
        found = experiment(scale, seed)
    new = {"statement": statement(experiment), "seeds": {}}
    seeds = record["experiments"].setdefault(experiment.__name__, new)["seeds"]
    seeds[str(seed)] = {"seconds": round(time.process_time() - began, 1), **found.record()}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, record)
    return found


def statement(experiment: Experiment) -> str:
    """What an experiment checks: the first line of its docstring."""
    return (inspect.getdoc(experiment) or "").splitlines()[0]


def verdict(entry: Record) -> Record:
    """An experiment over its seeds: how many predictions of each kind, how many fail, and the tightest of both kinds.

    ``deviation`` is the largest of |measured − predicted| in units of what is allowed, over equalities; ``share`` the
    largest of measured / predicted, over bounds.
    """
    checks = [check for seed in entry["seeds"].values() for check in seed["checks"]]
    equal = [check for check in checks if check["relation"] == "equals"]
    bounds = [check for check in checks if check["relation"] == "at most"]
    return {
        "seeds": len(entry["seeds"]),
        "equalities": len(equal),
        "bounds": len(bounds),
        "failed": [check["what"] for check in checks if not check["holds"]],
        "deviation": max(map(deviation, equal), default=None),
        "share": max((_ratio(check["measured"], check["predicted"]) for check in bounds), default=None),
        "seconds": sum(seed["seconds"] for seed in entry["seeds"].values()),
    }


def deviation(check: Record) -> float:
    """|measured − predicted| in units of four standard errors plus the tolerance."""
    if check["measured"] is None or check["predicted"] is None:
        return math.inf
    allowed = 4 * (check["error"] or 0.0) + check["tolerance"] * abs(check["predicted"])
    return _ratio(abs(check["measured"] - check["predicted"]), allowed)


def _ratio(value: float | None, of: float | None) -> float:
    if value is None or of is None:
        return math.inf
    return value / of if of else (0.0 if value == 0 else math.inf)
