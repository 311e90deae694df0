"""Each client's sub-model on its own classes, every method tuned for that: FedSep's masks beside what they must beat.

Table 1 has its rates by accuracy of the served model, and a rate that is good for it can be bad for what one client
holds. Here each method has the table's budget of tuning in each MNIST setting, the best of .1, .3 and .6 and of one
further rate where the best of these is the lowest or the highest, by accuracy of clients' quarter models on their own
validation parts, the best evaluation of 50 rounds with seed 100. What is compared is the same accuracy on test parts,
the mean of the last ten of 100 rounds' evaluations, over seeds 0 to 2. Where Table 1 has the same rate, its runs are
these runs.

Usage: python -m benchmarks.own_classes [--settings k2 k2_weak ...] [--rows ROW ...] [--jobs 2]
       [--out records/own_classes.json]      (what is in the file is not run again)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import heterogeneity
from benchmarks.filling import fill
from benchmarks.ideas_submodels import QUARTER, SEED, SETTINGS, TUNED, Asked, Options, measured, wanted
from benchmarks.reductions_tried import Make, plain

ROUNDS, SEEDS = 100, (0, 1, 2)
ROWS: dict[str, Make] = {
    "fedrolex": plain("fedrolex"),
    "federated_dropout": plain("federated_dropout"),
    "fedsep_mask": plain("fedsep_mask"),
    "mask with a common order": plain("fedsep_mask", common=0.75),
    "mask by Taylor scores with a common order": plain("fedsep_mask", scores="taylor", common=0.75),
    "random masks, kept, with a common order": plain("kept_random", common=0.75),
}
"""By their names in Table 1, where they are rows of it; else in words."""


def run(asked: Asked) -> dict[str, Any]:
    """One run, or that of Table 1 with the same settings."""
    setting, row, seed, rounds, rate = asked
    if rounds > TUNED and (known := in_table(setting, row, seed, rate)) is not None:
        return {**asked._asdict(), "own_classes": known, "from": "Table 1"}
    found = measured(ROWS[row], SETTINGS[setting], seed, rounds, rate, QUARTER, blind=seed == SEED)
    return {**asked._asdict(), **found}


def in_table(setting: str, row: str, seed: int, rate: float) -> float | None:
    """A row's accuracy on own classes in Table 1, if it has this rate and seed there."""
    found = heterogeneity.kept(f"mnist_{setting}").get(row)
    if found is None or seed not in found["seeds"]:
        return None
    tuned = json.loads((heterogeneity.RECORD / f"mnist_{setting}_all_tuning.json").read_text())
    [its] = tuned["chosen"][row]["settings"].values()
    return found["own_classes_each"][found["seeds"].index(seed)] if its == rate else None


def left(runs: Sequence[Mapping[str, Any]], settings: Sequence[str], rows: Sequence[str]) -> list[Asked]:
    """The runs that can be made now."""
    return wanted(runs, Options(tuple(settings), tuple(rows), SEEDS, ROUNDS), "best_own_classes")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", nargs="*", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("records/own_classes.json"))
    asked = parser.parse_args()
    fill(asked.out, run, lambda runs: left(runs, asked.settings, asked.rows), asked.jobs)


if __name__ == "__main__":
    main()
