"""What a reader must know before trusting the figures: runs that are not done, failures, unlike conditions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from fedsep.report.grouping import Group, left_out
from fedsep.report.ledger import Ledger, first_text
from fedsep.report.reading import UNFINISHED, RunData, finite
from fedsep.report.spread import column
from fedsep.report.wording import list_text, plural, seeds_text

_MACHINE = ("machine", "engine", "threads", "torch")


def notes(groups: Sequence[Group], ledgers: Mapping[str, Ledger]) -> list[str]:
    """The notes, the gravest first.

    Args:
        groups: The methods.
        ledgers: Each method's ledger, by label.
    """
    each = [*_statuses(groups), *_not_finite(groups), *_failures(ledgers), *_unlike(groups), *told(groups)]
    return list(dict.fromkeys(each))


def name(group: Group, run: RunData) -> str:
    """A run as the page calls it."""
    return group.label if run.seed is None else f"{group.label}, seed {run.seed}"


def _runs(groups: Iterable[Group]) -> Iterator[tuple[Group, RunData]]:
    return ((group, run) for group in groups for run in group.runs)


def _statuses(groups: Sequence[Group]) -> Iterator[str]:
    for group, run in _runs(groups):
        after = f"after {plural(run.rounds, 'round')}" if run.rounds else "before its first round was over"
        if run.status == UNFINISHED:
            yield f"{name(group, run)}: unfinished, {after}: it is still running, or was killed."
        elif run.status != "done":
            yield f"{name(group, run)}: {run.status} {after}" + (f": {run.reason}" if run.reason else "") + "."
        if run.metric is None:
            yield f"{name(group, run)}: not evaluated yet."
    for group in groups:
        done = sum(run.status == "done" for run in group.runs)
        if 0 < done < len(group.runs):
            yield f"{group.label}: the tables count finished runs only, {done} of {len(group.runs)}."
    yield from left_out(groups)


def _not_finite(groups: Sequence[Group]) -> Iterator[str]:
    for group, run in _runs(groups):
        for key in ("train_loss", column(run.metric or "")):
            # what JSON has no number for is written as null
            bad = [row["round"] for row in run.rows if key in row and finite(row[key]) is None]
            if bad:
                yield (
                    f"{name(group, run)}: {key} is not finite in {plural(len(bad), 'round')}, "
                    f"first in round {bad[0]}; the curves leave such points out."
                )


def _failures(ledgers: Mapping[str, Ledger]) -> Iterator[str]:
    for label, ledger in ledgers.items():
        refused = ledger.ways["up"].rejected
        for what, first in [*ledger.failures.items()][:1]:
            count = sum(known.times for known in ledger.failures.values())
            went_on = f"clients did not deliver {plural(count, 'time')}; the rounds went on without them"
            yield f"{label}: {went_on}. The first: {first_text(first.client, first.round, *what)}."
        if refused:
            yield f"{label}: {plural(refused, 'reply', 'replies')} came but were not accepted."


def _unlike(groups: Sequence[Group]) -> Iterator[str]:
    """Conditions that differ between methods that stand side by side."""
    if len({str(run.summary["data"]) for _, run in _runs(groups) if run.summary.get("data")}) > 1:
        yield "The runs are on different data sets: their figures do not compare."
    else:
        by_seed: dict[int, set[str]] = {}
        for _, run in _runs(groups):
            if run.seed is not None and run.summary.get("partition"):
                by_seed.setdefault(run.seed, set()).add(str(run.summary["partition"]))
        split = [seed for seed, hashes in by_seed.items() if len(hashes) > 1]
        if split:
            yield f"Methods did not have the same partition of the data (seeds {seeds_text(split)})."
    differ = [key for key in _MACHINE if len({str(run.environment.get(key)) for _, run in _runs(groups)}) > 1]
    if differ:
        yield f"Times do not compare: the runs differ in {list_text(differ)}."


def told(groups: Iterable[Group]) -> Iterator[str]:
    """What the runs themselves noted, of their data for example."""
    for _, run in _runs(groups):
        for record in (run.summary, run.environment):
            words: Any = record.get("notes") or []
            yield from map(str, cast(list[Any], words) if isinstance(words, list) else [words])
