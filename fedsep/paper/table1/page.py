"""The table as a page, as Markdown and as JSON: accuracy and costs of every row, setting by setting."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedsep.paper.table1.results import Result, accuracy_cells, cost_cells, record
from fedsep.paper.table1.rows import KINDS, ROWS
from fedsep.paper.table1.settings import Scale, Setting
from fedsep.report.curve import curve, rounds
from fedsep.report.describe import method_call
from fedsep.report.grouping import Group
from fedsep.report.legend import legend
from fedsep.report.markup import Content, Html, code, fold, paragraph, section, table, tag
from fedsep.report.page import document, write_text
from fedsep.report.plotting import draw
from fedsep.report.wording import NONE

READING = (
    "Test accuracy in per cent, mean ± deviation over seeds. Full: the server's model at full width; served: at its "
    "best width of 1, 1/2, 1/4 along the method's own plan, chosen on validation data (ZeroFL: with all of its "
    "weights, or the largest quarter or tenth of every layer, likewise); averaged: the same of an exponential "
    "average of its parameters (0.8 a round). Mean of last: of the last ten evaluations. Own classes at 1/4: each "
    "client's sub-model of a quarter of the units on its own test part, among its own classes, without further local "
    "steps; none of homogeneous rows, whose clients all hold the whole model. Rounds to a target: of served "
    "accuracy. Cohorts, capabilities and data are the same for every row; public images for distillation are held "
    "out of everybody's training data."
)
COSTS = (
    "A client in a round, by its capability: payload up and down as measured over all rounds of all runs, refreshes "
    "included; multiply-adds forward and backward as counted by torch over two rounds of the first client after the "
    "first, which hold one refresh. Weights that a method masks are multiplied here all the same, and count."
)


@dataclass(frozen=True)
class Drawn:
    """What is shown.

    Attributes:
        scale: What was run.
        results: Rows by setting, in the order of the table.
        tuned: Learning rates that were chosen, by setting and row.
        failed: Runs that failed or are not done, and rows whose replies failed.
    """

    scale: Scale
    results: Sequence[Result]
    tuned: Mapping[tuple[str, str], float]
    failed: Sequence[str] = ()

    def of(self, setting: Setting) -> list[Result]:
        """A setting's rows."""
        own = [result for result in self.results if result.setting.name == setting.name]
        return sorted(own, key=lambda result: (list(KINDS).index(result.row.kind), _place(result)))


def write_table(found: Drawn, out: Path) -> list[Path]:
    """Writes ``table1.html``, ``table1.md`` and ``table1.json``; the files."""
    return [
        write_text(out / "table1.html", _page(found)),
        write_text(out / "table1.md", _markdown(found)),
        write_text(out / "table1.json", json.dumps([record(each) for each in found.results], indent=1) + "\n"),
    ]


def tuned(found: Drawn) -> str:
    """What was tuned, among what, on what."""
    names = {setting for setting, _ in found.tuned}
    settings = [setting for setting in found.scale.settings if setting.name in names]
    if not settings:
        return "Nothing was tuned."
    among = " or ".join(dict.fromkeys(_values(setting.tries) for setting in settings))
    untuned = [setting.words for setting in found.scale.settings if not setting.tries and found.of(setting)]
    return (
        f"Learning rates were chosen among {among} on validation accuracy of the served model, for each row and in "
        f"each setting by itself, with {found.scale.tune_rounds} rounds of seed {found.scale.tune_seed}."
        + _further(settings)
        + (f" Nothing was tuned for: {'; '.join(untuned)}." if untuned else "")
    )


def _further(settings: Sequence[Setting]) -> str:
    beyond = dict.fromkeys(setting.beyond for setting in settings if setting.beyond is not None)
    told = [f" Where the lowest of them is the best, {low:g} was tried, too; where the highest, {high:g}."
            for low, high in beyond]  # fmt: skip
    return "".join(told)


def picked(found: Drawn, setting: Setting) -> str:
    """The learning rates of a setting's rows."""
    chosen = {row: rate for (name, row), rate in found.tuned.items() if name == setting.name}
    told = ", ".join(f"{row.label} {chosen[row.name]:g}" for row in ROWS if row.name in chosen)
    return f"Learning rates: {told}." if told else "Learning rates: those of the recipe; nothing was tuned."


def _values(tries: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in tries)


def _place(result: Result) -> int:
    return [row.name for row in ROWS].index(result.row.name)


def _page(found: Drawn) -> str:
    shown = [(at, setting) for at, setting in enumerate(found.scale.settings) if found.of(setting)]
    parts = [section(setting.name, setting.words, *_setting(found, setting, at)) for at, setting in shown]
    nav = tag("nav", [tag("a", setting.words, href=f"#{setting.name}") for _, setting in shown], aria_label="Contents")
    warned = tag("aside", [tag("h2", "Notes"), tag("ul", [tag("li", each) for each in found.failed])], class_="note")
    title = "Table 1: clients of different capabilities"
    told = [paragraph(text) for text in (f"Scale {found.scale.told}.", READING, COSTS, tuned(found))]
    head = [tag("h1", title), *told, warned if found.failed else "", nav]
    foot = tag("footer", paragraph("Written by ", code("fedsep paper table1"), ". One file, nothing is loaded."))
    return document(title, tag("body", [tag("header", head), tag("main", parts), foot]))


def _setting(found: Drawn, setting: Setting, at: int) -> list[Content]:
    results = found.of(setting)
    calls = [tag("li", [f"{result.row.label}: ", code(method_call(result.runs[0]))]) for result in results]
    return [
        _table(results, accuracy_cells, "Accuracy.", f"{setting.words}."),
        _table(results, cost_cells, "What a client pays in a round.", "MACs: multiply-adds."),
        _curves(results, f"s{at}-"),
        paragraph(picked(found, setting)),
        fold("What each run was called with", tag("ul", calls, class_="calls")),
    ]


def _table(results: Sequence[Result], cells: Callable[[Result], dict[str, str]], title: str, caption: str) -> Html:
    rows = [cells(result) for result in results]
    names = _told(rows)
    return table(names, [[row[name] for name in names] for row in rows], title, caption)


def _told(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Columns in which some row has something."""
    return [name for name in rows[0] if any(row[name] != NONE for row in rows)]


def _curves(results: Sequence[Result], prefix: str) -> Content:
    groups = [(at, Group(result.row.label, result.runs, {})) for at, result in enumerate(results)]
    figures: list[Html] = []
    for number, (name, title) in enumerate(
        (("test_served_accuracy", "Served accuracy"), ("test_accuracy", "Accuracy at full width"))
    ):
        curves = [one for at, group in groups if (one := curve(group, at, name, rounds)) is not None]
        if curves:
            svg = draw(curves, prefix=f"{prefix}{number}-", label=f"{title} against rounds", x_label="rounds")
            figures.append(tag("figure", [tag("h3", f"{title} against rounds"), Html(svg)]))
    key = legend([(at, group.label) for at, group in groups])
    return [key, tag("div", figures, class_="charts")] if figures else ""


def _markdown(found: Drawn) -> str:
    lines = [f"Scale {found.scale.told}.", "", READING, "", COSTS, "", tuned(found), ""]
    for setting in found.scale.settings:
        results = found.of(setting)
        if results:
            lines += [f"## {setting.words}", "", *_lines(results, accuracy_cells), "", *_lines(results, cost_cells), ""]
            lines += [picked(found, setting), ""]
    return "\n".join([*lines, *(f"- {each}" for each in found.failed)]).rstrip() + "\n"


def _lines(results: Sequence[Result], cells: Callable[[Result], dict[str, str]]) -> list[str]:
    rows = [cells(result) for result in results]
    names = _told(rows)
    table = [names, ["---"] * len(names), *([row[name] for name in names] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in table]
