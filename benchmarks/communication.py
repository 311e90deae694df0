"""Tables and pictures of docs/results/communication.md, from records/."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import table
from fedsep.report import find_runs, read_run
from fedsep.report.frontier import TARGETS as DEFAULT_TARGETS
from fedsep.report.frontier import Frontier, Setting, frontier
from fedsep.report.frontier_page import picture
from fedsep.report.reading import RunData
from fedsep.report.wording import bytes_text

RECORDS, IMAGES = Path("records"), Path("docs/images")
SPLITS = {
    "iid": (
        "mnist_quantised",
        "mnist_quantised_tiny",
        "mnist_few_bytes",
        "mnist_budgets",
        "mnist_float",
        "mnist_rivals",
        "mnist_rivals_at_01",
        "mnist_rivals_more",
        "mnist_fetchsgd",
    ),
    "k2": (
        "mnist_quantised_k2",
        "mnist_few_bytes_k2",
        "mnist_budgets_k2",
        "mnist_rivals_k2",
        "mnist_rivals_k2_at_01",
        "mnist_rivals_more_k2",
        "mnist_scaffold_k2",
        "mnist_fetchsgd_k2",
    ),
    "cifar10": ("paper/fig3/runs",),
}
TARGETS = {"cifar10": (0.3, 0.4, 0.5)}
"""Where they are not those of ``fedsep frontier``."""
LONGER = {
    "iid": ("mnist_sketch_400", "mnist_rivals_400"),
    "k2": ("mnist_sketch_400_k2", "mnist_rivals_400_k2", "mnist_rivals_400_k2_at_01", "mnist_rivals_more_400_k2"),
}
"""Runs of 400 rounds, whose first 200 stand beside the others."""
HORIZON = 200
SEEDS = 3
"""That a setting of ours must have to be held up against the others."""
CASES = {"iid, 20 bytes": ("iid", 0, 30), "iid, 40 bytes": ("iid", 30, 60), "2 classes, 72": ("k2", 60, 100),
         "2 classes, 132": ("k2", 100, 200)}  # fmt: skip
"""Columns of the trials: split, and bytes of a round from and to."""
AIMED = (
    ("iid", 265, 0.98, 0.983), ("iid", 140, 0.976, 0.98), ("iid", 75, 0.97, 0.976), ("iid", 42, 0.958, 0.966),
    ("iid", 40, 0.97, 0.97), ("iid", 26, 0.935, 0.946), ("iid", 20, 0.95, 0.95), ("k2", 265, 0.963, 0.97),
    ("k2", 140, 0.946, 0.955),
)  # fmt: skip
"""Split, bytes a round, and the accuracies that were asked and hoped for; of 40 and 20 bytes the latter alone."""
TOLD = {"iid": "i.i.d.", "k2": "2 classes per client"}
TRIED = (100, 101, 102)
"""Seeds of the trials."""


def found(split: str) -> Frontier:
    """The frontier of a split's records, as far as they are there."""
    longer = [_until(run) for run in _done([RECORDS / name for name in LONGER.get(split, ())])]
    runs = [*_done([RECORDS / name for name in SPLITS[split]]), *longer]
    return frontier(runs, TARGETS.get(split, DEFAULT_TARGETS))


def _done(folders: Sequence[Path]) -> list[RunData]:
    there = [folder for folder in folders if folder.is_dir()]
    return [run for run in map(read_run, find_runs(there) if there else []) if run.status == "done"]


def _until(run: RunData) -> RunData:
    """A run as it stood after the first 200 rounds, which depend on nothing that comes later."""
    rows = tuple(row for row in run.rows if row["round"] <= HORIZON)
    return dataclasses.replace(run, rows=rows, recipe={**run.recipe, "rounds": HORIZON})


def longer(split: str) -> str:
    """What 400 rounds bring to those that had not arrived everywhere by 200."""
    runs = _done([RECORDS / name for name in LONGER[split]])
    return _settings_table(frontier(runs)) if runs else "Not run yet."


def frontier_table(split: str) -> str:
    """Every setting in order of bytes: what it reached, and with how many bytes in all."""
    folders = [RECORDS / name for name in SPLITS[split]]
    return _settings_table(found(split)) if any(folder.is_dir() for folder in folders) else "Not run yet."


def _settings_table(every: Frontier) -> str:
    lines = [_line(setting) for setting in sorted(every.settings, key=lambda one: one.round_payload)]
    told = [f"kB to {target:g}" for target in every.targets]
    return table(["setting", "method", "seeds", "bytes a round", "with headers", "best test accuracy", *told], lines)


def _line(setting: Setting) -> list[str]:
    name = setting.label.split(" · ")
    cells = []
    for reach in setting.reaches:
        if reach.payload["n"] == 0:
            cells.append("–")
            continue
        some = "" if reach.by_all else f" ({reach.payload['n']} of {reach.of})"
        cells.append(f"{(reach.payload['mean'] or 0) / 1000:,.1f} ({(reach.whole['mean'] or 0) / 1000:,.1f}){some}")
    sent = setting.round_payload
    return [
        "; ".join(name), f"`{setting.family}`", str(len(setting.seeds)), f"{sent:,.0f}",
        f"{sent + setting.round_header:,.0f}", f"{setting.best:.4f}", *cells,
    ]  # fmt: skip


def leaders(split: str) -> str:
    """Who needs the fewest bytes to a target, among our settings and among the others."""
    every = found(split)
    lines: list[list[str]] = []
    for at, target in enumerate(every.targets):
        able = [one for one in every.settings if one.reaches[at].by_all]
        ours_best = _fewest([one for one in able if one.family.startswith("fedsep") and len(one.seeds) >= SEEDS], at)
        rest = {family: _fewest([one for one in able if one.family == family], at) for family in every.families}
        others = {family: one for family, one in rest.items() if one and not family.startswith("fedsep")}
        if ours_best is None:
            continue
        needed = ours_best.reaches[at].payload["mean"] or 0.0
        for family, one in sorted(others.items(), key=lambda item: item[1].reaches[at].payload["mean"] or 0.0):
            sent = one.reaches[at].payload["mean"] or 0.0
            told = [
                f"{each.label}: {bytes_text(of)} ({len(each.seeds)})" for each, of in ((ours_best, needed), (one, sent))
            ]
            lines.append([f"{target:g}", told[0], f"`{family}`", told[1], f"{sent / needed:.1f}"])
    return table(["target", "ours (seeds)", "method", "its best setting (seeds)", "its bytes / ours"], lines)


def _fewest(settings: Sequence[Setting], at: int) -> Setting | None:
    return min(settings, key=lambda one: one.reaches[at].payload["mean"] or 0.0, default=None)


def trials_table() -> str:
    """What was tried for fewer bytes: validation accuracy at the end with each of the seeds."""
    rows: dict[str, dict[str, dict[int, str]]] = {}
    for file in sorted(RECORDS.glob("ideas_*.json")):
        for run in json.loads(file.read_text())["runs"]:
            case = next(name for name, (s, a, b) in CASES.items() if run["split"] == s and a <= run["bytes"] < b)
            cells = rows.setdefault(_told(run["name"]), {}).setdefault(case, {})
            cells[run["seed"]] = f"{run['accuracy'][-1]:.4f}"
    lines = [[name, *(_by_seed(seen.get(case, {})) for case in CASES)] for name, seen in rows.items()]
    return table(["what is changed", *CASES], lines)


def aims_table() -> str:
    """What was asked of the sketch within 200 rounds, and its best setting of three seeds at so few bytes."""
    lines: list[list[str]] = []
    for split, most, asked, hoped in AIMED:
        able = [one for one in _last(split) if one[0] <= most]
        accuracy, name, sent = max((last, name, sent) for sent, name, last in able)
        verdict = "reached" if accuracy >= hoped else "asked for reached, hoped for missed"
        told = [TOLD[split], f"{most:,}", f"{asked:.3f}", f"{hoped:.3f}", f"{accuracy:.4f}", f"{name}, {sent:,.0f}"]
        lines.append([*told, verdict if accuracy >= asked else "**missed**"])
    return table(["split", "bytes a round", "asked", "hoped for", "found", "by, bytes", ""], lines)


def _last(split: str) -> list[tuple[float, str, float]]:
    """Bytes a round, name, and the mean over three seeds after the last round, of the sketch's settings."""
    told: list[tuple[float, str, float]] = []
    for folder in sorted(each for name in SPLITS[split] for each in RECORDS.glob(f"{name}/*/")):
        runs = _done([folder])
        if len(runs) == SEEDS and all(run.recipe["method"]["use"].endswith("fedsep_quantised") for run in runs):
            [setting] = frontier(runs).settings
            last = statistics.mean(run.rows[-1]["test_accuracy"] for run in runs)
            told.append((setting.round_payload, folder.name, last))
    return told


def _by_seed(cells: dict[int, str]) -> str:
    """In the order of the seeds; a dash for one that was left out before the last that was played."""
    return " / ".join(cells.get(seed, "–") for seed in TRIED if seed <= max(cells, default=0))


def _told(name: str) -> str:
    """Two cases of one split have one name where only the bytes differ."""
    return name.removeprefix("72 bytes, ") if name != "72 bytes" else "as it is"


def lasso_table() -> str:
    """Why LASSO learns slowly."""
    record: dict[str, Any] = json.loads((RECORDS / "lasso_redrawn.json").read_text())
    quarter = record["rounds"] // 4
    lines = [
        [
            row["name"],
            f"{row['relative_error']:.2f}",
            f"{row['support']:,}",
            *(f"{value:.4f}" for value in row.get("validation_accuracy", [])),
            *(["failed: " + row["failed"][:60]] if "failed" in row else []),
        ]
        for row in record["rows"]
    ]
    head = ["decode", "left out of θ₀", "support at the start", *(f"at {quarter * n}" for n in (1, 2, 3, 4))]
    return table(head, lines)


def draw() -> None:
    """The frontier of every split that has been run."""
    for split, names in SPLITS.items():
        if any((RECORDS / name).is_dir() for name in names):
            (IMAGES / f"frontier_{split}.svg").write_text(picture(found(split)), encoding="utf-8")
