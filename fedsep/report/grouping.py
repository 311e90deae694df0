"""Which runs are seeds of one method: those whose recipes differ in seeds only, or in how they were run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from fedsep.earlier import comparable
from fedsep.report.reading import Record, RunData

SEEDS = ("seed", "seeds")
"""Keys of a recipe that may differ between the runs of a group, at any depth."""

_WAYS = ("name", "engine", "checkpoint", "stop", "states")
"""Blocks of a recipe that say how a run is done and not what it gives: seeds may have been run in different ways."""

_BUT = ("engine.faults", "stop.min_replies")
"""Settings in these blocks on which it depends, nevertheless, which replies count."""
_UNSAID = (None, {}, 1)
"""Their values where nothing is said."""

_ADDED = ("evaluate.levels",)
"""Settings that add figures and change none."""

LABEL_SETTINGS = 3
"""Settings that a label names at most."""


@dataclass(frozen=True)
class Group:
    """Runs of one method with the same settings.

    Attributes:
        label: The method's name; with what tells it apart where two groups have one name.
        runs: One run a seed, in order of seeds.
        settings: The recipe without seeds, by dotted key; the method's own start with ``method.``.
        left_out: Runs that one of ``runs`` repeats: a seed counts once.
    """

    label: str
    runs: tuple[RunData, ...]
    settings: Record
    left_out: tuple[RunData, ...] = ()

    @property
    def method(self) -> str:
        """The method's name."""
        return self.runs[0].method

    @property
    def metric(self) -> str | None:
        """The headline metric, None if no run has been evaluated."""
        return next((run.metric for run in self.runs if run.metric is not None), None)

    @property
    def seeds(self) -> list[int]:
        """The runs' seeds, as far as they are known."""
        return [run.seed for run in self.runs if run.seed is not None]


def group_runs(runs: Iterable[RunData]) -> list[Group]:
    """Gathers seeds into groups, in the order in which their first runs come."""
    gathered: dict[str, list[RunData]] = {}
    for run in runs:
        gathered.setdefault(_identity(run), []).append(run)
    members = [_once(sorted(several, key=_seed_first)) for several in gathered.values()]
    settings = [flatten(kept[0].recipe) for kept, _ in members]
    labels = _labels([kept[0] for kept, _ in members], [_what(own) for own in settings])
    return [Group(label, kept, own, rest) for label, (kept, rest), own in zip(labels, members, settings, strict=True)]


def left_out(groups: Iterable[Group]) -> Iterator[str]:
    """For each run that another repeats, which folder does not count and which does."""
    for group in groups:
        counting = {run.seed: run.folder for run in group.runs}
        for run in group.left_out:
            yield f"{group.label}: {run.folder} repeats seed {run.seed} of {counting[run.seed]}, so it is left out."


def flatten(recipe: Record) -> Record:
    """A recipe by dotted keys without seeds; a single method, in a list or not, is ``method``."""
    recipe = dict(recipe)
    methods = recipe.get("methods")
    if isinstance(methods, list) and len(cast(list[Any], methods)) == 1:
        recipe["method"] = recipe.pop("methods")[0]
    return dict(_leaves("", comparable(recipe)))


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        yield prefix, value
        return
    for key, inner in cast(Mapping[Any, Any], value).items():
        if key not in SEEDS:
            yield from _leaves(f"{prefix}.{key}" if prefix else str(key), inner)


def _once(runs: Sequence[RunData]) -> tuple[tuple[RunData, ...], tuple[RunData, ...]]:
    """One run for each seed, a finished one or else the longest, and the others; order is kept."""
    chosen: dict[object, Path] = {}
    for run in sorted(runs, key=lambda run: (run.status != "done", -run.rounds)):
        chosen.setdefault(_told_seed(run), run.folder)
    kept = tuple(run for run in runs if chosen[_told_seed(run)] == run.folder)
    return kept, tuple(run for run in runs if chosen[_told_seed(run)] != run.folder)


def _told_seed(run: RunData) -> object:
    """Runs that do not tell their seed are all different."""
    return run.folder if run.seed is None else run.seed


def _identity(run: RunData) -> str:
    """Runs without a recipe are seeds of one method only if they lie side by side."""
    if run.recipe:
        return json.dumps([run.method, _what(flatten(run.recipe))], sort_keys=True, default=str)
    return json.dumps([run.method, _place(run)])


def _what(settings: Record) -> Record:
    """Settings without those of how a run is done."""
    return {key: value for key, value in settings.items() if _tells(key, value) and key not in _ADDED}


def _tells(key: str, value: Any) -> bool:
    return key.split(".")[0] not in _WAYS or (key.startswith(_BUT) and value not in _UNSAID)


def _place(run: RunData) -> str:
    seed_folder = run.folder.name.startswith("seed") and run.folder.name[4:].isdigit()
    return (run.folder.parent if seed_folder else run.folder).as_posix()


def _seed_first(run: RunData) -> tuple[int, str]:
    return (-1 if run.seed is None else run.seed, run.folder.as_posix())


def _labels(firsts: Sequence[RunData], settings: Sequence[Record]) -> list[str]:
    labels: list[str] = []
    for run, own in zip(firsts, settings, strict=True):
        rivals = [other for twin, other in zip(firsts, settings, strict=True) if twin.method == run.method]
        differing = _differing(own, rivals)
        told = ", ".join(f"{key.removeprefix('method.')}={show(own.get(key))}" for key in differing[:LABEL_SETTINGS])
        labels.append(f"{run.method} · {told}" if told else run.method)
    placed = [
        label if labels.count(label) == 1 else f"{label} · {_place(run)}"
        for label, run in zip(labels, firsts, strict=True)
    ]
    return [
        label if placed.count(label) == 1 else f"{label} ({placed[: at + 1].count(label)})"
        for at, label in enumerate(placed)
    ]


def _differing(own: Record, rivals: Sequence[Record]) -> list[str]:
    """Keys whose values are not the same everywhere, the method's own first."""
    keys = {key: None for record in [own, *rivals] for key in record}
    differ = [key for key in keys if any(record.get(key) != own.get(key) for record in rivals)]
    return sorted(differ, key=lambda key: not key.startswith("method."))


def show(value: object) -> str:
    """A setting as a person writes it: the last part of a dotted path, plain lists."""
    if isinstance(value, list):
        return "[" + ", ".join(show(item) for item in cast(list[object], value)) + "]"
    if isinstance(value, str) and value.startswith("fedsep."):
        return value.rsplit(".", 1)[-1]
    return str(value)
