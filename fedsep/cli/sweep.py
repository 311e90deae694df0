"""``fedsep sweep``: a grid of settings, each in a folder of its own, chosen between on validation data alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fedsep.cli.carry_out import How, Todo, carry_out
from fedsep.cli.entry import DONE, FAILED
from fedsep.cli.estimate import Countdown
from fedsep.cli.grid import Axis, Point, parse_axes, points
from fedsep.cli.options import Reading, Talk
from fedsep.cli.plan import TOP, Job, plan, probe, standing, state_of
from fedsep.cli.screen import Screen
from fedsep.cli.verdict import OVER, conclude, verdict
from fedsep.core import FedSepError
from fedsep.recipes import Recipe, RecipeError, Sources, build, write
from fedsep.recipes.text import parse


def sweep(
    reading: Reading,
    grid: Sequence[str],
    select: str,
    sources: Sources,
    talk: Talk,
    out: Path | None,
    jobs: int = 1,
    *,
    overwrite: bool = False,
    metric: str | None = None,
) -> int:
    """Runs what is not done of a grid, or all of it where runs are overwritten, then chooses; the exit code.

    ``metric`` is the figure whose validation value decides, the task's first where it is None.
    """
    _check_select(select)
    recipe, screen = reading.read(), Screen(talk)
    axes = parse_axes(grid, recipe)
    out = out or Path("runs") / f"{recipe.name}_sweep"
    todo = points(axes, recipe)
    recipes = _read_all(reading, todo, recipe)
    planned = {point: plan(recipes[point], out / point.slug) for point in todo}
    left = planned if overwrite else {point: _unfinished(planned[point], recipes[point]) for point in todo}
    if not overwrite:
        _refuse_foreign(recipe, todo, out)
    _check_buildable(screen, {point: recipes[point] for point in todo if left[point]}, sources)
    probe(out)
    total, rest = (sum(map(len, jobs_of.values())) for jobs_of in (planned, left))
    screen.note(f"{len(todo)} settings, {total} runs, of which {rest} are to be done")
    for point in todo:
        if left[point]:
            folder = out / point.slug
            folder.mkdir(parents=True, exist_ok=True)
            write(recipes[point].resolved(), folder / TOP)
    runs = [Todo(recipes[point], job) for point in todo for job in left[point]]
    countdown = Countdown(screen, runs, lambda one: (one.job.method,), jobs)
    carry_out(screen, runs, How(sources, resume=not overwrite, overwrite=overwrite, jobs=jobs), countdown)
    chosen = conclude(screen, recipe, axes, [(point, recipes[point], planned[point]) for point in todo], out, metric)
    return DONE if chosen == set(recipe.methods) else FAILED  # a setting that diverges is a finding, not a failure


class Survey(NamedTuple):
    """How far a sweep is.

    Attributes:
        left: Runs that are to be done, by method.
        chosen: Settings by path, of the methods of which nothing is left to be done and something could be chosen.
    """

    left: dict[str, int]
    chosen: dict[str, dict[str, Any]]


def survey(reading: Reading, grid: Sequence[str], out: Path, metric: str | None = None) -> Survey:
    """How far a grid is, and what it says so far; nothing is written, and a run of another recipe is no run of it."""
    recipe = reading.read()
    todo = points(parse_axes(grid, recipe), recipe)
    recipes = _read_all(reading, todo, recipe)
    tried = [(point, recipes[point], plan(recipes[point], out / point.slug)) for point in todo]
    missing = [job.method for _, one, jobs in tried for job in jobs if standing(job, one, bare=True)[0] not in OVER]
    over = [name for name in recipe.methods if name not in missing]
    return Survey({name: missing.count(name) for name in recipe.methods}, verdict(over, tried, metric).settings)


def _check_select(select: str) -> None:
    if select == "test":
        raise FedSepError(
            "--select test: settings are never chosen on test data, since the test accuracy of what was chosen would "
            "then be too high; hold out training samples with data.validation and choose on those"
        )
    if select != "validation":
        raise FedSepError(f"--select: must be validation (got {select!r})")


def _unfinished(jobs: Sequence[Job], recipe: Recipe) -> list[Job]:
    return [job for job in jobs if state_of(job, recipe) not in OVER]


def _refuse_foreign(recipe: Recipe, todo: Sequence[Point], out: Path) -> None:
    """A folder that holds something, but nothing of this sweep, is somebody else's."""
    there = [path for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
    if not there or any((out / point.slug).is_dir() for point in todo):
        return
    # An earlier grid of the same recipe, finished or interrupted: every point's folder has its recipe, of this name.
    names = [parse(file.read_text(encoding="utf-8"), str(file)).get("name") for file in out.glob("*=*/recipe.yaml")]
    if recipe.name not in names:
        raise FedSepError(
            f"{out} is not empty and holds nothing of this sweep: choose another folder with --out, or sweep into it "
            "with --overwrite"
        )


def _read_all(reading: Reading, todo: list[Point], base: Recipe) -> dict[Point, Recipe]:
    """The recipe of every point with the methods that the point is about; all mistakes at once."""
    found: dict[Point, Recipe] = {}
    mistakes: dict[str, None] = {}
    for point in todo:
        try:
            recipe = reading.read(point.changes)
        except RecipeError as error:
            mistakes |= dict.fromkeys(str(error).splitlines())
        else:
            kept = {name: call for name, call in recipe.methods.items() if name in point.methods}
            found[point] = dataclasses.replace(recipe, methods=kept, name=base.name)
    if mistakes:
        raise FedSepError("\n".join(mistakes))
    return found


def _check_buildable(screen: Screen, recipes: dict[Point, Recipe], sources: Sources) -> None:
    """Builds every point once before the first is run: the last one should not fail in the night."""
    mistakes: dict[str, None] = {}
    for recipe in recipes.values():
        try:
            experiment = build(recipe, recipe.seeds[0], sources)
        except FedSepError as error:
            mistakes |= dict.fromkeys(str(error).splitlines())
            continue
        if experiment.federation.validation is None:
            raise FedSepError(
                f"{recipe.file}: a sweep chooses on validation data, and this recipe holds none out: "
                "add validation: N to its data block"
            )
    if mistakes:
        raise FedSepError("\n".join(mistakes))


__all__ = ["Axis", "sweep"]
