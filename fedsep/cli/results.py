"""Finished runs: the comparison table and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from fedsep.cli.entry import DONE
from fedsep.cli.options import Talk
from fedsep.cli.screen import Screen
from fedsep.report.wording import bytes_text, count_text

if TYPE_CHECKING:
    from fedsep.report import Row

_COLUMNS = (
    "method", "metric", "seeds", "last", "best", "mean of last", "up", "down", "total payload", "time", "status",
)  # fmt: skip


def report(folders: Sequence[Path], to: Path | None) -> int:
    """Writes the report; where it lies is the only thing on standard output."""
    from fedsep.report import write_report

    screen = Screen(Talk())
    screen.result(str(write_report(folders, to or above(folders))))
    return DONE


def compare(folders: Sequence[Path], json: bool) -> int:
    """Prints the comparison of runs, or a JSON line for each that is finished."""
    from fedsep.report import find_runs, read_run

    screen = Screen(Talk(json=json))
    runs = [read_run(folder) for folder in find_runs(folders)]
    for run in runs:
        if run.status == "done":
            screen.finished(run.summary)
    if not json:
        show_comparison(screen, [run.folder for run in runs])
    return DONE


def show_comparison(screen: Screen, folders: Sequence[Path]) -> None:
    """A table of methods, and what each took to reach a value that both reach."""
    from fedsep.report import cells, read_run
    from fedsep.report.comparing import compare_groups
    from fedsep.report.grouping import group_runs, left_out

    groups = group_runs(read_run(folder) for folder in folders)
    rows = compare_groups(groups)
    for note in left_out(groups):
        screen.warn(note)
    screen.result(_title(rows))
    screen.result(table(rows, cells(rows)))
    for line in levels(rows):
        screen.result(line)


def table(rows: Sequence[Row], texts: Sequence[dict[str, str]]) -> Table:
    """The comparison as a table that fits a narrow terminal."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    names = [name for name in _COLUMNS if any(name in text for text in texts)]
    if all(len(row["seeds"]) == 1 for row in rows):
        names.remove("seeds")
    for name in names:
        made.add_column(name, justify="left" if name in ("method", "metric", "status") else "right", overflow="fold")
    for text in texts:
        made.add_row(*(text.get(name, "–") for name in names))
    return made


def levels(rows: Sequence[Row]) -> list[str]:
    """For the hardest level, what each method took to reach it."""
    told: list[str] = []
    for row in rows:
        if row["levels"]:
            level = row["levels"][-1]
            took = f"{count_text(level['rounds']['mean'])} rounds, {bytes_text(level['bytes']['mean'])}"
            told.append(f"{row['method']}: {took if level['reached'] else 'not reached'}")
    hardest = next((row for row in rows if row["levels"]), None)
    if hardest is None:
        return []
    head = f"To {hardest['metric']} {hardest['levels'][-1]['level']:g}: "
    return [head + " · ".join(told)] if len(told) < 3 else [head, *(f"  {line}" for line in told)]


def _title(rows: Sequence[Row]) -> str:
    metrics = {row["metric"] for row in rows if row["metric"]}
    what = f"{metrics.pop()} on test data" if len(metrics) == 1 else "Test data"
    return f"\n{what}; up, down: payload per client and round; total payload: over all clients and rounds"


def above(folders: Sequence[Path]) -> Path:
    """The folder that a report about these belongs to: the one given, or the one that holds them all."""
    if len(folders) == 1:
        return folders[0]
    parents = [set(folder.resolve().parents) for folder in folders]
    return max(set.intersection(*parents), key=lambda folder: len(folder.parts))
