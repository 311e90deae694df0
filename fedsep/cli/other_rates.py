"""Runs of the table at learning rates that are no longer the chosen ones: kept, where they are not in the way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fedsep.cli.cells import Folder
from fedsep.cli.plan import Job, standing
from fedsep.core import FedSepError
from fedsep.folder import require_idle

FOLDER = "other_rates"
"""Below the table's own."""


def set_aside(found: Sequence[Folder], out: Path) -> list[str]:
    """Moves runs that differ from what is wanted in the rate alone to ``other_rates``, and those that fit back.

    Args:
        found: Recipes with the rates that are chosen, and their runs.
        out: The table's folder.

    Returns:
        What was moved, in words.

    Raises:
        FedSepError: It cannot be moved.
    """
    told: list[str] = []
    for one in found:
        for job in one.jobs:
            state, unlike = standing(job, one.recipe, bare=True)
            if state == "other" and [line.partition(":")[0] for line in unlike] == ["method.lr"]:
                to = _moved(job.folder, _aside(one, job, out, unlike[0].split()[1]))
                told.append(f"{job.folder} has another learning rate than was chosen: moved to {to}")
                state = "new"
            back = _aside(one, job, out, json.dumps(one.recipe.methods[job.method].resolved().get("lr")))
            if state == "new" and back.is_dir():
                told.append(f"{_moved(back, job.folder)} is back from {back}")
    return told


def _aside(one: Folder, job: Job, out: Path, rate: str) -> Path:
    return out / FOLDER / one.cell.folder / job.method / f"lr={rate}" / job.folder.name


def _moved(folder: Path, to: Path) -> Path:
    require_idle(folder)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        if to.is_dir() and not any(entry.name != ".lock" for entry in to.iterdir()):
            (to / ".lock").unlink(missing_ok=True)
            to.rmdir()
        return folder.rename(to)
    except OSError as error:
        raise FedSepError(f"{folder} cannot be moved to {to} ({error.strerror}): move it yourself") from error
