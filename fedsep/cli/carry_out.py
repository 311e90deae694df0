"""Runs what is to be done, one run after the other, or several at a time in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol

from fedsep.cli.entry import DONE, FAILED, INTERRUPTED
from fedsep.cli.plan import Job
from fedsep.cli.progress import Watch
from fedsep.cli.screen import Screen
from fedsep.engines.engine import Engine
from fedsep.errors import CannotWrite, LostRank, RunFailed
from fedsep.recipes import Experiment, Recipe, Sources, build


class Todo(NamedTuple):
    """A run that is to be done, and the recipe that it is of."""

    recipe: Recipe
    job: Job

    @property
    def title(self) -> str:
        """What it is called beside other runs of its recipe."""
        return f"{self.job.method} seed {self.job.seed}"


class How(NamedTuple):
    """In what way runs are done.

    Attributes:
        sources: Where data are looked for.
        resume: Go on from checkpoints.
        overwrite: Replace what is there.
        jobs: Runs at a time: each in a process of its own where this is more than 1.
        engine: Makes the engine of a run; None: as the recipe says.
    """

    sources: Sources
    resume: bool = False
    overwrite: bool = False
    jobs: int = 1
    engine: Callable[[Todo], Engine] | None = None


class Notice(Protocol):
    """Who wants to know which runs begin and end."""

    def begin(self, one: Todo) -> None:
        """A run is about to begin."""
        ...

    def end(self, one: Todo) -> None:
        """It is over, whatever came of it."""
        ...


class Unnoticed:
    """Nobody wants to know."""

    def begin(self, one: Todo) -> None:
        """Does nothing."""

    def end(self, one: Todo) -> None:
        """Does nothing."""


def carry_out(
    screen: Screen, todo: Sequence[Todo], how: How, notice: Notice = Unnoticed(), first: Experiment | None = None
) -> int:
    """Does runs; one that fails does not keep the others from being done, unless nothing can be written.

    Args:
        screen: For progress and messages.
        todo: Runs of one recipe and seed beside each other.
        how: In what way, and how many at a time.
        notice: Is told what begins and ends.
        first: The experiment of the first one, if it is built already.

    Returns:
        The exit code: that of a failed run counts more than that of an interrupted one.

    Raises:
        KeyboardInterrupt: Every run that was under way has saved a checkpoint.
    """
    from fedsep.cli.ranks import suit

    for one in todo:
        suit(one.recipe, how.jobs)
    with screen.logging():
        if how.jobs > 1 and len(todo) > 1:
            from fedsep.cli.side_by_side import side_by_side

            return worst(side_by_side(screen, todo, how, notice))
        return worst(_one_by_one(screen, todo, how, notice, first))


def worst(codes: Iterable[int]) -> int:
    """The exit code of runs with these."""
    there = set(codes)
    return next((code for code in (FAILED, INTERRUPTED) if code in there), DONE)


def fit_one(one: Todo, experiment: Experiment, how: How, watch: Watch | None) -> dict[str, Any]:
    """Does a run; its summary.

    Raises:
        RunFailed: It had to stop.
        Interrupted: Ctrl-C or SIGTERM, after a checkpoint.
    """
    from fedsep.cli.ranks import announce
    from fedsep.train import fit

    recipe, job = one
    announce(recipe, job.method, job.seed, how.sources)
    told: dict[str, Any] = {**recipe.options(), "resume": how.resume, "overwrite": how.overwrite}
    return fit(
        experiment.algorithms[job.method],
        experiment.task,
        experiment.federation,
        rounds=recipe.rounds,
        seed=job.seed,
        engine=recipe.engine.build({}) if how.engine is None else how.engine(one),
        states=recipe.states,
        out=job.folder.parent.parent,
        name=job.method,
        recipe=recipe.single(job.method, job.seed),
        watch=watch,
        **told,
    ).summary


def described(experiment: Experiment) -> str:
    """The data in a line; a user's own federation may have less to say."""
    describe = getattr(experiment.federation, "describe", None)
    return describe() if describe else f"{experiment.federation.clients} clients"


def concluded(screen: Screen, title: str, job: Job, summary: dict[str, Any]) -> int:
    """Says how a run ended that did not fail, and of replies that did; its exit code."""
    from fedsep.report.ledger import failed_replies

    if summary["failures"] and (failed := failed_replies(job.folder)):
        screen.warn(f"{title}: {failed}")
    if summary["status"] != "done":
        screen.warn(f"{title}: {summary['reason']}; fedsep resume {job.folder} goes on")
        return INTERRUPTED
    screen.finished(summary)
    return DONE


def _one_by_one(screen: Screen, todo: Sequence[Todo], how: How, notice: Notice, first: Experiment | None) -> list[int]:
    """In this process; what runs of one recipe and seed share is built once."""
    codes: list[int] = []
    for (_, seed), group in groupby(todo, key=lambda one: (id(one.recipe), one.job.seed)):
        several = list(group)
        methods = frozenset(one.job.method for one in several)
        ready = first is not None and first.seed == seed and first.recipe is several[0].recipe
        experiment = first if ready else build(several[0].recipe, seed, how.sources, methods)
        assert experiment is not None
        screen.note(described(experiment))
        for one in several:
            notice.begin(one)
            try:
                codes.append(_watched(screen, one, experiment, how))
            except RunFailed as error:
                screen.warn(f"{one.title}: {error}")
                codes.append(FAILED)
                if isinstance(error, CannotWrite | LostRank):
                    return codes
            except KeyboardInterrupt as stopped:
                screen.warn(f"{one.title}: {str(stopped) or 'interrupted'}")
                raise
            notice.end(one)
    return codes


def _watched(screen: Screen, one: Todo, experiment: Experiment, how: How) -> int:
    with screen.watching(one.title, one.recipe.rounds) as watch:
        summary = fit_one(one, experiment, how, watch)
    return concluded(screen, one.title, one.job, summary)
