"""Fills docs/results/theory.md and its picture from records/theory.json; no figure is typed by hand.

Usage: fedsep theory theory/full --out runs/theory/full
       python -m benchmarks.theory_page [runs/theory/full/theory.json]

With a path, that record is first copied into records/, without what it says of the machine's folders.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import table
from fedsep.theory.page import HEAD, number, rows

RECORD, PAGE, PICTURE = Path("records/theory.json"), Path("docs/results/theory.md"), Path("docs/images/theory.svg")
KEPT = ("fedsep", "python", "torch", "machine", "started")
PANELS = (
    ("neumann_factor", 0), ("encode_bias", 0), ("encode_bias", 1), ("encode_variance", 0), ("decode_contraction", 0),
    ("drift", 0), ("corollary_rate", 0), ("corollary_floor", 0), ("corollary_floor", 1), ("corollary_floor", 4),
    ("theorem_bound", 0), ("condition_number", 0),
)  # fmt: skip
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B58900", "#56B4E9", "#777777", "#6D4FC2")


def keep(path: Path) -> None:
    """Copies a record, one line a check."""
    record = json.loads(path.read_text(encoding="utf-8"))
    record["environment"] = {name: record["environment"][name] for name in KEPT}
    text = json.dumps(record, ensure_ascii=False, indent=1)
    flat = re.sub(r"\{[^{}]*\}|\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text)
    RECORD.write_text(flat + "\n", encoding="utf-8")


def checks(record: dict[str, Any], experiment: str, pattern: str) -> list[list[str]]:
    """Checks whose name matches, a row each: what, then predicted and measured for every seed."""
    seeds = record["experiments"][experiment]["seeds"]
    made: dict[str, list[str]] = {}
    for seed in seeds.values():
        for check in seed["checks"]:
            if re.search(pattern, check["what"]):
                told = number(check["measured"])
                if check["predicted"] is not None:
                    told += f" ({number(check['predicted'])})"
                made.setdefault(_without_figures(check["what"]), []).append(told)
    return [[what, *values] for what, values in made.items()]


def _without_figures(what: str) -> str:
    """The name of a check, which some seeds' figures are part of."""
    return re.sub(r", L̄ = .*|, where a cold start has .*", "", what)


def block(record: dict[str, Any], wanted: Sequence[tuple[str, str]]) -> str:
    """A table of chosen checks."""
    lines = [line for experiment, pattern in wanted for line in checks(record, experiment, pattern)]
    return table(["measured (predicted or bound)", "seed 0", "seed 1", "seed 2"], lines)


def verdicts(record: dict[str, Any]) -> str:
    """The verdicts, and what they were made on."""
    made = record["environment"]
    told = f"{made['machine']['cpu']}, one thread, torch {made['torch']}, {made['started']}."
    lines = [[f"`{row[0]}`", record["experiments"][row[0]]["statement"], *row[1:]] for row in rows(record)]
    return table([HEAD[0], "checks", *HEAD[1:]], lines) + f"\n\n{told}"


BLOCKS = {
    "verdicts": verdicts,
    "bias": lambda record: block(record, [("encode_bias", "extra bias")]),
    "noise": lambda record: block(record, [("encode_variance", "b_x|one encode")]),
    "theorem": lambda record: block(
        record, [("theorem_bound", "^left side, |^(first|second|left side against).*base")]
    ),
    "terms": lambda record: block(record, [("theorem_bound", "the bound's term")]),
    "apart": lambda record: block(record, [("theorem_terms", "")]),
    "rate": lambda record: block(record, [("corollary_rate", "")]),
    "floor": lambda record: block(record, [("corollary_floor", "")]),
    "clients": lambda record: block(record, [("client_gradients", "")]),
    "condition": lambda record: block(record, [("condition_number", ""), ("hypergradient", "")]),
}


def picture(record: dict[str, Any]) -> None:
    """Twelve of the experiments' pictures, seed 0: marks are measured, lines predicted."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "fedsep", "font.size": 8})
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(4, 3, figsize=(11, 12), layout="constrained")
    for panel, (experiment, place) in zip(panels.flat, PANELS, strict=True):
        one = record["experiments"][experiment]["seeds"]["0"]["pictures"][place]
        for at, line in enumerate(one["lines"]):
            style = {"marker": "osv^DPX*"[at % 8], "ls": "", "ms": 4} if line["measured"] else {"lw": 1.1}
            colour = COLOURS[at % len(COLOURS)]
            panel.plot(*zip(*line["points"], strict=True), color=colour, label=line["label"], **style)
        panel.set(title=one["title"], xlabel=one["x_label"], xscale="log" if one["log_x"] else "linear")
        if all(y > 0 for line in one["lines"] for _, y in line["points"]):
            panel.set_yscale("log")
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
        panel.legend(frameon=False, fontsize=6)
    figure.savefig(PICTURE, metadata={"Date": None})


def main() -> None:
    """Copies a record if one is named, then fills every block of the page and draws the picture."""
    if len(sys.argv) > 1:
        keep(Path(sys.argv[1]))
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    picture(record)
    text = PAGE.read_text(encoding="utf-8")
    for name, make in BLOCKS.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        head, _, rest = text.partition(begin)
        text = f"{head}{begin}\n\n{make(record)}\n\n{end}{rest.partition(end)[2]}"
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
