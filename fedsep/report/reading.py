"""Reads a run's folder into one value; whatever is missing because the run is not over is simply absent.

A file that is there but cannot be read is the user's to know: the error names file, line or field.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from fedsep.core import FedSepError

Record = dict[str, Any]
"""A JSON object."""

UNFINISHED = "unfinished"
"""Status of a run without a summary: it is running, or was killed."""

_TABLES = ("metrics", "bytes", "total_bytes")


@dataclass(frozen=True)
class RunData:
    """What a run's folder holds, the model and the checkpoint excepted.

    Attributes:
        folder: The run's folder.
        method: Name of the method.
        seed: The run's seed, None if no file tells it.
        status: ``done``, ``failed``, ``interrupted``, or ``unfinished`` where there is no summary.
        reason: Why a run failed, else empty.
        metric: The task's headline metric, e.g. ``accuracy``; None before the first evaluation.
        rows: ``metrics.jsonl``, one row a round, in order of rounds; ``metrics.csv`` where only that was kept.
        summary: ``summary.json``, empty if it is missing.
        environment: ``environment.json``, empty if it is missing.
        recipe: ``recipe.yaml``, empty if it is missing.
        recipe_text: The same as it was written.
    """

    folder: Path
    method: str
    seed: int | None
    status: str
    reason: str
    metric: str | None
    rows: tuple[Record, ...]
    summary: Record = field(default_factory=dict[str, Any])
    environment: Record = field(default_factory=dict[str, Any])
    recipe: Record = field(default_factory=dict[str, Any])
    recipe_text: str = ""

    @property
    def rounds(self) -> int:
        """Rounds that were run."""
        return self.rows[-1]["round"] if self.rows else int(number(self.summary.get("rounds")) or 0)


def read_run(folder: str | Path) -> RunData:
    """Reads a run's folder.

    Args:
        folder: A folder as ``fit`` writes it, finished or not.

    Raises:
        FedSepError: There is no such folder, or one of its files is corrupt.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FedSepError(f"{folder}: no such run folder")
    summary, environment = read_object(folder / "summary.json"), read_object(folder / "environment.json")
    _check_summary(folder / "summary.json", summary)
    recipe, recipe_text = _read_recipe(folder / "recipe.yaml")
    rows = _by_round(folder / "metrics.jsonl") or _from_table(folder / "metrics.csv")
    summary = _without_stale(summary, rows)
    return RunData(
        folder=folder,
        method=str(summary.get("method") or _named_by(folder)),
        seed=_seed(folder, summary, environment, recipe),
        status=str(summary.get("status") or ("done" if summary else UNFINISHED)),
        reason=str(summary.get("reason") or ""),
        metric=_headline(summary, rows),
        rows=rows,
        summary=summary,
        environment=environment,
        recipe=recipe,
        recipe_text=recipe_text,
    )


def number(value: object) -> float | None:
    """``value`` if it is a number (NaN included), else None."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def finite(value: object) -> float | None:
    """``value`` if it is a finite number, else None."""
    plain = number(value)
    return plain if plain is not None and math.isfinite(plain) else None


def read_object(path: Path) -> Record:
    """The JSON object in ``path``, empty if there is no such file.

    Raises:
        FedSepError: The file cannot be read or holds something else.
    """
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FedSepError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise FedSepError(f"{path}: a JSON object is expected (got {type(value).__name__})")
    return cast(Record, value)


def read_lines(path: Path) -> Iterator[tuple[int, Record]]:
    """The JSON objects in ``path`` with their line numbers, nothing if there is no such file.

    A last line without its end is left out: the run is writing it, or was killed while it did.

    Raises:
        FedSepError: A line is not a JSON object.
    """
    if not path.exists():
        return
    try:
        with path.open(encoding="utf-8") as lines:
            yield from _objects(path, lines)
    except (OSError, UnicodeDecodeError) as error:
        raise FedSepError(f"{path}: not readable ({error})") from error


def _objects(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, Record]]:
    for at, line in enumerate(lines, start=1):
        try:
            value: object = json.loads(line) if line.strip() else {}
        except ValueError as error:
            if not line.endswith("\n"):
                return
            raise FedSepError(f"{path}: line {at}: not readable as JSON ({error})") from error
        if not isinstance(value, dict):
            raise FedSepError(f"{path}: line {at}: a JSON object is expected (got {type(value).__name__})")
        if value:
            yield at, cast(Record, value)


def _by_round(path: Path) -> tuple[Record, ...]:
    rows: dict[int, Record] = {}
    for at, row in read_lines(path):
        if not isinstance(row.get("round"), int):
            raise FedSepError(f"{path}: line {at}: round: a whole number is expected (got {row.get('round')!r})")
        rows[row["round"]] = row
    return tuple(rows[at] for at in sorted(rows))


def _from_table(path: Path) -> tuple[Record, ...]:
    """The rows of ``metrics.csv``: a record of a run holds that alone. Cells that are empty are absent."""
    if not path.exists():
        return ()
    with path.open(encoding="utf-8", newline="") as lines:
        table = list(csv.DictReader(lines))
    try:
        rows = [{key: json.loads(_spelled(cell)) for key, cell in row.items() if cell} for row in table]
    except (ValueError, TypeError) as error:
        raise FedSepError(f"{path}: not readable as a table of numbers ({error})") from error
    if not all(isinstance(row.get("round"), int) for row in rows):
        raise FedSepError(f"{path}: round: a whole number is expected in every row")
    return tuple(rows)


def _spelled(cell: str) -> str:
    """A number as JSON spells it."""
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(cell.lower(), cell)


def _read_recipe(path: Path) -> tuple[Record, str]:
    if not path.exists():
        return {}, ""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        value = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise FedSepError(f"{path}: not readable as YAML ({error})") from error
    if not isinstance(value, dict):
        raise FedSepError(f"{path}: a mapping is expected (got {type(value).__name__})")
    return cast(Record, value), text


def _check_summary(path: Path, summary: Record) -> None:
    wrong = [key for key in _TABLES if not isinstance(summary.get(key, {}), dict)]
    if wrong:
        found = ", ".join(f"{key}: an object is expected (got {summary[key]!r})" for key in wrong)
        raise FedSepError(f"{path}: {found}")


def _without_stale(summary: Record, rows: Sequence[Record]) -> Record:
    """What an interrupted run wrote before it was resumed says nothing of the rounds since."""
    if not rows or summary.get("status") == "done" or rows[-1]["round"] <= (number(summary.get("rounds")) or math.inf):
        return summary
    kept = {key: value for key, value in summary.items() if key not in (*_TABLES, "rounds", "seconds", "reason")}
    return kept | {"status": UNFINISHED}


def _named_by(folder: Path) -> str:
    absolute = folder.absolute()
    return absolute.parent.name if _folder_seed(folder) is not None else absolute.name


def _folder_seed(folder: Path) -> int | None:
    digits = folder.absolute().name.removeprefix("seed")
    return int(digits) if folder.absolute().name.startswith("seed") and digits.isdigit() else None


def _seed(folder: Path, *records: Record) -> int | None:
    for record in records:
        if isinstance(record.get("seed"), int):
            return record["seed"]
    return _folder_seed(folder)


def _headline(summary: Record, rows: Iterable[Record]) -> str | None:
    """The first metric that the task gives; the loss only if there is no other."""
    names = [name for name in summary.get("metrics", {}) if not name.startswith(("validation_", "client_"))]
    names += [key.removeprefix("test_") for row in rows for key in row if key.startswith("test_")]
    names += [key for row in rows for key in row if key.startswith("validation_")]
    return next((name for name in names if not name.endswith("loss")), names[0] if names else None)
