"""Runs the cells of a figure: what is finished is used, what is half done goes on, what is new starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedsep.cli.entry import DONE
from fedsep.cli.estimate import Durations, Kind
from fedsep.cli.plan import TOP, Job, Standing, plan, state_of
from fedsep.cli.run import carry_out
from fedsep.cli.screen import Screen
from fedsep.core import FedSepError
from fedsep.paper.cells import Cell
from fedsep.recipes import Change, Recipe, Sources, build, find, read, write
from fedsep.report.wording import plural, seconds_text


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
        """Runs that should take as long: the method at this p, on any split and with any seed."""
        return f"p = {self.cell.p}, {self.recipe.rounds} rounds", job.method


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


def carry_out_cells(screen: Screen, found: Sequence[Folder], sources: Sources) -> int:
    """Runs what is not done; the exit code. A run that failed is a finding, and is not tried again."""
    there = states(found)
    todo = {one.path: [job for job in one.jobs if there[job] in ("new", "unfinished")] for one in found}
    durations = Durations()
    for one in found:
        for job in one.jobs:
            if there[job] == "done":
                durations.see(one.kind(job), job)
    left = [(one, job) for one in found for job in todo[one.path]]
    screen.note(f"{plural(len(there), 'run')}, of which {len(left)} are to be done")
    progress = _Progress(screen, durations, left)
    codes: set[int] = set()
    for one in found:
        if todo[one.path]:
            one.path.mkdir(parents=True, exist_ok=True)
            write(one.recipe.resolved(), one.path / TOP)
            code = carry_out(screen, one.recipe, todo[one.path], sources, None, resume=True, before=progress.before)
            codes.add(code)
            progress.after()
    return max(codes, default=DONE)


@dataclass
class _Progress:
    """Says before every run how many are left and how long they will take."""

    screen: Screen
    durations: Durations
    left: list[tuple[Folder, Job]]
    current: tuple[Folder, Job] | None = None

    def before(self, job: Job) -> None:
        self.after()
        self.current = self.left[0]
        seconds = self.durations.left(one.kind(job) for one, job in self.left)
        time = "" if seconds is None else f", about {seconds_text(seconds)}"
        self.screen.note(f"{job.folder}: {plural(len(self.left), 'run')} left{time}")

    def after(self) -> None:
        """The run that was said to begin is over."""
        if self.current is not None:
            one, job = self.current
            self.left.pop(0)
            if state_of(job, one.recipe) == "done":
                self.durations.see(one.kind(job), job)
        self.current = None
