"""Learning rates of a part of Table 1: those of its grid, then one further where the best lies at the grid's end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsep.cli.carry_out import How
from fedsep.cli.options import Reading, Talk
from fedsep.cli.sweep import Survey, survey, sweep
from fedsep.core import FedSepError
from fedsep.paper.table1.grid import METRIC, Part, wider


@dataclass(frozen=True)
class Trying:
    """What is tried.

    Attributes:
        part: Whose rows are tuned.
        reading: The recipe of the runs.
        grid: Rates of every row.
        to: Folder of the runs.
    """

    part: Part
    reading: Reading
    grid: list[str]
    to: Path

    def survey(self, grid: list[str]) -> Survey:
        """How far a grid is."""
        return survey(self.reading, grid, self.to, METRIC)

    def wider(self, found: Survey) -> list[str]:
        """The grid with further rates, by what is known of it so far."""
        return wider(self.part, found.chosen)


def seen(tried: Trying) -> Survey:
    """How far the runs are, further rates included; nothing is written."""
    return tried.survey(tried.wider(tried.survey(tried.grid)))


def choose(tried: Trying, how: How, talk: Talk) -> dict[str, Any]:
    """Runs or resumes everything that is to be tried; what was found, as in the ``sweep.json`` that it writes."""

    def sweep_over(grid: list[str]) -> None:
        sweep(tried.reading, grid, "validation", how.sources, talk, tried.to, how.jobs, metric=METRIC)

    swept = any(tried.survey(tried.grid).left.values())
    if swept:
        sweep_over(tried.grid)
    grid = tried.wider(tried.survey(tried.grid))
    if not swept or grid != tried.grid:
        sweep_over(grid)
    left = [name for name, runs in tried.survey(grid).left.items() if runs]
    if left:  # to choose among the others would be another choice
        raise FedSepError(f"{tried.to}: not all runs that choose the learning rates of {', '.join(left)} are done: "
                          "the same command goes on with them")  # fmt: skip
    return json.loads((tried.to / "sweep.json").read_text(encoding="utf-8"))
