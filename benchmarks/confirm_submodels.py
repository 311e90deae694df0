"""Confirms a row of Table 1 against its rivals on seeds 0 to 4, in every MNIST setting at the small scale.

Ours was chosen on seeds 100 to 102; here every row has the learning rate that Table 1 chose for it in the setting. Runs
of the table are used where it has the seed; only the others are made. Written down: served accuracy of every seed, test
data, mean of the last ten evaluations, and by how much ours is ahead of each rival on the same seed: the mean, and the
interval that has the true mean in it with probability .95 if differences are normal (Student's t, n - 1 degrees).

Usage: python -m benchmarks.confirm_submodels [--ours ROW] [--jobs N] [SETTING ...]
       (first: python -m benchmarks.heterogeneity SETTING ...; a setting's rows of another winner are replaced)
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.heterogeneity import LABELS, OURS, RIVALS, RUNS, percent
from benchmarks.markdown import table
from fedsep.cli.carry_out import How
from fedsep.cli.cells import Folder, carry_out_cells, folders
from fedsep.cli.entry import DONE
from fedsep.cli.options import Reading, Talk
from fedsep.cli.plan import Job, standing
from fedsep.cli.screen import Screen
from fedsep.cli.table1 import RECIPE
from fedsep.core import FedSepError
from fedsep.environment import environment
from fedsep.paper.cells import named
from fedsep.paper.table1.grid import cells, chosen, tuning
from fedsep.paper.table1.results import MODELS
from fedsep.paper.table1.rows import ROWS, Row
from fedsep.paper.table1.scales import SCALES
from fedsep.paper.table1.settings import Scale
from fedsep.recipes import Sources
from fedsep.report import read_run
from fedsep.report.spread import figures

SCALE = SCALES["small"]
SEEDS = (0, 1, 2, 3, 4)
MORE, RECORD = Path("runs/paper/table1_confirmed"), Path("records/submodels_confirmed.json")
SETTINGS = {setting.name: setting for setting in SCALE.settings if setting.data == "mnist"}
SHOWN = ("served", "averaged, served")
"""Of ``MODELS``."""


@dataclass(frozen=True)
class Found:
    """The runs of a setting: recipe by recipe, where each lies."""

    setting: str
    rates: Mapping[str, float]
    folders: tuple[Folder, ...]


def find(scale: Scale, ours: str, table_runs: Path, more: Path) -> list[Found]:
    """Every setting's runs: where the table has them, else where they are to be made.

    Args:
        scale: With the settings and seeds that are confirmed.
        ours: Name of a row.
        table_runs: Where the table's runs lie.
        more: For what it has not.

    Raises:
        FedSepError: There is no such row, or a setting's learning rates are not chosen yet.
    """
    blocks, rows = named(Reading(RECIPE, (), ()).read().resolved()["methods"]), _rows(ours)
    rates = chosen([(part, _sweep(table_runs / cell.folder)) for part, cell, _ in tuning(scale, blocks, rows)])
    pairs = cells(scale, blocks, rates, rows)
    made = folders(RECIPE, (), [cell for _, cell in pairs], more)
    there = folders(RECIPE, (), [cell for _, cell in pairs], table_runs)
    own = [(part.setting.name, _joined(*both)) for (part, _), *both in zip(pairs, there, made, strict=True)]
    return [Found(setting.name, {row: rate for (name, row), rate in rates.items() if name == setting.name},
                  tuple(one for name, one in own if name == setting.name)) for setting in scale.settings]  # fmt: skip


def _rows(ours: str) -> list[Row]:
    by_name = {row.name: row for row in ROWS}
    if ours not in by_name:
        raise FedSepError(f"--ours: there are {', '.join(by_name)} (got {ours!r})")
    return [by_name[name] for name in dict.fromkeys((ours, *RIVALS))]


def _sweep(folder: Path) -> dict[str, Any]:
    file = folder / "sweep.json"
    if not file.is_file():
        raise FedSepError(f"{file} is missing: learning rates are chosen by python -m benchmarks.heterogeneity")
    return json.loads(file.read_text())


def _joined(there: Folder, made: Folder) -> Folder:
    """Runs of the table where it has them."""
    pairs = zip(there.jobs, made.jobs, strict=True)
    return replace(made, jobs=tuple(old if _done(old, there) else new for old, new in pairs))


def _done(job: Job, one: Folder) -> bool:
    return standing(job, one.recipe, bare=True)[0] == "done"


def carry_out(found: Iterable[Found], more: Path, how: How, screen: Screen) -> int:
    """Runs or resumes what the table has not; the exit code."""
    lacking = [replace(one, jobs=tuple(job for job in one.jobs if job.folder.is_relative_to(more)))
               for each in found for one in each.folders]  # fmt: skip
    return carry_out_cells(screen, [one for one in lacking if one.jobs], how)


def record(found: Found, ours: str) -> dict[str, Any]:
    """A setting's accuracies by row and seed, and paired differences by rival."""
    runs: dict[str, dict[int, Path]] = {}
    for job in (job for one in found.folders for job in one.jobs):
        runs.setdefault(job.method, {})[job.seed] = job.folder
    each = {row: {model: [_mean_of_last(own[seed], model) for seed in sorted(own)] for model in SHOWN}
            for row, own in runs.items()}  # fmt: skip
    ahead = {row: {model: interval([a - b for a, b in zip(each[ours][model], each[row][model], strict=True)])
                   for model in SHOWN} for row in each if row != ours}  # fmt: skip
    return {"ours": ours, "seeds": sorted(runs[ours]), "rates": dict(found.rates), "each": each, "ahead": ahead}


def _mean_of_last(folder: Path, model: str) -> float:
    run = read_run(folder)
    if run.status != "done" or run.summary.get("failures"):
        raise FedSepError(f"{folder}: the run is {run.status}, and {run.summary.get('failures')} of its replies failed")
    value = figures(run, MODELS[model])["mean_last"]
    if value is None:
        raise FedSepError(f"{folder}: the run has no {MODELS[model]}")
    return value


def interval(differences: Sequence[float], level: float = 0.95) -> dict[str, float]:
    """Mean of paired differences, and the ends of Student's interval for it; at least two differences."""
    from scipy import stats

    n, mean = len(differences), statistics.fmean(differences)
    reach = float(stats.t.ppf((1 + level) / 2, n - 1)) * statistics.stdev(differences) / math.sqrt(n)
    return {"mean": mean, "low": mean - reach, "high": mean + reach}


def confirmed_table() -> str:
    """By how much ours is ahead of each rival in each setting, and of how many it is ahead throughout."""
    told = json.loads(RECORD.read_text())["settings"] if RECORD.is_file() else {}
    shown = {name: told[name] for name in SETTINGS if name in told}
    if not shown:
        return "Not run yet."
    lines: list[list[object]] = []
    for name, one in shown.items():
        served = one["each"][one["ours"]]["served"]
        own = percent({"mean": statistics.fmean(served), "std": statistics.stdev(served)})
        cells = [_ahead(one["ahead"].get(rival)) for rival in RIVALS]
        lines.append([SETTINGS[name].words, LABELS[one["ours"]], len(one["seeds"]), own, *cells])
    head = ["setting", "ours", "seeds", "served", *(LABELS[rival] for rival in RIVALS)]
    return f"{table(head, lines)}\n\n{_verdict(shown)}"


def _verdict(shown: Mapping[str, Any]) -> str:
    good = [all(rival["served"]["low"] > 0 for rival in one["ahead"].values()) for one in shown.values()]
    text = f"Ahead of every rival, with the whole interval above 0: in {sum(good)} of {len(good)} settings"
    left = sum(name not in shown for name in SETTINGS)
    return text + (f"; {left} not run yet." if left else ".")


def _ahead(rival: Mapping[str, Any] | None) -> str:
    if rival is None:
        return "–"
    mean, low, high = (100 * rival["served"][name] for name in ("mean", "low", "high"))
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def confirm(settings: Sequence[str], ours: str, how: How, talk: Talk) -> int:
    """Runs what is lacking and writes the record; the exit code."""
    own = tuple(replace(SETTINGS[name], seeds=SEEDS, variants=False) for name in settings)
    found = find(replace(SCALE, settings=own), ours, RUNS, MORE)
    code = carry_out(found, MORE, how, Screen(talk))
    if code == DONE:
        kept = json.loads(RECORD.read_text())["settings"] if RECORD.is_file() else {}
        kept |= {one.setting: record(one, ours) for one in found}
        told = {"environment": environment("workers", SEEDS[0]), "settings": kept}
        RECORD.write_text(json.dumps(told, indent=1) + "\n")
    return code


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", nargs="*", metavar="SETTING", default=list(SETTINGS))
    parser.add_argument("--ours", default=OURS)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if unknown := set(options.settings) - set(SETTINGS):
        parser.error(f"there are {', '.join(SETTINGS)} (got {', '.join(sorted(unknown))})")
    try:
        raise SystemExit(confirm(options.settings, options.ours, How(Sources(), jobs=options.jobs), Talk()))
    except FedSepError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
