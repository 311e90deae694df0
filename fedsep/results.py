"""What is left of a run that is over: its summary, its table, its model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsep import pack
from fedsep.core import Params
from fedsep.files import write_file, write_json
from fedsep.folder import RunFolder
from fedsep.plan import Plan
from fedsep.saving import Point
from fedsep.summary import summarise

Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run that is over.

    Attributes:
        folder: Where it was written; None if nowhere.
        summary: What ``summary.json`` holds.
        metrics: One row a round, as in ``metrics.jsonl``.
        params: The server's model.
    """

    folder: Path | None
    summary: dict[str, Any]
    metrics: list[Row]
    params: Params


def count(params: Params) -> int:
    """Number of parameters; tied ones count once."""
    return sum({id(part): part.numel() for part in params.values()}.values())


def summary(plan: Plan, point: Point, rows: Sequence[Row], parameters: int, folder: Path | None) -> dict[str, Any]:
    """``summary.json`` but for ``status`` and ``reason``.

    Args:
        plan: What was run.
        point: How far it came.
        rows: Its metrics.
        parameters: How many the model has.
        folder: Where it is written.
    """
    totals = point.totals
    return {
        "run": None if folder is None else str(folder),
        "method": plan.name,
        "seed": plan.seed,
        "rounds": point.round,
        "metrics": summarise(rows, plan.evaluate.last, getattr(plan.task, "higher_is_better", {})),
        "bytes": {
            "up": _per(totals.up, totals.messages_up),
            "down": _per(totals.down, totals.messages_down),
        },
        "total_bytes": {"up": totals.up, "down": totals.down, "header": totals.header},
        "seconds": point.seconds,
        "parameters": parameters,
        "clients": plan.fleet.clients,
        "partition": getattr(getattr(plan.fleet, "partition", None), "hash", None),
        "data": getattr(plan.fleet, "name", None),
        "failures": totals.failures,
        "notes": [note] if (note := getattr(plan.fleet, "note", "")) else [],
    }


def write_results(folder: RunFolder, summary: dict[str, Any], rows: Sequence[Row], params: Params | None) -> None:
    """Writes ``metrics.csv``, ``model.safetensors`` (if there are ``params``) and, last, ``summary.json``.

    Raises:
        CannotWrite: The disk is full.
    """
    folder.write_table(rows)
    if params is not None:
        write_file(folder.path / "model.safetensors", pack.dump_named(params), sync=True)
    write_json(folder.path / "summary.json", summary, sync=True)


def _per(total: int, messages: int) -> float:
    """Mean payload of a message: a whole number where all were of one size."""
    return total // messages if messages and total % messages == 0 else total / max(messages, 1)
