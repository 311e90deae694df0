"""``fedsep frontier``: what accuracy each method reaches with how many bytes."""

from __future__ import annotations

import json as text
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from fedsep.cli.entry import DONE
from fedsep.cli.options import Talk
from fedsep.cli.results import above
from fedsep.cli.screen import Screen
from fedsep.core import FedSepError
from fedsep.report.frontier import TARGETS, Frontier, Setting, frontier, pareto
from fedsep.report.frontier_page import leader_cells, reach_cells, write_frontier
from fedsep.report.grouping import left_out
from fedsep.report.wording import seeds_text


def show_frontier(folders: Sequence[Path], targets: str | None, to: Path | None, json: bool) -> int:
    """Prints the tables, or a JSON line for each setting; writes page and picture."""
    from fedsep.report import find_runs, read_run

    screen = Screen(Talk(json=json))
    found = frontier((read_run(folder) for folder in find_runs(folders)), _targets(targets))
    for note in left_out(found.groups):
        screen.warn(note)
    if json:
        for setting in found.settings:
            print(text.dumps(_record(found, setting), allow_nan=False), flush=True)
    else:
        _print(screen, found)
    for file in write_frontier(found, to or above(folders)):
        screen.result(str(file))
    return DONE


def _targets(text: str | None) -> tuple[float, ...]:
    if text is None:
        return TARGETS
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(math.isfinite(value) for value in values):
        raise FedSepError(f"--targets: must be numbers with commas between them, as in .95,.97 (got {text!r})")
    return tuple(dict.fromkeys(sorted(values)))


def _print(screen: Screen, found: Frontier) -> None:
    head = f"\nBytes of one client, up + down, to test {found.metric.replace('_', ' ')}: payload (with headers)"
    cells = reach_cells(found)
    seeds = {cell["seeds"] for cell in cells}
    if len(seeds) == 1:
        head += f"; mean of seeds {seeds_text(found.settings[0].seeds)}"
        cells = [{name: told for name, told in cell.items() if name != "seeds"} for cell in cells]
    screen.result(f"{head}; *: the fewest")
    screen.result(_table(cells))
    screen.result("Who leads where, by payload of one client")
    screen.result(_table(leader_cells(found)))


def _table(cells: Sequence[dict[str, str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in cells[0]:
        table.add_column(name, justify="left" if name in ("method", "seeds") else "right", overflow="fold")
    for cell in cells:
        table.add_row(*cell.values())
    return table


def _record(found: Frontier, setting: Setting) -> dict[str, Any]:
    led = {one.point for one in pareto(found.settings, found.metric) if one.setting is setting}
    return {
        "method": setting.label,
        "family": setting.family,
        "metric": found.metric,
        "seeds": list(setting.seeds),
        "a_round": {"payload": setting.round_payload, "header": setting.round_header},
        "best": setting.best,
        "targets": [
            {
                "target": reach.target,
                "reached": reach.payload["n"],
                "of": reach.of,
                "payload": reach.payload["mean"],
                "with_header": reach.whole["mean"],
                "rounds": reach.rounds["mean"],
            }
            for reach in setting.reaches
        ],
        "points": [{**point._asdict(), "pareto": point in led} for point in setting.points],
    }
