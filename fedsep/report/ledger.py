"""Sums a run's ledger: messages, payload, header and serialised bytes, by direction and by part.

The ledger is read line by line: it may hold millions of messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
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
    failure = cast(Record, row["failure"])
    what = (str(failure.get("stage", "?")), str(failure.get("reason", "?")))
    known = ledger.failures.setdefault(what, Failed(0, row.get("round"), row.get("client")))
    known.times += 1
