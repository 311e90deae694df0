"""What ``fedsep check --memory`` tells of memory beside what runs take.

For each recipe the peak is told from its first rounds, as ``check --memory`` does, and then the whole run is watched.

Usage: python -m benchmarks.told [--out records/memory.json] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedsep.cli.bench_apart import watch
from fedsep.cli.rehearse import rehearse
from fedsep.environment import environment
from fedsep.recipes import Sources, parse_change, read
from fedsep.recipes.recipe import write

MANY = ("data.clients=10000", "cohort.per_round=100", "states=disk", "rounds=20", "methods.dgc.steps=2",
        "methods.dgc.batch_size=5", "engine={use: fedsep.engines.sequential}", "evaluate.every=20")  # fmt: skip
"""Five images each; nearly 2,000 of them are met and have a memory."""

CASES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "quick start": ("recipes/quickstart.yaml", "fedsep_linear", ()),
    "MNIST": ("recipes/mnist_cnn/fedavg.yaml", "fedavg", ("rounds=20", "engine={use: fedsep.engines.sequential}")),
    "MNIST, 2 workers": (
        "recipes/mnist_cnn/fedavg.yaml", "fedavg", ("rounds=20", "engine={use: fedsep.engines.workers, processes: 2}")
    ),
    "MNIST, stacked": (
        "recipes/mnist_cnn/fedavg.yaml", "fedavg", ("rounds=6", "engine={use: fedsep.engines.vectorised}")
    ),
    "10,000 clients, memories on the disk": ("recipes/mnist_cnn/dgc.yaml", "dgc", MANY),
    "text": ("recipes/text/small.yaml", "fedsep_quantised", ("rounds=10",)),
    "1e8 parameters": ("recipes/text/hundred_million.yaml", "fedsep_quantised", ()),
}  # fmt: skip
"""Recipe, method, and what is changed: fewer rounds, which is said."""


def row(name: str) -> dict[str, Any]:
    """What is told and what is seen, of all processes together, in MiB."""
    file, method, changes = CASES[name]
    recipe = read(file, changes=[parse_change(change) for change in changes])
    peak = rehearse(recipe, method, Sources())
    assert peak is not None
    with tempfile.TemporaryDirectory() as out:
        alone = Path(out) / "recipe.yaml"
        write(recipe.single(method, recipe.seeds[0]), alone)
        seen = watch([sys.executable, "-m", "fedsep", "run", str(alone), "--out", f"{out}/runs"])
    assert seen.code == 0, seen.said
    first, *others = seen.apart
    together = max(first, seen.together or 0) if others else first
    found = {
        "name": name,
        "recipe": file,
        "changes": list(changes),
        "method": method,
        "rounds": recipe.rounds,
        "rounds_played_by_check": peak.rounds,
        "processes": 1 + len(others),
        "told_MiB": {"first": _mib(peak.first), "other": _mib(max(peak.others, default=0)), "all": _mib(peak.together)},
        "seen_MiB": {"first": _mib(first), "other": _mib(max(others, default=0)), "all": _mib(together)},
        "off": round(peak.together / together - 1, 3),
    }
    print(found, flush=True)
    return found


def _mib(size: int) -> float:
    return round(size / 2**20, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what is asked for and keeps the rest of the record as it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--only", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    options = parser.parse_args(arguments)
    record: dict[str, Any] = {}
    if options.out is not None and options.out.is_file():
        record = json.loads(options.out.read_text())
    known = {each["name"]: each for each in record.get("told", {}).get("rows", [])}
    now = environment("each", 0)
    # Cases that are added later than the others say when, and where; the record's environment is that of the others.
    of = now if set(options.only) == set(CASES) else record.get("told", {}).get("environment", now)
    for name in options.only:
        known[name] = {**row(name), "started": now["started"], "cpu": now["machine"]["cpu"]}
        rows = [known[name] for name in CASES if name in known]
        record["told"] = {"environment": of, "rows": rows}
        if options.out is not None:
            options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
