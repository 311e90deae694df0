"""``fedsep paper --dry-run``: what would be run, its bytes and time; a few rounds are played for it and forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from fedsep.cli.cells import Folder
from fedsep.cli.plan import standing
from fedsep.cli.screen import Screen
from fedsep.options import Evaluate
from fedsep.recipes import Experiment, Recipe, Sources, build
from fedsep.report.wording import bytes_text, plural, seconds_text
from fedsep.train import fit

ROUNDS = 3
"""Rounds that are played: in the first nothing may be sent down."""


@dataclass(frozen=True)
class Probe:
    """What a method costs.

    Attributes:
        up: Payload bytes of a client in a round, after the first.
        down: The same on the downlink.
        first: Seconds of the first round.
        round: Seconds of a later one.
        evaluation: Seconds of an evaluation.
    """

    up: float
    down: float
    first: float
    round: float
    evaluation: float

    def seconds(self, recipe: Recipe, rounds: int | None = None) -> float:
        """Of a run of the recipe, or of so many rounds of it."""
        rounds = rounds or recipe.rounds
        evaluate = recipe.settings["evaluate"].build({})
        times = sum(evaluate.due(at, rounds) for at in range(1, rounds + 1))
        return self.first + (rounds - 1) * self.round + times * self.evaluation


Probes = Mapping[tuple[int | None, str], Probe]
"""By p and method: they do not depend on the split."""


def probe(experiment: Experiment, method: str) -> Probe:
    """Plays a few rounds of a method, with all its clients and its engine."""
    recipe = experiment.recipe
    options: dict[str, Any] = {**recipe.options(), "evaluate": Evaluate(every=None)}
    algorithm, engine = experiment.algorithms[method], recipe.engine.build({})
    done = fit(
        algorithm,
        experiment.task,
        experiment.federation,
        rounds=ROUNDS,
        seed=experiment.seed,
        engine=engine,
        states=recipe.states,
        **options,
    )
    first, last = done.metrics[0], done.metrics[-1]
    messages = sum(row["replies"] for row in done.metrics[1:])
    return Probe(
        (last["bytes_up"] - first["bytes_up"]) / messages,
        (last["bytes_down"] - first["bytes_down"]) / messages,
        first["wall_seconds"],
        (last["wall_seconds"] - first["wall_seconds"]) / (ROUNDS - 1),
        last["wall_evaluation_seconds"],
    )


def probes(screen: Screen, found: Sequence[Folder], sources: Sources) -> Probes:
    """Of every method at every p, on the first split that has them."""
    made: dict[tuple[int | None, str], Probe] = {}
    for one in found:
        wanted = [name for name in one.cell.lines if (one.cell.p, name) not in made]
        if wanted:
            screen.note(f"measuring {', '.join(wanted)} for {one.path}")
            experiment = build(one.recipe, one.recipe.seeds[0], sources, frozenset(wanted))
            made |= {(one.cell.p, name): probe(experiment, name) for name in wanted}
    return made


def announce(screen: Screen, found: Sequence[Folder], known: Probes, tuning: str, tuning_seconds: float) -> None:
    """The runs as a table, and the time of all that are left."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("folder", "method", "seeds", "rounds", "up", "down", "a run", "state"):
        table.add_column(name, justify="left" if name in ("folder", "method", "state") else "right", overflow="fold")
    seconds = tuning_seconds
    for one in found:
        for name in one.cell.lines:
            cost = known[one.cell.p, name]
            states = {job.seed: standing(job, one.recipe)[0] for job in one.jobs if job.method == name}
            left = sum(state in ("new", "unfinished", "other") for state in states.values())
            seconds += left * cost.seconds(one.recipe)
            told = ", ".join(dict.fromkeys("new" if state == "other" else state for state in states.values()))
            table.add_row(
                str(one.path),
                name,
                ",".join(str(seed) for seed in states),
                str(one.recipe.rounds),
                bytes_text(float(round(cost.up))),
                bytes_text(float(round(cost.down))),
                seconds_text(cost.seconds(one.recipe)),
                told,
            )
    runs = sum(len(one.jobs) for one in found)
    screen.result(f"{tuning}\nThen {plural(runs, 'run')}; up, down: payload of a client in a round after the first")
    screen.result(table)
    screen.result(f"About {seconds_text(seconds)} for what is left, tuning included, on this machine as it is now.")
