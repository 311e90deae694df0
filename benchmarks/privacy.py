"""Accuracy at equal epsilon: tables of docs/results/privacy.md.

Usage: python -m benchmarks.records tune_private_fedavg_4 ... private_none, then python -m benchmarks.tables
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import table

RECORDS = Path("records")
HEAD = ("method", "epsilon", "noise", "clip", "test accuracy", "validation accuracy", "bytes up / down", "seconds")


def private_table(record: str) -> str:
    """A row a method: accuracy over seeds, bytes and seconds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((RECORDS / record).rglob("summary.json")):
        summary = json.loads(path.read_text())
        groups.setdefault(summary["method"], []).append(summary)
    if not groups:
        return "Not measured yet."
    return table(HEAD, [_line(method, seeds) for method, seeds in groups.items()])


def chosen_table(noise: int) -> str:
    """The setting of each method that was best on validation data, with its test accuracy; and FedAvg without noise."""
    lines: list[list[object]] = []
    for folder in sorted(RECORDS.glob(f"tune_private_*_{noise}")):
        found = [json.loads(path.read_text()) for path in sorted(folder.rglob("summary.json"))]
        if found:
            best = max(found, key=lambda each: each["metrics"]["validation_accuracy"]["last"])
            lines.append(_line(_method(folder), [best]))
    without = sorted((RECORDS / "private_none").rglob("summary.json"))
    lines += [_line("fedavg, not private", [json.loads(path.read_text())]) for path in without]
    return table(HEAD, lines) if lines else "Not measured yet."


def _line(method: str, seeds: Sequence[dict[str, Any]]) -> list[object]:
    first = seeds[0]
    told = first.get("privacy")
    return [
        f"`{method}`",
        f"{told['epsilon']:.2f}" if told else "none",
        f"{told['noise']:g}" if told else "0",
        f"{told['clip']:g}" if told else "",
        *(_spread([each["metrics"][name]["last"] for each in seeds]) for name in ("accuracy", "validation_accuracy")),
        f"{first['bytes']['up']:,.0f} / {first['bytes']['down']:,.0f}",
        f"{statistics.mean(each['seconds'] for each in seeds):.0f}",
    ]


def tuned_table(noise: int) -> str:
    """Validation accuracy of every setting at one level of noise, the best of each method in bold."""
    lines: list[list[object]] = []
    for folder in sorted(RECORDS.glob(f"tune_private_*_{noise}")):
        found = {path: json.loads(path.read_text()) for path in sorted(folder.rglob("summary.json"))}
        scores = {path: summary["metrics"]["validation_accuracy"]["last"] for path, summary in found.items()}
        for path, score in scores.items():
            setting = path.relative_to(folder).parts[0]
            setting = ", ".join(part.partition(".")[2].removeprefix("method.") for part in setting.split(","))
            text = f"**{score:.4f}**" if score == max(scores.values()) else f"{score:.4f}"
            lines.append([f"`{_method(folder)}`", setting, text])
    if not lines:
        return "Not measured yet."
    return table(["method", "setting", "validation accuracy"], lines)


def _method(folder: Path) -> str:
    return folder.name.removeprefix("tune_private_").rpartition("_")[0]


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"
