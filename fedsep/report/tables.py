"""The page's tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from fedsep.report.cells import MERIT, TRAFFIC
from fedsep.report.comparing import run_seconds
from fedsep.report.grouping import Group
from fedsep.report.ledger import Ledger, Traffic
from fedsep.report.legend import named
from fedsep.report.markup import Content, Html, code, table, tag
from fedsep.report.reading import RunData
from fedsep.report.wording import NONE, bytes_text, seconds_text

FAILURES = 20
"""Kinds of failure that a page lists at most."""


def merit_table(texts: Sequence[Mapping[str, str]], title: str, caption: str) -> Html:
    """How good each method is."""
    return _comparison(texts, [name for name in (*MERIT, "metric") if name in texts[0]], title, caption)


def traffic_table(texts: Sequence[Mapping[str, str]], title: str, caption: str) -> Html:
    """What each method sends, and what it needs to reach the levels."""
    levels = [name for name in texts[0] if name.startswith("to ")]
    return _comparison(texts, ["method", *(name for name in TRAFFIC if name in texts[0]), *levels], title, caption)


def _comparison(texts: Sequence[Mapping[str, str]], names: Sequence[str], title: str, caption: str) -> Html:
    rows: list[list[Content]] = [
        [named(style, text["method"]), *(text[name] for name in names if name != "method")]
        for style, text in enumerate(texts)
    ]
    return table(names, rows, title, caption)


def ledger_table(ledgers: Mapping[str, Ledger], title: str, caption: str) -> Html:
    """Messages and bytes by method and direction, payloads by part."""
    told = [
        (style, label, way, traffic)
        for style, (label, ledger) in enumerate(ledgers.items())
        for way, traffic in ledger.ways.items()
        if traffic.messages
    ]
    # Most engines put nothing on a wire.
    some = any(traffic.serialised_messages for *_, traffic in told)
    rows = [_traffic(*each, some) for each in told]
    serialised = ["serialised"] if some else []
    head = ["method", "way", "messages", "payload", "a message", "header", *serialised, "payload by part"]
    return table(head, rows, title, caption)


def _traffic(style: int, label: str, way: str, traffic: Traffic, some: bool) -> list[Content]:
    mean = bytes_text(traffic.payload / traffic.messages)
    serialised: list[Content] = [bytes_text(traffic.serialised) if traffic.serialised_messages else NONE]
    return [
        named(style, label),
        way,
        f"{traffic.messages:,}",
        bytes_text(traffic.payload),
        mean,
        bytes_text(traffic.header),
        *(serialised if some else []),
        [_part(name, size, traffic.payload) for name, size in sorted(traffic.parts.items(), key=lambda one: -one[1])],
    ]


def _part(name: str, size: float, total: float) -> Html:
    share = 100 * size / total if total else 0.0
    bar = Html(f'<span class="bar"><span style="width:{share:.1f}%"></span></span>')
    return tag("span", [bar, f"{name} {share:.0f} %"], class_="part")


def failure_table(ledgers: Mapping[str, Ledger]) -> Html | None:
    """Why clients did not deliver, most frequent first; None if all did."""
    kinds = [
        (named(style, label), *what, failed)
        for style, (label, ledger) in enumerate(ledgers.items())
        for what, failed in ledger.failures.items()
    ]
    if not kinds:
        return None
    kinds.sort(key=lambda kind: -kind[3].times)
    body: list[list[Content]] = [
        [method, stage, reason, f"{failed.times:,}", f"round {failed.round}, client {failed.client}"]
        for method, stage, reason, failed in kinds[:FAILURES]
    ]
    caption = f"The {FAILURES} most frequent of {len(kinds)} kinds." if len(kinds) > FAILURES else ""
    return table(
        ["method", "stage", "reason", "times", "first"], body, "Clients that did not deliver.", caption, "words"
    )


def environment_table(runs: Sequence[RunData]) -> Html | None:
    """What the runs ran on; where runs differ, all values."""
    values: dict[str, dict[str, None]] = {}
    for run in runs:
        for key, value in run.environment.items():
            if key not in ("command", "notes", "seed"):
                values.setdefault(key, {})[plain(value)] = None
    if not values:
        return None
    return table(
        ["", "value"],
        [[key, _all(key, list(told))] for key, told in values.items()],
        "Environment.",
        "Where runs differ, all values.",
        "facts",
    )


def _all(key: str, values: Sequence[str]) -> str:
    """Every value; of times the first and the last."""
    return f"{min(values)} to {max(values)}" if key == "started" and len(values) > 1 else "; ".join(values)


def plain(value: Any) -> str:
    """A value of a JSON file as text."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(inner)}" for key, inner in cast(dict[str, Any], value).items())
    if isinstance(value, list):
        return ", ".join(plain(item) for item in cast(list[Any], value))
    return NONE if value is None else str(value)


def runs_table(groups: Iterable[Group]) -> Html:
    """Where each run lies, and how it ended."""
    rows: list[list[Content]] = [
        [
            named(style, group.label),
            NONE if run.seed is None else str(run.seed),
            run.status,
            f"{run.rounds:,}",
            seconds_text(run_seconds(run)),
            code(run.folder.as_posix()),
        ]
        for style, group in enumerate(groups)
        for run in group.runs
    ]
    return table(["method", "seed", "status", "rounds", "time", "folder"], rows, "Runs.")
