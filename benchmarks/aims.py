"""What was asked of speed beside what the records say: one row for each aim and record."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.markdown import table

ROUNDS, SPEED = Path("records/rounds.json"), Path("records/speed.json")
EPYC = Path("records/speed_epyc.json")  # made before local steps had oneDNN's layout
BFLOAT16, AMX = Path("records/speed_bfloat16.json"), Path("records/speed_amx.json")
PLAIN, HOPED, BATCHED, START = 1.0, 1.3, 0.8, 3.0
"""Of the plain loop's rounds a second on W1 and W2, at least and hoped for; of the batched loop's on W3; seconds."""


class Aim(NamedTuple):
    """What was asked for and found; None: not measured."""

    what: str
    asked: str
    record: Path
    found: float | None
    met: bool

    def row(self) -> list[object]:
        """A line of the table."""
        if self.found is None:
            return [self.what, self.asked, f"`{self.record}`", "not measured yet", ""]
        return [self.what, self.asked, f"`{self.record}`", f"{self.found:.3f}", "met" if self.met else "**missed**"]


def convolutions() -> Iterator[Aim]:
    """W1 and W2 by the workers engine, with as many processes as the plain loop."""
    asked = f"at least {PLAIN}, hoped for {HOPED}"
    rounds = read(ROUNDS)
    for workload in ("W1", "W2"):
        rows = [r for r in rounds.get("rounds", []) if (r["workload"], r["method"]) == (workload, "fedavg")]
        rows = [r for r in rows if r.get("processes", rounds["processes"]) == rounds["processes"]]
        found = [row["plain_seconds"]["median"] / row["seconds"]["median"] for row in rows]
        yield at_least(f"{workload}: `workers`", asked, ROUNDS, found, PLAIN)
        yield at_least(f"{workload}: `workers`", asked, SPEED, ratios(workload, "workers"), PLAIN)
        usual = ratios(workload, "workers", "usual")
        yield at_least(f"{workload}: `workers`, the loop in the usual order", asked, SPEED, usual, PLAIN)
        for words, record in (("in bfloat16", BFLOAT16), ("in bfloat16, with AMX", AMX)):
            found = ratios(workload, "workers", of=record, part="bfloat16")
            yield at_least(f"{workload}: `workers` {words}", asked, record, found, PLAIN)


def stacked() -> Iterator[Aim]:
    """W3 by the vectorised engine, with as many threads as the loop has."""
    for words, record in _both().items():
        for threads in ("1 thread", "2 threads"):
            part = "engines" if record is EPYC else "w3"
            found = ratios("W3", f"vectorised, {threads}", of=record, part=part)
            what = f"W3: `vectorised`, {threads} on both sides{words}"
            yield at_least(what, f"at least {BATCHED}", record, found, BATCHED)


def starts() -> Iterator[Aim]:
    """From the command to round 1."""
    for words, record in _both().items():
        found = [row["seconds"] for row in read(record).get("start", [])]
        middle = statistics.median(found) if found else None
        yield Aim(f"W1: start{words}, s", f"at most {START}", record, middle, middle is not None and middle <= START)


def _both() -> dict[str, Path]:
    """Records of two processors, with what is said of them."""
    return {"": SPEED, ", on an EPYC": EPYC}


def ratios(
    workload: str, engine: str, loop: str = "plain", of: Path | None = None, part: str = "engines"
) -> list[float]:
    """An engine's rounds a second as parts of a plain loop's, in the same run."""
    rows = [row for row in read(of or SPEED).get(part, []) if row["workload"] == workload and loop in row]
    return [row["rounds_per_second"] / row[loop] for row in rows if row["engine"].startswith(engine)]


def at_least(what: str, asked: str, record: Path, found: list[float], bound: float) -> Aim:
    """Whether the best is enough, as it stands in the table."""
    best = max(found, default=None)
    return Aim(what, asked, record, best, best is not None and round(best, 3) >= bound)


def read(record: Path) -> dict[str, Any]:
    """A record; empty if there is none."""
    return json.loads(record.read_text()) if record.is_file() else {}


def page_table() -> str:
    """All aims."""
    head = ["what", "asked", "record", "found", ""]
    return table(head, [aim.row() for aims in (convolutions, stacked, starts) for aim in aims()])
