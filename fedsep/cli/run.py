"""``fedsep run`` and ``fedsep resume``: runs one after the other, then their comparison."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from fedsep import tree
from fedsep.cli.entry import DONE, FAILED, INTERRUPTED
from fedsep.cli.options import Reading, Talk
from fedsep.cli.plan import TOP, Job, claim, clear, plan, standing
from fedsep.cli.results import show_comparison
from fedsep.cli.screen import Screen
from fedsep.core import FedSepError
from fedsep.errors import CannotWrite, RunFailed
from fedsep.recipes import Experiment, Recipe, Sources, build, read, write
from fedsep.report.finding import is_run


def run(reading: Reading, sources: Sources, talk: Talk, out: Path | None, *, overwrite: bool, dry_run: bool) -> int:
    """Runs a recipe into a results folder; the exit code."""
    recipe, screen = reading.read(), Screen(talk)
    out = out or Path("runs") / recipe.name
    jobs = plan(recipe, out)
    if dry_run:
        return _announce(screen, recipe, jobs, build(recipe, recipe.seeds[0], sources))
    if not claim(recipe, jobs, out, overwrite):
        screen.note(f"{out} holds all of this already; --overwrite runs it again")
        return _conclude(screen, jobs, out, DONE)
    first = build(recipe, recipe.seeds[0], sources)
    clear(out, jobs)
    write(recipe.resolved(), out / TOP)
    code = carry_out(screen, recipe, jobs, sources, first, overwrite=overwrite)
    return _conclude(screen, jobs, out, code)


def resume(folder: Path, allow: tuple[str, ...], sources: Sources, talk: Talk) -> int:
    """Continues the runs of a folder; the exit code."""
    recipe, jobs, out = _found(folder, allow)
    screen = Screen(talk)
    states = {job: _resumable(job, recipe) for job in jobs}
    left = [job for job in jobs if states[job] != "done"]
    for job in jobs:
        if states[job] == "done":
            screen.note(f"{job.folder} is finished")
    code = carry_out(screen, recipe, left, sources, None, resume=True)
    return _conclude(screen, jobs, out, code)


def carry_out(
    screen: Screen,
    recipe: Recipe,
    jobs: list[Job],
    sources: Sources,
    first: Experiment | None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    before: Callable[[Job], None] | None = None,
) -> int:
    """Runs jobs, seed by seed; a run that fails does not keep the others from running.

    Args:
        screen: For progress and messages.
        recipe: Of all the jobs.
        jobs: In order of seeds.
        sources: Where data are looked for.
        first: The experiment of the first seed, if it is built already.
        resume: Go on from checkpoints.
        overwrite: Replace what is there.
        before: Called before each job.

    Returns:
        The exit code: that of a failed run counts more than that of an interrupted one.
    """
    codes: set[int] = set()
    how = {"resume": resume, "overwrite": overwrite}
    for seed, group in groupby(jobs, key=lambda job: job.seed):
        todo = list(group)
        ready = first is not None and first.seed == seed
        experiment = first if ready else build(recipe, seed, sources, frozenset(job.method for job in todo))
        assert experiment is not None
        screen.note(_described(experiment))
        for job in todo:
            if before is not None:
                before(job)
            try:
                codes.add(_one(screen, experiment, job, how))
            except KeyboardInterrupt as stopped:
                screen.warn(f"{job.method} seed {job.seed}: {str(stopped) or 'interrupted'}")
                if len(jobs) > 1:
                    screen.warn(f"fedsep resume {job.folder.parent.parent} goes on with all that is left")
                raise
            except RunFailed as error:
                screen.warn(f"{job.method} seed {job.seed}: {error}")
                codes.add(FAILED)
                if isinstance(error, CannotWrite):
                    return FAILED
    return next((code for code in (FAILED, INTERRUPTED) if code in codes), DONE)


def _one(screen: Screen, experiment: Experiment, job: Job, how: dict[str, bool]) -> int:
    from fedsep.train import fit

    recipe, title = experiment.recipe, f"{job.method} seed {job.seed}"
    told: dict[str, Any] = {**recipe.options(), **how}
    with screen.watching(title, recipe.rounds) as watch:
        done = fit(
            experiment.algorithms[job.method],
            experiment.task,
            experiment.federation,
            rounds=recipe.rounds,
            seed=job.seed,
            engine=recipe.engine.build({}),
            states=recipe.states,
            out=job.folder.parent.parent,
            name=job.method,
            recipe=recipe.single(job.method, job.seed),
            watch=watch,
            **told,
        )
    if done.summary["status"] != "done":
        screen.warn(f"{title}: {done.summary['reason']}; fedsep resume {job.folder} goes on")
        return INTERRUPTED
    screen.finished(done.summary)
    return DONE


def _described(experiment: Experiment) -> str:
    """The data in a line; a user's own federation may have less to say."""
    describe = getattr(experiment.federation, "describe", None)
    return describe() if describe else f"{experiment.federation.clients} clients"


def _found(folder: Path, allow: tuple[str, ...]) -> tuple[Recipe, list[Job], Path]:
    """The recipe that a folder was made by, its jobs, and the results folder."""
    written = folder / TOP
    if not folder.is_dir() or not written.is_file():
        what = f"{written} is missing" if folder.is_dir() else "there is no such folder"
        raise FedSepError(f"{folder}: nothing to resume: {what}")
    recipe = read(written, allow=allow)
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
    screen.result(_described(experiment))
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
