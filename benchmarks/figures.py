"""Runs or resumes the paper's figures at the small scale and keeps their tables and pictures.

Usage: python -m benchmarks.figures [--jobs N] [fig2 fig3 ablation]   (all without a name)
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import records
from benchmarks.markdown import table
from fedsep.cli.entry import DONE, FAILED
from fedsep.paper.scales import WORDS

RUNS, RECORDS, IMAGES = Path("runs/paper"), Path("records/paper"), Path("docs/images")
FIGURES = ("fig2", "fig3", "ablation")
COMPARED = {"fig3": "iid"}
"""Runs that another page compares, too: docs/results/communication.md."""
HEAD = ("method", "split", "p", "seeds", "test accuracy", "payload bytes a round", "rate", "rate up", "rate down",
        "rate, dense down", "p/d")  # fmt: skip


def keep(figure: str) -> None:
    """Copies what is worth keeping of a figure that is drawn: table, failures, what tuning found, pictures."""
    source = RUNS / f"{figure}_small"
    kept = RECORDS / figure
    kept.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / f"{figure}.csv", kept)
    for sweep in source.glob("*/tuning/sweep.json"):
        shutil.copy(sweep, kept / f"tuning_{sweep.parent.parent.name}.json")
    (kept / "failed.json").write_text(json.dumps(_failed(source), indent=1) + "\n")
    shutil.copy(next(source.glob("**/seed0/environment.json")), kept)
    if figure in COMPARED:
        records.keep(source / COMPARED[figure], kept / "runs")
    for picture in source.glob("*.svg"):
        shutil.copy(picture, IMAGES)


def _failed(source: Path) -> dict[str, str]:
    """Why runs behind the figure failed, by their folder."""
    runs = {path.parent: json.loads(path.read_text()) for path in sorted(source.glob("*/*/*/seed*/summary.json"))}
    return {str(path.relative_to(source)): run["reason"] for path, run in runs.items() if run["status"] == "failed"}


def figure_table(figure: str) -> str:
    """The table behind a figure; empty where it has not been run."""
    file = RECORDS / figure / f"{figure}.csv"
    if not file.is_file():
        return "Not run yet."
    rows = list(csv.DictReader(file.read_text().splitlines()))
    if figure == "ablation":
        return table(list(rows[0]), [list(row.values()) for row in rows])
    failed = json.loads((file.parent / "failed.json").read_text())
    told = [f"- `{run}`: {reason.partition(': ')[0]}, {_cause(reason)}" for run, reason in failed.items()]
    made = table(HEAD, [_line(row) for row in rows])
    return "\n\n".join([made, "Diverged, and not in the table:", "\n".join(told)]) if told else made


def _cause(reason: str) -> str:
    return "the training loss was no longer finite" if "training loss" in reason else "x was no longer finite"


def _line(row: dict[str, str]) -> list[str]:
    accuracy = f"{float(row['accuracy']):.4f}" + (f" ± {float(row['deviation']):.4f}" if row["deviation"] else "")
    p = f"{int(row['p']):,}" if row["p"] else "–"
    sent = f"{float(row['payload_bytes']):,.0f}"
    shares = [row[name] for name in ("rate", "rate_up", "rate_down", "rate_dense_down", "p_over_d")]
    told = [f"{float(share):.3g}" if share else "–" for share in shares]
    return [row["method"], WORDS[row["split"]], p, row["seeds"], accuracy, sent, *told]


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", default=list(FIGURES))
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if unknown := set(options.figures) - set(FIGURES):
        parser.error(f"there are {', '.join(FIGURES)} (got {', '.join(sorted(unknown))})")
    for figure in options.figures:
        command = [sys.executable, "-m", "fedsep", "paper", figure, "--scale", "small", "--jobs", str(options.jobs)]
        if subprocess.run(command, check=False).returncode in (DONE, FAILED):  # drawn without the runs that diverged
            keep(figure)


if __name__ == "__main__":
    main()
