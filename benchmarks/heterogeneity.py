"""Runs or resumes Table 1 at the small scale, setting by setting, keeps what it gives, and makes the page's tables.

Usage: python -m benchmarks.heterogeneity [--jobs N] [SETTING ...] [--rows ROW ...]
(all without a name; with one, what is there stays)
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import machine, table
from fedsep.cli.entry import DONE
from fedsep.paper.table1.results import CURVES, macs_text, share
from fedsep.paper.table1.rows import OURS, ROWS
from fedsep.paper.table1.scales import SCALES
from fedsep.report.curve import Curve
from fedsep.report.plotting import draw
from fedsep.report.sheet import Panel, sheet
from fedsep.report.wording import bytes_text

SETTINGS = {setting.name: setting for setting in SCALES["small"].settings}
RUNS, RECORD, IMAGES = Path("runs/paper/table1_small"), Path("records/paper/table1"), Path("docs/images")
LABELS = {row.name: row.label for row in ROWS}
WHOLE = {row.name for row in ROWS if row.kind == "bound"}
"""Rows whose clients all hold the whole model, whatever the capability that they are asked at."""
RIVALS = ("heterofl", "fedrolex", "splitmix", "full_size_only", "half_and_more")
"""What the aim names: three systems and the controls that leave weak clients out."""
DRAWN = (OURS, "fedsep_shared", "fedsep_mask", "heterofl", "fedrolex", "federated_dropout", "splitmix", "half_and_more")
"""Rows of the pictures: as many as there are colours."""


def keep(settings: Sequence[str], *, beside: bool = False) -> None:
    """Copies what is worth keeping: of each setting a file of rows, what tuning found, and the environment.

    Args:
        settings: Those that were run; of one that has none of the rows nothing is written.
        beside: Rows that were not run this time stay.
    """
    RECORD.mkdir(parents=True, exist_ok=True)
    rows = json.loads((RUNS / "table1.json").read_text())
    for name in settings:
        own = {row["row"]: row for row in rows if row["setting"] == name}
        if not own:
            continue
        ordered = sorted((kept(name) | own if beside else own).values(), key=_place)
        (RECORD / f"{name}.json").write_text(json.dumps(ordered, indent=1) + "\n")
        for sweep in RUNS.glob(f"tuning/{name}/*/sweep.json"):
            shutil.copy(sweep, RECORD / f"{name}_{sweep.parent.name}_tuning.json")
        shutil.copy(next(RUNS.glob(f"{name}/**/seed0/environment.json")), RECORD / f"{name}_environment.json")


def kept(setting: str) -> dict[str, dict[str, Any]]:
    """A setting's rows by name; none where it has not been run."""
    file = RECORD / f"{setting}.json"
    return {row["row"]: row for row in json.loads(file.read_text())} if file.is_file() else {}


def setting_table(setting: str) -> str:
    """Accuracies and costs of a setting's rows."""
    rows = kept(setting)
    if not rows:
        return "Not run yet."
    of = SETTINGS[setting]
    seen = f"![{_title(setting)}](../images/{_picture(setting)})\n\n" if _drawn(rows) else ""
    ends = [max(of.capabilities), min(of.capabilities)]
    costs = [f"{what} at {share(level)}" for what in ("bytes", "MACs") for level in ends]
    head = ["method", "seeds", "served", "averaged, served", "full width", "served at", "own classes at 1/4"]
    found = [_line(row, ends) for row in sorted(rows.values(), key=_place)]
    told = seen + table([*head, f"rounds to {100 * of.target:g} %", *costs, "published"], found)
    return told + _failed(rows.values()) + _where(setting)


def _failed(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows some of whose replies were not folded; of early records nobody knows."""
    found = [f"{LABELS[row['row']]} {row['failed_replies']:,}" for row in rows if row.get("failed_replies")]
    return f"\n\n**Replies that failed:** {', '.join(found)}." if found else ""


def _where(setting: str) -> str:
    """The machine that a setting was run on."""
    file = RECORD / f"{setting}_environment.json"
    return f"\n\n{machine(json.loads(file.read_text()))}" if file.is_file() else ""


def draw_settings() -> None:
    """Served accuracy by round, a picture for every setting whose records have it."""
    for setting in SETTINGS:
        if _drawn(rows := kept(setting)):
            (IMAGES / _picture(setting)).write_text(_sheet(setting, rows), encoding="utf-8")


def _sheet(setting: str, rows: Mapping[str, Any]) -> str:
    shown, panels = _drawn(rows), list[Panel]()
    for at, model in enumerate(CURVES):
        title = f"{model[0].upper()}{model[1:]}"
        curves = [_curve(rows[name], model, DRAWN.index(name)) for name in shown]
        svg = draw(curves, prefix=f"h{at}-", label=f"{title}: test accuracy by round", x_label="rounds")
        panels.append(Panel(title, svg))
    told = (
        "Test accuracy of the server's model as it is served, and of its average over rounds; over seeds, ± deviation."
    )
    return sheet(_title(setting), panels, [(DRAWN.index(name), LABELS[name]) for name in shown], told)


def _curve(row: Mapping[str, Any], model: str, style: int) -> Curve:
    told = row["curves"][model]
    return Curve(LABELS[row["row"]], style, told["round"], told["mean"], told["std"], len(row["seeds"]), [])


def _drawn(rows: Mapping[str, Any]) -> list[str]:
    return [name for name in DRAWN if name in rows and "curves" in rows[name]]


def _title(setting: str) -> str:
    return f"Served accuracy by round: {SETTINGS[setting].words}"


def _picture(setting: str) -> str:
    return f"heterogeneity_{setting}.svg"


def _place(row: Mapping[str, Any]) -> int:
    return list(LABELS).index(row["row"])


def _line(row: Mapping[str, Any], ends: Sequence[float]) -> list[object]:
    accuracies = [percent(row["accuracy"][model]["mean of last"]) for model in ("served", "averaged, served", "full")]
    reached = [rounds for rounds in row["rounds_to_target"] if rounds is not None]
    part = f" ({len(reached)} of {len(row['seeds'])})" if 0 < len(reached) < len(row["seeds"]) else ""
    return [
        LABELS[row["row"]],
        len(row["seeds"]),
        *accuracies,
        _served_at(row),
        "–" if row["row"] in WHOLE else percent(row["own_classes"]),
        f"{statistics.mean(reached):.0f}{part}" if reached else "not reached",
        *(bytes_text(round(row["bytes"].get(f"{level:g}", 0))) for level in ends),
        *(macs_text(row["macs"].get(f"{level:g}")) for level in ends),
        _published(row),
    ]


def _served_at(row: Mapping[str, Any]) -> str:
    """Widths, and shares of the weights where these are chosen among."""
    dense = sorted({share(one) for one in row.get("served_density", [])})
    return ", ".join([*sorted({share(width) for width in row["served_width"]})]) + (
        f" ({', '.join(dense)} of the weights)" if dense else "") or "–"  # fmt: skip


def percent(value: Mapping[str, float | None]) -> str:
    """Mean and deviation over seeds, in per cent."""
    if value["mean"] is None:
        return "–"
    return f"{100 * value['mean']:.2f}" + (f" ± {100 * value['std']:.2f}" if value["std"] else "")


def _published(row: Mapping[str, Any]) -> str:
    own = row["published"].get(f"cifar10 {SETTINGS[row['setting']].k}")
    return f"{own[0]:.2f} ± {own[1]:.2f}" if own else "–"


def ahead_table() -> str:
    """By how much ours is ahead of what the aim names, seed by seed, in every setting that was run."""
    lines: list[list[object]] = []
    for name, setting in SETTINGS.items():
        rows = kept(name)
        if OURS in rows:
            differences = [_difference(rows[OURS], rows.get(rival)) for rival in RIVALS]
            lines.append([setting.words, percent(rows[OURS]["accuracy"]["served"]["mean of last"]), *differences])
    return table(["setting", LABELS[OURS], *(LABELS[rival] for rival in RIVALS)], lines) if lines else "Not run yet."


def _difference(ours: Mapping[str, Any], rival: Mapping[str, Any] | None) -> str:
    """Mean and range of the difference in served accuracy over seeds that both have, in points."""
    if rival is None:
        return "–"
    theirs = dict(zip(rival["seeds"], rival["each"]["served"], strict=True))
    mine = dict(zip(ours["seeds"], ours["each"]["served"], strict=True))
    found = [100 * (mine[seed] - theirs[seed]) for seed in ours["seeds"] if seed in theirs]
    return f"{statistics.mean(found):+.2f} ({min(found):+.2f} to {max(found):+.2f})"


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", nargs="*", metavar="SETTING", default=list(SETTINGS))
    parser.add_argument("--rows", nargs="+", metavar="ROW", default=[])
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if unknown := set(options.settings) - set(SETTINGS):
        parser.error(f"there are {', '.join(SETTINGS)} (got {', '.join(sorted(unknown))})")
    if options.rows and (tuned := [name for name in options.settings if SETTINGS[name].tries]):
        parser.error(f"rows of a tuned setting are run together, since they share a record (got {', '.join(tuned)})")
    wanted = [argument for name in options.settings for argument in ("--setting", name)]
    wanted += [argument for name in options.rows for argument in ("--row", name)]
    command = [sys.executable, "-m", "fedsep", "paper", "table1", "--scale", "small", "--jobs", str(options.jobs)]
    if subprocess.run([*command, *wanted], check=False).returncode == DONE:
        keep(options.settings, beside=bool(options.rows))


if __name__ == "__main__":
    main()
