"""``fedsep run`` and ``fedsep resume``: the runs of a recipe, then their comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fedsep import tree
from fedsep.cli.carry_out import How, Todo, carry_out, described
from fedsep.cli.entry import DONE, FAILED
from fedsep.cli.options import Reading, Talk, engine_changes
from fedsep.cli.plan import TOP, Job, claim, clear, plan, standing, vacant, withdraw
from fedsep.cli.ranks import suit
from fedsep.cli.results import show_comparison
from fedsep.cli.screen import Screen
from fedsep.core import FedSepError
from fedsep.engines.engine import Engine
from fedsep.recipes import Change, Experiment, Recipe, Sources, build, read, write
from fedsep.report.finding import is_run


def run(
    reading: Reading,
    sources: Sources,
    talk: Talk,
    out: Path | None,
    *,
    overwrite: bool,
    dry_run: bool,
    jobs: int = 1,
    made: Callable[[Todo], Engine] | None = None,
) -> int:
    """Runs a recipe into a results folder, on its own engine or on what ``made`` makes; the exit code."""
    recipe, screen = reading.read(), Screen(talk)
    suit(recipe, jobs)
    out = out or Path("runs") / recipe.name
    planned = plan(recipe, out)
    left = (vacant if dry_run else claim)(recipe, planned, out, overwrite)
    if not left:
        screen.note(f"{out} holds all of this already; --overwrite runs it again")
    if dry_run:
        return _announce(screen, recipe, planned if left else [], build(recipe, recipe.seeds[0], sources))
    if not left:
        return _conclude(screen, planned, out, DONE)
    first = build(recipe, recipe.seeds[0], sources)
    clear(out, planned)
    write(recipe.resolved(), out / TOP)
    try:
        code = _carried_out(screen, recipe, planned, How(sources, overwrite=overwrite, jobs=jobs, engine=made), first)
    except FedSepError:
        withdraw(out, planned)
        raise
    return _conclude(screen, planned, out, code)


def resume(
    folder: Path,
    allow: tuple[str, ...],
    sources: Sources,
    talk: Talk,
    *,
    engine: str | None = None,
    jobs: int = 1,
    made: Callable[[Todo], Engine] | None = None,
    changes: Sequence[Change] = (),
    again: Callable[[Todo], None] | None = None,
) -> int:
    """Continues the runs of a folder; the exit code.

    Args:
        folder: The results', or a run's.
        allow: Packages that the recipe may name.
        sources: Where data are looked for.
        talk: How much is said.
        engine: Another one.
        jobs: Runs at a time.
        made: Makes the engine of a run.
        changes: Of how they are run, not of what they are.
        again: Called in the end for every run that was finished; an error of it is a warning.

    Raises:
        FedSepError: There is nothing to resume, or it cannot go on.
    """
    recipe, planned, out = _found(folder, allow, [*engine_changes(engine, jobs), *changes])
    suit(recipe, jobs)
    screen = Screen(talk)
    states = {job: _resumable(job, recipe) for job in planned}
    left = [job for job in planned if states[job] != "done"]
    for job in planned:
        if states[job] == "done":
            screen.note(f"{job.folder} is finished")
    code = _carried_out(screen, recipe, left, How(sources, resume=True, jobs=jobs, engine=made), None)
    if again is not None:  # last: it may wait, and what is finished must not keep the rest from being done
        _once_more(screen, [Todo(recipe, job) for job in planned if job not in left], again)
    return _conclude(screen, planned, out, code)


def _carried_out(screen: Screen, recipe: Recipe, jobs: list[Job], how: How, first: Experiment | None) -> int:
    try:
        return carry_out(screen, [Todo(recipe, job) for job in jobs], how, first=first)
    except KeyboardInterrupt:
        if len(jobs) > 1:
            screen.warn(f"fedsep resume {jobs[0].folder.parent.parent} goes on with all that is left")
        raise


def _once_more(screen: Screen, finished: list[Todo], again: Callable[[Todo], None]) -> None:
    with screen.logging():
        for one in finished:
            try:
                again(one)
            except FedSepError as error:
                screen.warn(f"{one.title}: {error}")


def _found(folder: Path, allow: tuple[str, ...], changes: Sequence[Change]) -> tuple[Recipe, list[Job], Path]:
    """The recipe that a folder was made by, its jobs, and the results folder."""
    written = folder / TOP
    if not folder.is_dir() or not written.is_file():
        what = f"{written} is missing" if folder.is_dir() else "there is no such folder"
        raise FedSepError(f"{folder}: nothing to resume: {what}")
    recipe = read(written, changes=changes, allow=allow, resolved=True)
    if not is_run(folder):
        return recipe, plan(recipe, folder), folder
    out = folder.resolve().parent.parent
    [job, *more] = plan(recipe, out)
    if more or job.folder != folder.resolve():
        raise FedSepError(f"{folder}: a run's folder must keep its name, {job.method}/seed{job.seed}, to be resumed")
    above = folder.parent.parent
    if (above / job.method / f"seed{job.seed}").resolve() != folder.resolve():
        above = out  # the path was shorter than that: ".", or "seed0" from inside the method's folder
    return recipe, plan(recipe, above), above


def _resumable(job: Job, recipe: Recipe) -> str:
    state, unlike = standing(job, recipe)
    if state == "other":
        raise FedSepError(f"{job.folder} holds a run of another recipe: {'; '.join(unlike[:5])}")
    return state


def _announce(screen: Screen, recipe: Recipe, jobs: list[Job], experiment: Experiment) -> int:
    parameters = tree.size(experiment.task.init())
    screen.result(described(experiment))
    screen.result(
        f"model: {recipe.model.use}, {parameters:,} parameters; {recipe.rounds:,} rounds; {recipe.engine.use}"
    )
    for job in jobs:
        screen.result(f"would run {job.method} seed {job.seed} into {job.folder}")
    return DONE


def _conclude(screen: Screen, jobs: list[Job], out: Path, code: int) -> int:
    """The comparison and the report; what was computed stands even if the report cannot be made."""
    from fedsep.report import write_report

    there = [job.folder for job in jobs if (job.folder / "summary.json").is_file()]
    if not there:
        return code
    show_comparison(screen, there)
    try:
        screen.result(f"Report: {write_report(out, out)}")
    except FedSepError as error:
        screen.warn(f"the report was not written: {error}")
        return max(code, FAILED)
    return code
