"""Runs the cells of a figure: what is finished is used, what is half done goes on, what is new starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedsep.cli.carry_out import How, Todo, carry_out
from fedsep.cli.estimate import Countdown, Kind
from fedsep.cli.plan import TOP, Job, Standing, plan, state_of
from fedsep.cli.screen import Screen
from fedsep.core import FedSepError
from fedsep.paper.cells import Cell
from fedsep.recipes import Change, Recipe, Sources, build, find, read, write
from fedsep.report.wording import plural


@dataclass(frozen=True)
class Folder:
    """A cell with its recipe and its runs."""

    cell: Cell
    recipe: Recipe
    jobs: tuple[Job, ...]

    @property
    def path(self) -> Path:
        """Where its runs lie."""
        return self.jobs[0].folder.parent.parent

    def kind(self, job: Job) -> Kind:
        """Runs that should take as long: the method as it is called here, on any split and with any seed."""
        return f"{self.recipe.methods[job.method].resolved()}, {self.recipe.rounds} rounds", job.method


def folders(name: str, engine: Sequence[Change], cells: Sequence[Cell], out: Path) -> list[Folder]:
    """The cells' recipes, read and checked, and their runs.

    Args:
        name: Of the figure's recipe.
        engine: What the command line says: it has the last word.
        cells: Of the figure.
        out: The figure's folder.

    Raises:
        RecipeError: A cell's recipe cannot be right.
    """
    made: list[Folder] = []
    for cell in cells:
        recipe = read(find(name), changes=[*cell.changes, *engine])
        recipe = replace(recipe, name=f"{out.name}_{cell.folder.replace('/', '_')}")
        made.append(Folder(cell, recipe, tuple(plan(recipe, out / cell.folder))))
    return made


def check(found: Sequence[Folder], sources: Sources) -> None:
    """Builds what is not done, once, before anything is run: the last cell should not fail in the night.

    Raises:
        FedSepError: With the mistakes of all cells.
    """
    mistakes: dict[str, None] = {}
    for one in found:
        if not all((job.folder / "summary.json").is_file() for job in one.jobs):
            try:
                build(one.recipe, one.recipe.seeds[0], sources)
            except FedSepError as error:
                mistakes |= dict.fromkeys(str(error).splitlines())
    if mistakes:
        raise FedSepError("\n".join(mistakes))


def states(found: Sequence[Folder]) -> dict[Job, Standing]:
    """How far every run is.

    Raises:
        FedSepError: A folder holds a run of another recipe.
    """
    return {job: state_of(job, one.recipe) for one in found for job in one.jobs}


def carry_out_cells(screen: Screen, found: Sequence[Folder], how: How) -> int:
    """Runs what is not done; the exit code. A run that failed is a finding, and is not tried again."""
    there = states(found)
    kinds = {job: one.kind(job) for one in found for job in one.jobs}
    todo = [Todo(one.recipe, job) for one in found for job in one.jobs if there[job] in ("new", "unfinished")]
    screen.note(f"{plural(len(there), 'run')}, of which {len(todo)} are to be done")
    for one in found:
        if any(there[job] in ("new", "unfinished") for job in one.jobs):
            one.path.mkdir(parents=True, exist_ok=True)
            write(one.recipe.resolved(), one.path / TOP)
    countdown = Countdown(screen, todo, lambda one: kinds[one.job], how.jobs)
    for job in there:
        if there[job] == "done":
            countdown.durations.see(kinds[job], job)
    return carry_out(screen, todo, how._replace(resume=True), countdown)
