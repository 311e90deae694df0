"""``fedsep paper --dry-run``: what would be run, its bytes and time; a few rounds are played for it and forgotten."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.table import Table

from fedsep.cli.cells import Folder
from fedsep.cli.estimate import Durations
from fedsep.cli.plan import Job, standing
from fedsep.cli.screen import Screen
from fedsep.cohort import Cohort
from fedsep.core import Samples, Shard
from fedsep.engines.engine import Engine, Fleet
from fedsep.engines.sequential import sequential
from fedsep.engines.workers import Workers, usable_cores
from fedsep.options import Evaluate
from fedsep.recipes import Experiment, Sources, build
from fedsep.report.wording import bytes_text, plural, seconds_text
from fedsep.train import Run, fit
from fedsep.views import Changes

ROUNDS = 2
"""Rounds that are played: in the first nothing may be sent down, and sketches are drawn."""

EXAMPLES = 2
"""Training examples of a client where only bytes are looked at."""


@dataclass(frozen=True)
class Part:
    """A fleet's first clients with all their examples, or a few; without what the model is scored on unless asked."""

    fleet: Fleet
    clients: int
    examples: int | None = None
    scored: bool = False

    @property
    def validation(self) -> Samples | None:
        """The fleet's, or nothing."""
        return self.fleet.validation if self.scored else None

    @property
    def test(self) -> Samples | None:
        """The fleet's, or nothing."""
        return self.fleet.test if self.scored else None

    def shard(self, client: int) -> Shard:
        """A client's data."""
        shard = self.fleet.shard(client)
        return shard if self.examples is None else shard.with_train(_few(shard.train, self.examples))


@dataclass(frozen=True)
class Pace:
    """What one client of a method takes, and the server with it: seconds before the first round and in each, at p."""

    p: int | None
    before: float
    round: float


@dataclass(frozen=True)
class Probes:
    """What was measured.

    Attributes:
        bytes: Payload up and down, of a client in a round after the first, by what a method is called with.
        paces: By method, at one p; methods that have none, by what they are called with.
        evaluation: Seconds of an evaluation of the server's model.
        done: Seconds of finished runs.
    """

    bytes: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    paces: dict[str, Pace] = field(default_factory=dict[str, Pace])
    evaluation: list[float] = field(default_factory=list[float])
    done: Durations = field(default_factory=Durations)

    def seconds(self, one: Folder, name: str, rounds: int | None = None) -> float:
        """Of a run of a method, or of so many rounds of it, judged by what was played."""
        pace, settings = self.paces[called(one, name, p=False)], one.recipe.settings
        evaluate, rounds = settings["evaluate"].build({}), rounds or one.recipe.rounds
        times = sum(evaluate.due(at, rounds) for at in range(1, rounds + 1))
        clients = settings["cohort"].build({}).per_round or one.recipe.data.arguments.get("clients", 1)
        played = rounds + (times if evaluate.clients else 0)  # the clients' own models take the time of a round
        shared = clients * played * pace.round + times * sum(self.evaluation)
        return pace.before + shared / _processes(one.recipe.engine.build({}))

    def of(self, one: Folder, job: Job) -> float:
        """Seconds of a run: as long as those like it that are finished, else judged by what was played."""
        known = self.done.known.get(one.kind(job))
        return statistics.fmean(known) if known else self.seconds(one, job.method)

    def rest_on(self) -> str:
        """What the times rest on."""
        finished = sum(map(len, self.done.known.values()))
        like = f"{plural(finished, 'finished run')}, and for what has none like it, on " if finished else ""
        ps = sorted({pace.p for pace in self.paces.values() if pace.p is not None})
        at = f" at p = {', '.join(map(str, ps))}: a larger p may take longer" if ps else ""
        return f"Times rest on {like}{ROUNDS} rounds of one client of every method{at}; on this machine as it is now."


def probes(screen: Screen, found: Sequence[Folder], sources: Sources, at: int | None = None) -> Probes:
    """Of every method bytes at every p, and time at one.

    Args:
        screen: For what is going on.
        found: Cells; the first that has a method at a p is measured.
        sources: Where data are looked for.
        at: The p at which a method is timed, if it has that; else the first that it has.
    """
    made = Probes()
    timed = {name: one.cell.p for one in found for name in one.cell.lines if one.cell.p == at}
    for one in found:
        wanted = [name for name in one.cell.lines if called(one, name) not in made.bytes]
        if wanted:
            screen.note(f"looking at {', '.join(wanted)} for {one.path}")
            experiment = build(one.recipe, one.recipe.seeds[0], sources, frozenset(wanted))
            for name in wanted:
                made.bytes[called(one, name)] = _bytes(experiment, name)
                if timed.get(name, one.cell.p) == one.cell.p and called(one, name, p=False) not in made.paces:
                    made.paces[called(one, name, p=False)] = _pace(made, experiment, name, one.cell.p)
        for job in one.jobs:
            if standing(job, one.recipe, bare=True)[0] == "done":
                made.done.see(one.kind(job), job)
    return made


def called(one: Folder, name: str, *, p: bool = True) -> str:
    """What a method is called with, in a word; without ``p``, one p stands for all where there is one."""
    return str(one.recipe.methods[name].resolved()) if p or one.cell.p is None else name


def _bytes(experiment: Experiment, name: str) -> tuple[float, float]:
    """Payload up and down of a client in a round after the first."""
    changes = isinstance(getattr(experiment.algorithms[name], "view", None), Changes)
    clients = experiment.federation.clients if changes else 1  # what is sent down are the changes of all of them
    run = _played(experiment, name, Part(experiment.federation, clients, EXAMPLES))
    first, last = run.metrics[0], run.metrics[-1]
    messages = sum(row["replies"] for row in run.metrics[1:])
    return (last["bytes_up"] - first["bytes_up"]) / messages, (last["bytes_down"] - first["bytes_down"]) / messages


def _pace(made: Probes, experiment: Experiment, name: str, p: int | None) -> Pace:
    """Times a client of a method, and an evaluation if none was timed yet."""
    run = _played(experiment, name, Part(experiment.federation, 1, scored=not made.evaluation))
    first, last = run.metrics[0], run.metrics[-1]
    if not made.evaluation:
        made.evaluation.append(last["wall_evaluation_seconds"])
    later = (last["wall_seconds"] - first["wall_seconds"]) / (ROUNDS - 1)
    return Pace(p, max(0.0, first["wall_seconds"] - later), later)


def _played(experiment: Experiment, method: str, fleet: Part) -> Run:
    """A few rounds of a method with all the clients of a fleet."""
    options: dict[str, Any] = {**experiment.recipe.options(), "evaluate": Evaluate(every=None), "cohort": Cohort()}
    algorithm, seed = experiment.algorithms[method], experiment.seed
    return fit(algorithm, experiment.task, fleet, rounds=ROUNDS, seed=seed, engine=sequential(), **options)


def _processes(engine: Engine) -> int:
    """How many clients are at work at a time."""
    return min(engine.processes or usable_cores(), usable_cores()) if isinstance(engine, Workers) else 1


def _few(samples: Samples, count: int) -> Samples:
    return samples._replace(x=samples.x[:count], y=samples.y[:count])


def announce(
    screen: Screen, found: Sequence[Folder], known: Probes, jobs: int, tuning: str = "", tuning_seconds: float = 0.0
) -> None:
    """The runs as a table, and the time of all that are left."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("folder", "method", "seeds", "rounds", "up", "down", "a run", "state"):
        table.add_column(name, justify="left" if name in ("folder", "method", "state") else "right", overflow="fold")
    seconds = tuning_seconds
    for one in found:
        for name in one.cell.lines:
            own = [job for job in one.jobs if job.method == name]
            states = {job: standing(job, one.recipe, bare=True)[0] for job in own}
            seconds += sum(known.of(one, job) for job in own if states[job] in ("new", "unfinished", "other"))
            table.add_row(*_row(one, name, own, states, known))
    runs = sum(len(one.jobs) for one in found)
    screen.result(f"{tuning}\nThen {plural(runs, 'run')}; up, down: payload of a client in a round after the first")
    screen.result(table)
    at_once = min(jobs, usable_cores())
    by = f", {at_once} at a time" if at_once > 1 else ""
    screen.result(f"About {seconds_text(seconds / at_once)} for what is left{by}, tuning included. {known.rest_on()}")


def _row(one: Folder, name: str, own: Sequence[Job], states: Mapping[Job, str], known: Probes) -> list[str]:
    told = dict.fromkeys("new" if states[job] == "other" else states[job] for job in own)
    return [
        str(one.path),
        name,
        ",".join(str(job.seed) for job in own),
        str(one.recipe.rounds),
        *(bytes_text(float(round(way))) for way in known.bytes[called(one, name)]),
        seconds_text(known.of(one, own[0])),
        ", ".join(told),
    ]
