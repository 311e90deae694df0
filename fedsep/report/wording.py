"""Numbers as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence

NONE = "–"
"""Stands where there is no figure."""


def bytes_text(value: float | None) -> str:
    """Bytes in decimal units with three digits: 2,000 B, 7.84 MB; below 10,000 every byte."""
    if value is None or not math.isfinite(value):
        return NONE
    if abs(value) < 10_000:
        return f"{value:,.0f} B" if value == round(value) else f"{value:,.1f} B"
    for unit, size in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if abs(value) < 999.5 * size:
            return f"{_three(value / size)} {unit}"
    return f"{_three(value / 1e12)} TB"


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def seconds_text(value: float | None) -> str:
    """Seconds as 0.42 s, 58.3 s, 3 min 20 s, 2 h 05 min."""
    if value is None or not math.isfinite(value):
        return NONE
    if value < 99.5:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def value_text(value: float | None) -> str:
    """A metric with four decimals, or four digits where it is large or tiny."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return str(value)
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 10 else f"{value:.4g}"


def count_text(value: float | None) -> str:
    """A count, which a mean over seeds may make fractional."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


def with_spread(mean: str, std: str) -> str:
    """20.1 ± 0.2 s: a spread to the mean's decimals, and the unit once if both have the same."""
    if not std:
        return mean
    value, _, unit = mean.partition(" ")
    around, _, its_unit = std.partition(" ")
    if " " in unit or " " in its_unit or unit != its_unit:
        return f"{mean} ± {std}"
    if "e" not in around:
        around = f"{float(around.replace(',', '')):,.{len(value.partition('.')[2])}f}"
    return f"{value} ± {around} {unit}".strip()


def list_text(items: Sequence[object]) -> str:
    """a; a and b; a, b and c."""
    words = [str(item) for item in items]
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


def seeds_text(seeds: Sequence[int]) -> str:
    """Seeds in order, runs of four and more as a range: 0, 1, 2 or 0-9."""
    ordered = sorted(set(seeds))
    if len(ordered) > 3 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"{ordered[0]}–{ordered[-1]}"
    return ", ".join(map(str, ordered)) or "unknown"


def plural(count: int, noun: str, several: str = "") -> str:
    """1 client, 2 clients; ``several`` where an s does not do."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {several or noun + 's'}"
