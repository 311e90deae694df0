"""What was run, in sentences, from the recipes; what they do not say is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from fedsep.report.grouping import SEEDS, Group, show
from fedsep.report.reading import Record, RunData, finite
from fedsep.report.wording import list_text, plural, seeds_text

TITLE_METHODS = 3
"""Methods that the title names at most."""


def call(node: Any) -> str:
    """A part of a recipe as a call: ``classes(k=2)``; seeds are left out."""
    if isinstance(node, list):
        return "[" + ", ".join(call(item) for item in cast(list[Any], node)) + "]"
    if not isinstance(node, dict):
        return show(node)
    record = cast(Record, node)
    inside = ", ".join(f"{key}={call(value)}" for key, value in record.items() if key not in ("use", *SEEDS))
    if "use" not in record:
        return "{" + inside + "}"
    return show(record["use"]) + (f"({inside})" if inside else "")


def method_call(run: RunData) -> str:
    """The method with its settings but those that are off (null), or its name where there is no recipe."""
    methods: Any = run.recipe.get("methods")
    node = run.recipe.get("method") or (methods[0] if isinstance(methods, list) and methods else None)
    if not isinstance(node, dict):
        return run.method
    return call({key: value for key, value in cast(Record, node).items() if value is not None})


def data_name(run: RunData) -> str:
    """The data set's name."""
    data = _part(run, "data")
    return str(run.summary.get("data") or (show(data["use"]) if "use" in data else "") or "unnamed data")


def title(groups: Sequence[Group]) -> str:
    """The page's title."""
    names = list(dict.fromkeys(group.label for group in groups))
    told = list_text(names) if len(names) <= TITLE_METHODS else f"{len(names)} methods"
    return f"{told} on {list_text(_distinct(groups, data_name))}"


def lead(groups: Sequence[Group]) -> str:
    """What ran, in a few sentences."""
    sentences = [
        f"{_methods(groups)} on {setting(groups)}.",
        _sentence("Model", groups, _model),
        _sentence("Parameters", groups, _parameters),
        _sentence("Task", groups, lambda run: call(_part(run, "task")) if _part(run, "task") else ""),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def setting(groups: Sequence[Group]) -> str:
    """Data, clients, partition and rounds: what every figure states; differing values are all told."""
    parts = [
        list_text(_distinct(groups, data_name)),
        _alternatives(groups, _clients),
        _alternatives(groups, _cohort),
        _alternatives(groups, _partition),
        _rounds(groups),
    ]
    return ", ".join(part for part in parts if part)


def seeds_of(groups: Sequence[Group]) -> str:
    """Whose mean the figures show: the seeds, if all methods have the same."""
    if not _same_seeds(groups):
        return "each method's own seeds"
    known = groups[0].seeds
    return ("seed " if len(set(known)) == 1 else "seeds ") + seeds_text(known)


def _same_seeds(groups: Sequence[Group]) -> bool:
    return len({tuple(group.seeds) for group in groups}) == 1


def _methods(groups: Sequence[Group]) -> str:
    runs = sum(len(group.runs) for group in groups)
    what = groups[0].label if len(groups) == 1 else plural(len(groups), "method")
    seeds = f" with {seeds_of(groups)}" if _same_seeds(groups) else ""
    return f"{what}{seeds} ({plural(runs, 'run')})"


def _sentence(name: str, groups: Sequence[Group], tell: Callable[[RunData], str]) -> str:
    told = _alternatives(groups, tell)
    return f"{name}: {told}." if told else ""


def _alternatives(groups: Sequence[Group], tell: Callable[[RunData], str]) -> str:
    return " or ".join(_distinct(groups, tell))


def _distinct(groups: Iterable[Group], tell: Callable[[RunData], str]) -> list[str]:
    told = dict.fromkeys(tell(run) for group in groups for run in group.runs)
    return [text for text in told if text]


def _clients(run: RunData) -> str:
    count = finite(run.summary.get("clients")) or finite(_part(run, "data").get("clients"))
    return plural(int(count), "client") if count else ""


def _partition(run: RunData) -> str:
    """How data were dealt, without arguments that are off (null): they may have come after the run."""
    partition: Any = _part(run, "data").get("partition")
    if not isinstance(partition, dict):
        return ""
    return f"partition {call({key: value for key, value in cast(Record, partition).items() if value is not None})}"


def _cohort(run: RunData) -> str:
    cohort = _part(run, "cohort")
    per_round = finite(cohort.get("per_round"))
    if per_round:
        return f"{int(per_round)} a round"
    return "all in every round" if "per_round" in cohort else ""


def _model(run: RunData) -> str:
    model = _part(run, "model")
    return call(model) if model else ""


def _parameters(run: RunData) -> str:
    count = finite(run.summary.get("parameters"))
    return f"{int(count):,}" if count else ""


def _rounds(groups: Sequence[Group]) -> str:
    counts = [run.rounds for group in groups for run in group.runs]
    low, high = min(counts), max(counts)
    return plural(high, "round") if low == high else f"{low:,} to {plural(high, 'round')}"


def _part(run: RunData, name: str) -> Record:
    part: Any = run.recipe.get(name)
    return cast(Record, part) if isinstance(part, dict) else {}
