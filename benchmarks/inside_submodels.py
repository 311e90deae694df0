"""Pictures of what FedSep's mask trains, from one run of the first setting of Table 1: docs/images/submodels.svg.

Accuracy of every capability level, which units are trained when, where they lie by depth, and the overlap of clients'
masks against that of their classes: the report's own figures, of the run's files in records/. The table's run is used
if it has the accuracy of levels; else the run is made again beside it.

Usage: python -m benchmarks.inside_submodels [--seed 0]
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from pathlib import Path

from benchmarks.heterogeneity import IMAGES, LABELS, RUNS
from fedsep.cli.carry_out import How
from fedsep.cli.cells import Folder, carry_out_cells, folders
from fedsep.cli.entry import DONE
from fedsep.cli.options import Reading, Talk
from fedsep.cli.plan import standing
from fedsep.cli.screen import Screen
from fedsep.cli.table1 import RECIPE
from fedsep.paper.cells import named
from fedsep.paper.table1.grid import cells
from fedsep.paper.table1.rows import ROWS
from fedsep.paper.table1.scales import SCALES
from fedsep.recipes import Sources
from fedsep.report import read_run
from fedsep.report.grouping import Group
from fedsep.report.sheet import Panel, sheet
from fedsep.report.submodels import make_submodel_figures

SCALE = SCALES["small"]
SETTING, ROW = "mnist_k2", "fedsep_mask"
MORE, RECORD = Path("runs/paper/table1_inside"), Path("records/paper/table1_inside")
KEPT = ("recipe.yaml", "environment.json", "summary.json", "metrics.csv", "submodels.jsonl")
PICTURE = "submodels.svg"


def place(seed: int, rate: float, out: Path) -> Folder:
    """The run of a seed, with its recipe."""
    setting = next(one for one in SCALE.settings if one.name == SETTING)
    scale = dataclasses.replace(SCALE, settings=(dataclasses.replace(setting, seeds=(seed,)),))
    blocks = named(Reading(RECIPE, (), ()).read().resolved()["methods"])
    rows = [row for row in ROWS if row.name == ROW]
    [(_, cell)] = cells(scale, blocks, {(SETTING, ROW): rate}, rows)
    [found] = folders(RECIPE, (), [cell], out)
    return found


def run_of(seed: int, rate: float) -> Path | None:
    """The folder of a finished run that has the accuracy of every level, made if there is none; None: it failed."""
    for out in (RUNS, MORE):
        found = place(seed, rate, out)
        [job] = found.jobs
        if standing(job, found.recipe)[0] == "done":
            return job.folder
    code = carry_out_cells(Screen(Talk()), [found], How(Sources()))
    return job.folder if code == DONE else None


def keep(run: Path) -> None:
    """Copies what the pictures are drawn from."""
    RECORD.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        shutil.copy(run / name, RECORD)


def draw() -> None:
    """The picture, if there is a record."""
    if not RECORD.is_dir():
        return
    run = read_run(RECORD)
    figures = make_submodel_figures([Group(LABELS[ROW], (run,), {})])
    titles = [_title(figure.title) for figure in figures]
    panels = [Panel(title, figure.svg) for title, figure in zip(titles, figures, strict=True)]
    keys = dict.fromkeys(key for figure in figures[:1] for key in figure.methods)  # of the levels: the others have one
    told = " ".join(f"{title.rstrip('?')}: {figure.caption}" for title, figure in zip(titles, figures, strict=True))
    (IMAGES / PICTURE).write_text(sheet(f"Inside {LABELS[ROW]}", panels, list(keys), told), encoding="utf-8")


def _title(text: str) -> str:
    """Without the row's name, which stands above all: a panel has room for some words."""
    bare = text.removeprefix(f"{LABELS[ROW]}: ").removesuffix(" of the server's sub-models")
    return bare[0].upper() + bare[1:]


def inside() -> str:
    """The picture's place on the page."""
    return f"![Inside {LABELS[ROW]}](../images/{PICTURE})" if RECORD.is_dir() else "Not run yet."


def main() -> None:
    """Finds or makes the run, keeps it and draws it."""
    from benchmarks.second_term import tuned_rate

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    run = run_of(parser.parse_args().seed, tuned_rate())
    if run is None:
        raise SystemExit("the run failed")
    keep(run)
    draw()


if __name__ == "__main__":
    main()
