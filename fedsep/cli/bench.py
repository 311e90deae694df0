"""``fedsep bench``: a few rounds of a recipe on every engine, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

from fedsep.cli.bench_apart import REFERENCE, measured_apart
from fedsep.cli.bench_one import PLAIN
from fedsep.cli.entry import DONE, FAILED
from fedsep.cli.kinds import parts
from fedsep.cli.options import Reading, Talk
from fedsep.cli.plain import why_not
from fedsep.cli.screen import Screen
from fedsep.core import FedSepError
from fedsep.engines.auto import auto
from fedsep.engines.ranks import place
from fedsep.engines.workers import usable_cores
from fedsep.environment import environment
from fedsep.files import write_json
from fedsep.recipes import Experiment, Recipe, Sources, build
from fedsep.recipes.mistakes import nearest
from fedsep.report.wording import NONE, bytes_text, seconds_text


@dataclass(frozen=True)
class Bench:
    """What is to be measured.

    Attributes:
        methods: By name; None: all of the recipe.
        engines: By name or path; None: all there are.
        rounds: That are counted, after a first one that is not.
        device: As ``--device`` has it.
        out: File for the figures; None: nothing is written.
    """

    methods: Sequence[str] | None
    engines: Sequence[str] | None
    rounds: int
    device: str
    out: Path | None


def bench(reading: Reading, sources: Sources, talk: Talk, what: Bench) -> int:
    """Measures every engine on every method; the exit code.

    Raises:
        FedSepError: There is no such method or engine, or torchrun started this process.
    """
    where = place()
    if where is not None and where.ranks > 1:
        raise FedSepError("fedsep bench starts torchrun itself: start it without")
    recipe, screen = reading.read(), Screen(talk)
    methods, engines = _methods(recipe, what.methods), _engines(recipe, what.engines)
    experiment = build(recipe, recipe.seeds[0], sources, frozenset(methods))
    rows: list[dict[str, Any]] = []
    for method in methods:
        found = list(_measured(screen, recipe, method, engines, sources, what))
        screen.result(f"\n{method}: {_setting(experiment, what)}")
        screen.result(_table(found))
        for row in (row for row in found if row["error"]):
            screen.result(f"{row['engine']}: {row['error']}")
        screen.result(f"auto picks {_picked(experiment, method)}")
        rows += found
    if talk.json:
        print(json.dumps(rows))
    if what.out is not None:
        write_json(what.out, {"environment": environment("each", experiment.seed), "recipe": recipe.file, "rows": rows})
        screen.note(f"written: {what.out}")
    return DONE if any(row["seconds"] for row in rows) else FAILED


def _methods(recipe: Recipe, wanted: Sequence[str] | None) -> list[str]:
    for name in wanted or ():
        if name not in recipe.methods:
            meant = nearest(name, recipe.methods)
            hint = f"; did you mean {meant}?" if meant else ""
            raise FedSepError(f"--method: {recipe.file} has no {name!r}{hint} (it has {', '.join(recipe.methods)})")
    return list(wanted or recipe.methods)


def _engines(recipe: Recipe, wanted: Sequence[str] | None) -> list[str]:
    """Paths, the reference first: what others' bits are compared with."""
    known = [path for path, engine in parts("engines") if not _needs_arguments(engine) and not path.endswith(".auto")]
    own = [recipe.engine.use] if not recipe.engine.use.endswith(".auto") else []
    paths = [name if "." in name else f"fedsep.engines.{name}" for name in wanted or ()] or [*known, *own]
    for path in paths:
        if path not in (*known, *own):
            names = [each.rpartition(".")[2] for each in known]
            meant = nearest(path.rpartition(".")[2], names)
            hint = f"; did you mean {meant}?" if meant else ""
            raise FedSepError(f"--engines: there is no {path}{hint} (there are {', '.join(names)})")
    return list(dict.fromkeys([REFERENCE, *paths]))


def _needs_arguments(engine: Any) -> bool:
    import inspect

    parameters = inspect.signature(engine).parameters.values()
    return any(parameter.default is inspect.Parameter.empty for parameter in parameters)


def _measured(
    screen: Screen, recipe: Recipe, method: str, engines: Sequence[str], sources: Sources, what: Bench
) -> Iterator[dict[str, Any]]:
    """A row for each engine, and for a plain loop where there is one that does the same."""
    plain = [] if why_not(recipe, method) else [PLAIN]
    reference: dict[str, Any] = {}
    speeds: dict[str, float] = {}
    todo = [*plain, *engines]
    for number, engine in enumerate(todo, 1):
        name = engine.rpartition(".")[2] if engine.startswith("fedsep.") else engine
        screen.note(f"{method} · {name} · {number} of {len(todo)}")
        found = measured_apart(recipe, method, engine, sources, what.rounds + 1, what.device)
        counted = found.get("seconds", [])[1:]
        speeds[engine] = 1 / max(median(counted), 1e-9) if counted else 0.0
        reference = found if engine == REFERENCE else reference
        yield {
            "method": method,
            "engine": name,
            "rounds_per_second": speeds[engine] or None,
            "of_sequential": _ratio(speeds, engine, REFERENCE),
            "of_plain": _ratio(speeds, engine, PLAIN),
            "first_round": found["seconds"][0] if counted else None,
            "seconds": counted,
            "memory": found.get("memory"),
            "gpu_memory": found.get("gpu"),
            "equal": found["digest"] == reference["digest"] if "digest" in found and "digest" in reference else None,
            "error": found.get("error", ""),
        }


def _ratio(speeds: Mapping[str, float], engine: str, reference: str) -> float | None:
    return speeds[engine] / speeds[reference] if speeds.get(engine) and speeds.get(reference) else None


def _setting(experiment: Experiment, what: Bench) -> str:
    size = experiment.recipe.options()["cohort"].size(experiment.federation.clients)
    return f"{what.rounds} rounds of {size} clients, {usable_cores()} cores, {what.device}"


def _picked(experiment: Experiment, method: str) -> str:
    cohort = experiment.recipe.options()["cohort"].size(experiment.federation.clients)
    return str(auto().choose(experiment.algorithms[method], experiment.task, experiment.federation, cohort))


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    plain = any(row["of_plain"] for row in rows)
    columns = ["engine", "rounds/s", "of sequential", *(["of a plain loop"] if plain else []), "first round", "memory"]
    if any(row["gpu_memory"] for row in rows):
        columns.append("GPU memory")
    for name in [*columns, "bits of sequential"]:
        made.add_column(name, justify="left" if name in ("engine", "bits of sequential") else "right")
    for row in rows:
        texts = {
            "engine": "plain loop" if row["engine"] == PLAIN else row["engine"],
            "rounds/s": _three(row["rounds_per_second"]),
            "of sequential": _three(row["of_sequential"]),
            "of a plain loop": _three(row["of_plain"]),
            "first round": seconds_text(row["first_round"]),
            "memory": bytes_text(row["memory"]),
            "GPU memory": bytes_text(row["gpu_memory"]),
        }
        bits = "cannot run" if row["error"] else {True: "yes", False: "no", None: NONE}[row["equal"]]
        made.add_row(*(texts[name] for name in columns), bits)
    return made


def _three(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"
