"""Sums a run's ledger: messages, payload, header and serialised bytes, by direction and by part.

The ledger is read line by line: it may hold millions of messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

from fedsep.report.reading import Record, finite, read_lines

WAYS = ("down", "up")
"""Directions, as the ledger names them."""


@dataclass
class Traffic:
    """Totals of one direction.

    Attributes:
        messages: Messages sent.
        payload: Their payload bytes.
        header: Their header bytes.
        serialised: Bytes as an engine put them on a wire.
        serialised_messages: How many messages were.
        rejected: Replies that came in good order but were not accepted: their round did not count.
        parts: Payload bytes by top-level name of the payload.
    """

    messages: int = 0
    payload: float = 0
    header: float = 0
    serialised: float = 0
    serialised_messages: int = 0
    rejected: int = 0
    parts: dict[str, float] = field(default_factory=dict[str, float])


@dataclass
class Failed:
    """How many times clients did not deliver for one reason, with the first round and client that the ledger names."""

    times: int
    round: object
    client: object


@dataclass
class Ledger:
    """Totals of one or more runs; ``failures`` by stage and reason."""

    ways: dict[str, Traffic] = field(default_factory=lambda: {way: Traffic() for way in WAYS})
    failures: dict[tuple[str, str], Failed] = field(default_factory=dict[tuple[str, str], Failed])

    @property
    def messages(self) -> int:
        """Messages in both directions."""
        return sum(traffic.messages for traffic in self.ways.values())


def read_ledger(folders: Iterable[Path]) -> Ledger:
    """Sums ``ledger.jsonl`` of the runs in ``folders``; a run without one adds nothing.

    Raises:
        FedSepError: A line is not a JSON object.
    """
    ledger = Ledger()
    for folder in folders:
        for _, row in read_lines(folder / "ledger.jsonl"):
            _count(ledger, row)
    return ledger


def failed_replies(folder: Path) -> str:
    """How many replies of a run failed, of how many, and the first of them; empty if none did."""
    replies = failures = 0
    for _, row in read_lines(folder / "metrics.jsonl"):
        replies += int(finite(row.get("replies")) or 0)
        failures += int(finite(row.get("failures")) or 0)
    if not failures:
        return ""
    rows = (row for _, row in read_lines(folder / "ledger.jsonl") if isinstance(row.get("failure"), dict))
    first = [first_text(row.get("client"), row.get("round"), *_what(row)) for row in islice(rows, 1)]
    return "; the first: ".join([f"{failures:,} of {replies + failures:,} replies failed", *first])


def first_text(client: object, round: object, stage: str, reason: str) -> str:
    """A failure in words."""
    return f"client {client}, round {round}, stage {stage}: {reason}"


def _count(ledger: Ledger, row: Record) -> None:
    if isinstance(row.get("failure"), dict):
        _fail(ledger, row)
    traffic = ledger.ways.get(str(row.get("direction")))
    payload, header = finite(row.get("payload")) or 0, finite(row.get("header")) or 0
    if traffic is None or not payload + header:  # the client failed before anything was sent
        return
    traffic.messages += 1
    traffic.payload += payload
    traffic.header += header
    serialised = finite(row.get("serialised"))
    if serialised is not None:
        traffic.serialised += serialised
        traffic.serialised_messages += 1
    traffic.rejected += row.get("accepted") is False and "failure" not in row
    parts: Any = row.get("parts")
    for name, size in cast(Record, parts if isinstance(parts, dict) else {}).items():
        traffic.parts[name] = traffic.parts.get(name, 0) + (finite(size) or 0)


def _fail(ledger: Ledger, row: Record) -> None:
    known = ledger.failures.setdefault(_what(row), Failed(0, row.get("round"), row.get("client")))
    known.times += 1


def _what(row: Record) -> tuple[str, str]:
    """Stage and reason of a line's failure."""
    failure = cast(Record, row["failure"])
    return str(failure.get("stage", "?")), str(failure.get("reason", "?"))
