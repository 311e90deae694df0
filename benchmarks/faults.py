"""What faults cost: a clean run, one with faults, and the same with faults, killed three times and resumed.

20 % of replies are dropped, 5 % corrupt, 5 % late (``recipes/mnist_cnn/faults.yaml``). Asked for are an accuracy within
one point of the clean run's, every fault in the ledger, and of the run that is killed the bits of the one that is not.
SIGKILL takes the command and its workers at once, between two checkpoints.

Usage: python -m benchmarks.faults [--out records/faults.json] [--rounds 200] [--keep FOLDER] [--set CHANGE ...]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import table
from fedsep.engines import Faults
from fedsep.environment import environment
from fedsep.recipes import parse_change, read

RECIPE, RECORD = "recipes/mnist_cnn/faults.yaml", Path("records/faults.json")
KILLED_AFTER = (0.22, 0.56, 0.81)
"""Parts of all methods' rounds together."""

AIM = 1.0  # points
STAGES = {"corrupt": "reply"}
"""What the ledger calls a fault, where that is not its name: the server finds out what is wrong with the reply."""


def fedsep(*words: str) -> list[str]:
    return [sys.executable, "-m", "fedsep", *words, "--quiet"]


def command(out: Path, changes: Sequence[str]) -> list[str]:
    """The recipe's runs."""
    return fedsep("run", RECIPE, "--out", str(out), *(word for change in changes for word in ("--set", change)))


def timed(words: Sequence[str]) -> float:
    """Seconds of a whole command."""
    began = time.monotonic()
    subprocess.run(words, check=True)
    return round(time.monotonic() - began, 1)


def killed(out: Path, words: Sequence[str], rounds: int) -> list[int]:
    """A command that is killed and resumed; how many of all methods' rounds were over at each kill."""
    found: list[int] = []
    for part in KILLED_AFTER:
        found.append(_killed_at(words, out, max(1, round(part * rounds))))
        words = fedsep("resume", str(out))
    subprocess.run(words, check=True)
    return found


def _killed_at(words: Sequence[str], out: Path, at: int) -> int:
    process = subprocess.Popen(words, start_new_session=True)
    while (over := _over(out)) < at:
        if process.poll() is not None:
            sys.exit(f"the run ended with exit code {process.returncode} before it was killed in round {at}")
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return over


def _over(out: Path) -> int:
    """Rounds of all methods that are in the logs."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob("*/seed*/metrics.jsonl"))


def rows(run: Path, name: str) -> Iterator[dict[str, Any]]:
    """A log's lines without what the clock says."""
    for line in (run / f"{name}.jsonl").read_text().splitlines():
        yield {key: part for key, part in json.loads(line).items() if not key.startswith("wall_")}


def bits(run: Path) -> dict[str, str]:
    """Digests of the model and of both logs."""
    logs = {name: json.dumps(list(rows(run, name))).encode() for name in ("metrics", "ledger")}
    files = {**logs, "model": (run / "model.safetensors").read_bytes()}
    return {name: hashlib.sha256(file).hexdigest() for name, file in files.items()}


def logged(run: Path) -> Counter[str]:
    """Failures in the ledger."""
    return Counter(row["failure"]["stage"] for row in rows(run, "ledger") if "failure" in row)


def injected(run: Path, faults: Faults) -> Counter[str]:
    """Failures that there must be, of those who were invited."""
    invited = {(row["round"] - 1, row["client"]) for row in rows(run, "ledger")}
    return Counter(STAGES.get(name, name) for place in invited if (name := faults.at(*place)))


def accuracy(run: Path) -> float:
    """On the test set, at the end."""
    return [row["test_accuracy"] for row in rows(run, "metrics") if row.get("test_accuracy") is not None][-1]


def compared(out: Path, name: str, faults: Faults) -> dict[str, Any]:
    """A method's three runs."""
    clean, faulty, again = (out / part / name / "seed0" for part in ("clean", "faulty", "killed"))
    before, after = accuracy(clean), accuracy(faulty)
    return {
        "method": name,
        "clean_accuracy": before,
        "accuracy": after,
        "points": round(100 * (after - before), 2),
        "faults": dict(sorted(injected(faulty, faults).items())),
        "in_the_ledger": dict(sorted(logged(faulty).items())),
        "killed_has_the_same_bits": bits(faulty) == bits(again),
    }


def measure(out: Path, changes: Sequence[str]) -> dict[str, Any]:
    """All runs, one after the other."""
    recipe = read(RECIPE, changes=[parse_change(change) for change in changes])
    began, faults = environment("workers", 0), Faults(**recipe.engine.resolved()["faults"])
    clean = timed(command(out / "clean", [*changes, "engine.faults=null"]))
    seconds = {"clean": clean, "faulty": timed(command(out / "faulty", changes))}
    names = sorted(path.parent.name for path in (out / "faulty").glob("*/seed0"))
    at = killed(out / "killed", command(out / "killed", changes), recipe.rounds * len(names))
    return {
        "environment": began,
        "recipe": RECIPE,
        "changes": list(changes),
        "rounds": recipe.rounds,
        "injected": {**faults.rates, "seed": faults.seed},
        "killed_after_rounds": at,
        "seconds": seconds,
        "methods": [compared(out, name, faults) for name in names],
    }


def page_table(record: Path = RECORD) -> str:
    """The record as a table, with whether the aims were met."""
    if not record.is_file():
        return "Not measured yet."
    found = json.loads(record.read_text())
    lines = [
        [row["method"], f"{row['clean_accuracy']:.4f}", f"{row['accuracy']:.4f}", f"{row['points']:+.2f}",
         _met(row["points"] >= -AIM), sum(row["faults"].values()), _met(row["faults"] == row["in_the_ledger"]),
         _met(row["killed_has_the_same_bits"])]
        for row in found["methods"]
    ]  # fmt: skip
    head = ["method", "clean", "with faults", "points", f"at most {AIM:g} lost", "faults", "all in the ledger"]
    of, at = found["environment"], ", ".join(map(str, found["killed_after_rounds"]))
    told = f"{found['rounds']} rounds, seed {of['seed']}, seed {found['injected']['seed']} of the faults"
    machine = f"{of['machine']['cpu']}, {of['machine']['cores']} cores, torch {of['torch']}, {of['started']}."
    told = f"{told}; killed after {at} rounds of all methods together. {machine}"
    return f"{table([*head, 'killed: same bits'], lines)}\n\n{told}"


def _met(whether: bool) -> str:
    return "yes" if whether else "**no**"


def main() -> None:
    """Runs everything, prints the record and writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--set", nargs="+", default=[], metavar="CHANGE", help="of the recipe, for a trial")
    parser.add_argument("--keep", type=Path, default=None, help="a new folder in which the runs are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = measure(options.keep or Path(folder), [f"rounds={options.rounds}", *options.set])
    print(json.dumps(record, indent=2))
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
