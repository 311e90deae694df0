"""Table 1's CIFAR-10 at base width 64, on a GPU: five rows, one seed.

Usage: fedsep paper table1 --scale wide --device cuda --jobs 5   (it can be stopped, and goes on)
       python -m benchmarks.wide                                 (keeps the runs that are done)
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.heterogeneity import LABELS
from benchmarks.markdown import machine, table
from fedsep.paper.table1.scales import SCALES
from fedsep.report import read_run
from fedsep.report.reading import RunData
from fedsep.report.wording import bytes_text

[SETTING] = SCALES["wide"].settings
RUNS, RECORD = Path("runs/paper/table1_wide"), Path("records/paper/table1") / f"{SETTING.name}.json"
FIGURES = {
    "served": "test_served_accuracy",
    "averaged, served": "test_average_served_accuracy",
    "own classes at 1/4": "client_held_accuracy",
}
EARLY = (20, 40)
"""Rounds at which it is shown how fast the rows learn."""
LAST = 10
"""Evaluations at the end of a run that are averaged, as in the other tables."""


def keep(runs: Path = RUNS) -> None:
    """Writes the accuracies of every run that is done, at all rounds that were evaluated."""
    rows: dict[str, Any] = {}
    for folder in sorted(runs.glob(f"{SETTING.name}/all/*/seed*")):
        run = read_run(folder)
        if run.status != "done":
            continue
        rows[folder.parent.name] = {"environment": json.loads((folder / "environment.json").read_text()), **told(run)}
    RECORD.write_text(json.dumps(rows, indent=1) + "\n")


def told(run: RunData) -> dict[str, Any]:
    """A run's rounds, median seconds and bytes of a round, and accuracies."""
    seen = [row for row in run.rows if FIGURES["served"] in row]
    last = run.rows[-1]
    seconds = [b["wall_seconds"] - a["wall_seconds"] for a, b in zip(run.rows, run.rows[1:], strict=False)]
    return {
        "rounds": len(run.rows),
        "seconds": round(statistics.median(seconds), 3),
        "failed_replies": sum(row["failures"] for row in run.rows),
        "bytes": (last["bytes_up"] + last["bytes_down"]) / len(run.rows),
        "at": {int(row["round"]): {name: round(row[column], 4) for name, column in FIGURES.items()} for row in seen},
    }


def page_table() -> str:
    """A row for each method: accuracy in per cent, the mean of the last ten evaluations, and early on."""
    if not RECORD.is_file():
        return "Not run yet."
    rows: Mapping[str, Any] = json.loads(RECORD.read_text())
    if not rows:
        return "No run is done yet."
    head = ["method", *FIGURES, *(f"served, {at} rounds" for at in EARLY), "rounds", "seconds a round"]
    lines = [
        [LABELS[name], *(_last(row["at"], figure) for figure in FIGURES),
         *(_percent([row["at"][str(at)]["served"]]) for at in EARLY),
         row["rounds"], f"{row['seconds']:.1f}", bytes_text(round(row["bytes"]))]
        for name, row in rows.items()
    ]  # fmt: skip
    made = next(iter(rows.values()))["environment"]
    return f"{table([*head, 'bytes a round, up + down'], lines)}\n\nSeed 0; {machine(made)}"


def _last(at: Mapping[str, Mapping[str, float]], figure: str) -> str:
    """Mean and deviation of the last ten evaluations."""
    found = [at[round][figure] for round in sorted(at, key=int)][-LAST:]
    return f"{_percent(found)} ± {100 * statistics.stdev(found):.1f}"


def _percent(found: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(found):.1f}"


if __name__ == "__main__":
    keep()
