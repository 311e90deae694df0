"""Which runs a recipe means, where they lie, and how far they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from fedsep.core import FedSepError
from fedsep.earlier import completed
from fedsep.identity import differences
from fedsep.recipes import Recipe
from fedsep.recipes.reading import SETTINGS
from fedsep.recipes.text import parse

TOP = "recipe.yaml"
Standing = Literal["new", "done", "failed", "unfinished", "other"]

_MACHINE = ("name", "engine", "checkpoint", "stop")
"""Keys that do not tell two runs apart: what is computed does not depend on them."""


@dataclass(frozen=True)
class Job:
    """One run: a method, a seed, and the run's folder."""

    method: str
    seed: int
    folder: Path


def plan(recipe: Recipe, out: Path) -> list[Job]:
    """Every run of a recipe, seed by seed."""
    return [Job(method, seed, out / method / f"seed{seed}") for seed in recipe.seeds for method in recipe.methods]


def standing(job: Job, recipe: Recipe, *, bare: bool = False) -> tuple[Standing, list[str]]:
    """How far a run is.

    Args:
        job: The run.
        recipe: What it is to be a run of.
        bare: A run that was made without ``evaluate.levels`` counts as well: they add figures and change none.

    Returns:
        ``new``: its folder holds nothing. ``done``, ``failed``, ``unfinished``: it holds this run. ``other``: it
        holds something else, with what differs.
    """
    if not job.folder.is_dir() or not any(entry.name != ".lock" for entry in job.folder.iterdir()):
        return "new", []
    written = job.folder / TOP
    if not written.is_file():
        return "other", [f"{written} is missing"]
    there = parse(written.read_text(encoding="utf-8"), str(written))
    here = recipe.single(job.method, job.seed)
    unlike = differences(_compared(there), _compared(_without_levels(here) if bare and _is_bare(there) else here))
    if unlike:
        return "other", unlike
    return _status(job.folder), []


def state_of(job: Job, recipe: Recipe) -> Standing:
    """How far a run is whose folder must hold this run, at least without ``evaluate.levels``, or nothing.

    Raises:
        FedSepError: It holds something else.
    """
    state, unlike = standing(job, recipe, bare=True)
    if state == "other":
        raise FedSepError(
            f"{job.folder} holds a run of another recipe ({'; '.join(unlike[:3])}): choose another folder with --out"
        )
    return state


def claim(recipe: Recipe, jobs: list[Job], out: Path, overwrite: bool) -> bool:
    """Makes sure that a results folder may be written, and makes it; else as ``vacant``.

    Raises:
        FedSepError: It cannot be written.
    """
    if not vacant(recipe, jobs, out, overwrite):
        return False
    probe(out)
    return True


def vacant(recipe: Recipe, jobs: list[Job], out: Path, overwrite: bool) -> bool:
    """Whether runs may be written into a results folder; it is looked at only.

    Returns:
        False if every run lies there already, finished, so that nothing is left to do.

    Raises:
        FedSepError: It holds something else, or unfinished runs of this recipe.
    """
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        if all(standing(job, recipe)[0] == "done" for job in jobs):
            return False
        raise FedSepError(_occupied(recipe, jobs, out))
    return True


def withdraw(out: Path, jobs: list[Job]) -> None:
    """Removes what a command wrote that was refused before its first round, so that it can be typed again."""
    if any(entry.name != ".lock" for job in jobs if job.folder.is_dir() for entry in job.folder.iterdir()):
        return
    (out / TOP).unlink(missing_ok=True)
    for job in jobs:
        (job.folder / ".lock").unlink(missing_ok=True)
        for folder in (job.folder, job.folder.parent):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def clear(out: Path, jobs: list[Job]) -> None:
    """Removes the runs of earlier recipes from a results folder, and nothing that is not a run's."""
    from fedsep.folder import open_folder

    ours = {job.folder for job in jobs}
    for folder in sorted(out.glob("*/seed*")):
        if folder not in ours and (folder / TOP).is_file() and folder.name.removeprefix("seed").isdecimal():
            open_folder(folder, resume=False, overwrite=True).close()
            (folder / ".lock").unlink(missing_ok=True)
            for empty in (folder, folder.parent):
                if not any(empty.iterdir()):
                    empty.rmdir()


def _occupied(recipe: Recipe, jobs: list[Job], out: Path) -> str:
    standings = [(job, *standing(job, recipe)) for job in jobs]
    others = [(job, unlike) for job, state, unlike in standings if state == "other"]
    if others:
        job, unlike = others[0]
        more = f" and {len(unlike) - 3} more" if len(unlike) > 3 else ""
        return (
            f"{job.folder} holds a run of another recipe ({'; '.join(unlike[:3])}{more}): "
            "choose another folder with --out, or replace what is there with --overwrite"
        )
    if any(state != "new" for _, state, _ in standings):
        return f"{out} holds this recipe's runs, not all finished: fedsep resume {out} goes on, --overwrite starts anew"
    return f"{out} is not empty: choose another folder with --out, or replace the runs in it with --overwrite"


def probe(out: Path) -> None:
    """Makes a results folder; whether it can be written is found out now, rather than after the data are loaded."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".tmp-writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise FedSepError(f"--out: {out} cannot be written ({error.strerror})") from None


def _status(folder: Path) -> Standing:
    try:
        status = json.loads((folder / "summary.json").read_bytes())["status"]
    except (OSError, ValueError, KeyError, TypeError):
        return "unfinished"
    return status if status in ("done", "failed") else "unfinished"


def _compared(recipe: Any) -> Any:
    if not isinstance(recipe, Mapping):
        return recipe
    kept = {key: _with_defaults(key, value) for key, value in recipe.items() if key not in _MACHINE}
    if isinstance(recipe.get("engine"), Mapping) and "faults" in recipe["engine"]:
        kept["faults"] = recipe["engine"]["faults"]
    if isinstance(kept.get("data"), Mapping):
        kept["data"] = {key: value for key, value in kept["data"].items() if key not in ("data_dir", "download")}
    return json.loads(json.dumps(kept))


def _is_bare(recipe: Any) -> bool:
    evaluate = recipe.get("evaluate") if isinstance(recipe, Mapping) else None
    return isinstance(evaluate, Mapping) and evaluate.get("levels") is None


def _without_levels(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {**recipe, "evaluate": {**recipe["evaluate"], "levels": None}}


def _with_defaults(key: str, block: Any) -> Any:
    """A block with what it does not name: an earlier version's run has not all that there is now."""
    if not isinstance(block, Mapping):
        return block
    if key == "method":
        return completed(block)
    if key not in SETTINGS:
        return block
    defaults = {each.name: each.default for each in fields(SETTINGS[key]) if each.default is not MISSING}
    return {**defaults, **block}
