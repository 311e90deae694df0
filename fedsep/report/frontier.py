"""The byte frontier: what accuracy each method reaches with how many bytes, and which of them nobody beats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, cast

from fedsep.cohort import Cohort
from fedsep.core import FedSepError
from fedsep.identity import differences
from fedsep.report.comparing import counted
from fedsep.report.grouping import SEEDS, Group, group_runs, show
from fedsep.report.reading import Record, RunData, finite
from fedsep.report.spread import Spread, column, evaluations, higher_is_better, payload, spread

TARGETS = (0.95, 0.97, 0.98)
"""Accuracies that the bytes are told for, where nobody names others."""

_TASK = ("data", "model", "task", "cohort")
_COHORT: Record = {field.name: field.default for field in fields(Cohort)}
_PLACES = ("data_dir", "download")


class Point(NamedTuple):
    """A value that was reached, with the bytes of one client until then: means over seeds.

    Attributes:
        payload: Payload bytes, up + down, of one client since the start.
        header: Header bytes on top of them.
        value: The metric.
        round: The round in which it was reached.
    """

    payload: float
    header: float
    value: float
    round: int

    @property
    def whole(self) -> float:
        """Payload and header."""
        return self.payload + self.header


class Reach(NamedTuple):
    """What it took to reach a target, over the ``payload["n"]`` seeds of ``of`` that did; bytes of one client."""

    target: float
    of: int
    payload: Spread
    whole: Spread
    rounds: Spread

    @property
    def by_all(self) -> bool:
        """Whether every seed reached it: only then does its mean compare with that of other methods."""
        return self.payload["n"] == self.of


@dataclass(frozen=True)
class Setting:
    """A method with one setting of its arguments.

    Attributes:
        label: Its name, with what tells it from others of the name.
        family: Its factory's name, or its own: all settings of a family are drawn in one colour.
        seeds: Of the runs that count.
        round_payload: Payload bytes of one client in a round, up + down, on average.
        round_header: Header bytes on top of them.
        points: Each value that was better than all before, as the mean over seeds, in order of bytes.
        reaches: One for each target.
    """

    label: str
    family: str
    seeds: tuple[int, ...]
    round_payload: float
    round_header: float
    points: tuple[Point, ...]
    reaches: tuple[Reach, ...]

    @property
    def best(self) -> float:
        """The best value, as the mean over seeds at one round."""
        return self.points[-1].value


@dataclass(frozen=True)
class Frontier:
    """All settings on one task.

    Attributes:
        metric: What is reached.
        settings: In the order in which their runs came.
        groups: The runs behind them.
        targets: Values of the metric.
    """

    metric: str
    settings: tuple[Setting, ...]
    groups: tuple[Group, ...]
    targets: tuple[float, ...]

    @property
    def families(self) -> list[str]:
        """The methods, in the order in which they came: the place gives the colour."""
        return list(dict.fromkeys(setting.family for setting in self.settings))


class Led(NamedTuple):
    """A point that no other method reaches with as few bytes."""

    setting: Setting
    point: Point


def frontier(runs: Iterable[RunData], targets: Sequence[float] = TARGETS, *, by_name: bool = False) -> Frontier:
    """The frontier of runs of one task.

    Runs whose recipes differ in seeds only are seeds of one setting. A run that is not done counts only where no run
    of its setting is; a run that was never evaluated does not count.

    Args:
        runs: Runs as ``read_run`` gives them.
        targets: Values of the metric.
        by_name: Whether runs of one factory under several names are several methods.

    Raises:
        FedSepError: The runs are of several tasks, or none was evaluated.
    """
    known = [run for run in runs if run.metric is not None and run.rows]
    if not known:
        raise FedSepError("none of these runs has been evaluated: there is no accuracy to compare")
    _refuse_mixture(known)
    groups = group_runs(known)
    metric = known[0].metric or ""
    settings = [_setting(group, metric, tuple(targets), by_name) for group in groups]
    return Frontier(metric, tuple(settings), tuple(groups), tuple(targets))


def pareto(settings: Iterable[Setting], metric: str, header: bool = False) -> list[Led]:
    """The points that no point of these settings beats: fewer bytes at no worse a value. In order of bytes.

    Args:
        settings: Settings of one task.
        metric: Tells whether larger is better.
        header: Whether headers count.
    """
    sign = _sign(metric)
    everything = [Led(setting, point) for setting in settings for point in setting.points]
    everything.sort(key=lambda led: (led.point.whole if header else led.point.payload, -sign * led.point.value))
    kept: list[Led] = []
    for led in everything:
        if not kept or sign * led.point.value > sign * kept[-1].point.value:
            kept.append(led)
    return kept


def leading(settings: Sequence[Setting], at: int) -> Setting | None:
    """The setting that reaches target number ``at`` with the fewest payload bytes, with all its seeds."""
    able = [setting for setting in settings if setting.reaches[at].by_all]
    return min(able, key=lambda setting: setting.reaches[at].payload["mean"] or 0.0, default=None)


def _setting(group: Group, metric: str, targets: tuple[float, ...], by_name: bool) -> Setting:
    runs = counted(group)
    last = [_bytes(run, run.rows[-1]) for run in runs]
    rounds = [run.rounds for run in runs]
    return Setting(
        group.label,
        group.method if by_name else show(group.settings.get("method.use", group.method)),
        tuple(run.seed for run in runs if run.seed is not None),
        sum(sent / count for (sent, _), count in zip(last, rounds, strict=True)) / len(runs),
        sum(header / count for (_, header), count in zip(last, rounds, strict=True)) / len(runs),
        tuple(_points(runs, metric)),
        tuple(_reach(runs, metric, target) for target in targets),
    )


def _points(runs: Sequence[RunData], metric: str) -> list[Point]:
    """The running best of the mean over seeds, at the rounds in which every seed was evaluated."""
    values = [_values(run, metric) for run in runs]
    shared = sorted(set(values[0]).intersection(*values[1:]))
    made: list[Point] = []
    for at in shared:
        sent, header, value = (sum(own[at][place] for own in values) / len(values) for place in range(3))
        if not made or _sign(metric) * value > _sign(metric) * made[-1].value:
            made.append(Point(sent, header, value, at))
    if not made:
        names = ", ".join(str(run.folder) for run in runs)
        raise FedSepError(f"{names}: no round in which the {metric} of every seed is a finite number")
    return made


def _values(run: RunData, metric: str) -> dict[int, tuple[float, float, float]]:
    """Payload, header and value by round."""
    rows = evaluations(run, column(metric))
    return {row["round"]: (*_bytes(run, row), value) for row, value in rows if finite(value) is not None}


def _reach(runs: Sequence[RunData], metric: str, target: float) -> Reach:
    sign = _sign(metric)
    first = [
        next(((at, *found) for at, found in _values(run, metric).items() if sign * found[2] >= sign * target), None)
        for run in runs
    ]
    hits = [hit for hit in first if hit is not None]
    return Reach(
        target,
        len(runs),
        spread(sent for _, sent, _, _ in hits),
        spread(sent + header for _, sent, header, _ in hits),
        spread(float(at) for at, _, _, _ in hits),
    )


def _bytes(run: RunData, row: Record) -> tuple[float, float]:
    """Payload and header of one client since the start: those of all clients, shared out evenly."""
    clients = finite(run.summary.get("clients")) or finite(_block(run, "data").get("clients"))
    sent, header = payload(row), finite(row.get("header_bytes"))
    if clients is None or sent is None or header is None:
        missing = "the number of clients" if clients is None else "bytes_up, bytes_down or header_bytes"
        raise FedSepError(f"{run.folder}: {missing} is not told, so bytes per client are not known")
    return sent / clients, header / clients


def _refuse_mixture(runs: Sequence[RunData]) -> None:
    first = _task(runs[0])
    for run in runs[1:]:
        unlike = differences(first, _task(run))
        if unlike:
            raise FedSepError(
                f"{runs[0].folder} and {run.folder} are not of one task ({'; '.join(unlike[:3])}): a frontier compares "
                "methods on the same data, split, clients and model; give it the runs of one task at a time"
            )


def _task(run: RunData) -> Record:
    """What must be the same for bytes and accuracies to compare."""
    if not run.recipe:
        return {"metric": run.metric, "data": run.summary.get("data")}
    # A run of an older version says nothing of what came later: it did as the default does.
    blocks = {key: _block(run, key) for key in _TASK} | {"cohort": _COHORT | _block(run, "cohort")}
    return {"metric": run.metric, **{key: _without(block) for key, block in blocks.items()}}


def _block(run: RunData, key: str) -> Record:
    block: Any = run.recipe.get(key)
    return cast(Record, block) if isinstance(block, dict) else {}


def _without(value: Any) -> Any:
    """A part of a recipe without seeds, and without where its data lie."""
    if not isinstance(value, dict):
        return value
    kept = cast(Record, value).items()
    return {key: _without(part) for key, part in kept if key not in (*SEEDS, *_PLACES)}


def _sign(metric: str) -> int:
    return 1 if higher_is_better(metric) else -1
