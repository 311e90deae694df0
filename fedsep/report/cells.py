"""The comparison as text, for a page or a terminal: one dict a method, the same columns in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fedsep.report.comparing import Level, Row
from fedsep.report.spread import Spread
from fedsep.report.wording import NONE, bytes_text, count_text, seconds_text, seeds_text, value_text, with_spread

MERIT = (
    "method", "seeds", "status", "last", "best", "mean of last", "at best validation", "epsilon", "rounds", "time"
)  # fmt: skip
"""Columns on how good a method is and how long it took."""

TRAFFIC = ("up", "down", "total payload", "total header")
"""Columns on bytes: ``up`` and ``down`` are payload per client and round, the totals over all clients and rounds."""

_NEGLIGIBLE = 1e-3
"""Bytes differ between seeds by lost clients only; less than a thousandth is not worth a column's width."""


def cells(rows: Sequence[Row]) -> list[dict[str, str]]:
    """The rows of ``compare`` as text.

    Besides the columns of ``MERIT`` and ``TRAFFIC`` there is ``to <level>`` for each level. A column that would be
    empty throughout is left out; where metrics differ, ``metric`` names each row's.
    """
    levels = dict.fromkeys(f"to {level['level']:g}" for row in rows for level in row["levels"])
    made = [_cells(row, list(levels)) for row in rows]
    empty = {name for name in made[0] if all(cell[name] == NONE for cell in made)} if made else set[str]()
    if len({row["metric"] for row in rows} - {None}) < 2:
        empty.add("metric")
    if all(set(row["status"]) == {"done"} for row in rows):
        empty.add("status")
    return [{name: text for name, text in cell.items() if name not in empty} for cell in made]


def _cells(row: Row, levels: Sequence[str]) -> dict[str, str]:
    of = row["counted"]
    reached = {f"to {level['level']:g}": _reached(level, of) for level in row["levels"]}
    return {
        "method": row["method"],
        "metric": row["metric"] or NONE,
        "seeds": seeds_text(row["seeds"]),
        "last": over(row["last"], of, value_text),
        "best": over(row["best"], of, value_text),
        "mean of last": over(row["mean_last"], of, value_text),
        "at best validation": over(row["selected"], of, value_text),
        "epsilon": over(row["epsilon"], of, value_text),
        "rounds": over(row["rounds"], of, count_text),
        "time": over(row["seconds"], of, seconds_text),
        "status": _status(row),
        "up": over(row["bytes_up"], of, bytes_text, _NEGLIGIBLE),
        "down": over(row["bytes_down"], of, bytes_text, _NEGLIGIBLE),
        "total payload": over(row["payload_bytes"], of, bytes_text, _NEGLIGIBLE),
        "total header": over(row["header_bytes"], of, bytes_text, _NEGLIGIBLE),
        **{name: reached.get(name, NONE) for name in levels},
    }


def over(value: Spread, of: int, tell: Callable[[float | None], str], negligible: float = 0.0) -> str:
    """Mean ± standard deviation, and of how many runs where it is not of all.

    Args:
        value: The figure over seeds.
        of: Runs that count.
        tell: Writes a mean, and a standard deviation.
        negligible: Share of the mean up to which a standard deviation is left out.
    """
    if value["mean"] is None:
        return NONE
    told = value["std"] is not None and value["std"] > negligible * abs(value["mean"])
    part = f" ({value['n']} of {of})" if value["n"] < of else ""
    return with_spread(tell(value["mean"]), tell(value["std"]) if told else "") + part


def _status(row: Row) -> str:
    if len(row["status"]) == 1:
        return next(iter(row["status"]))
    return ", ".join(f"{count} {status}" for status, count in row["status"].items())


def _reached(level: Level, of: int) -> str:
    if not level["reached"]:
        return "not reached"
    rounds, sent = level["rounds"]["mean"], level["bytes"]["mean"]
    told = f"{count_text(rounds)} rounds" + ("" if sent is None else f", {bytes_text(sent)}")
    return told + (f" ({level['reached']} of {of})" if level["reached"] < of else "")
