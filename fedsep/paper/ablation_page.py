"""The ablations as a page, as a picture, and as a table of text: one panel an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedsep.paper.ablation import AXES, METHOD, Axis, folder
from fedsep.paper.lines import Line
from fedsep.paper.panels import draw_curves
from fedsep.paper.results import Result, csv_text
from fedsep.paper.scales import Scale
from fedsep.report.cells import over
from fedsep.report.comparing import run_seconds
from fedsep.report.curve import curve, rounds
from fedsep.report.describe import method_call, setting
from fedsep.report.grouping import Group
from fedsep.report.legend import legend
from fedsep.report.markup import Content, Html, code, paragraph, section, table, tag
from fedsep.report.notes import told
from fedsep.report.page import document, write_text
from fedsep.report.reading import RunData
from fedsep.report.sheet import Panel, sheet
from fedsep.report.spread import figures, spread
from fedsep.report.wording import bytes_text, seconds_text, value_text

_READING = (
    "One argument is varied at a time, the others are the recipe's; nothing was tuned for a value. Each has three "
    "values, but a sketch is shared or private: there is no third. Test accuracy of "
    "the server's model against rounds; for the sketch, mean accuracy of the models that the clients decode, since "
    "with private sketches the server's model is nobody's."
)

_FIGURES = ("seeds", "server", "mean of last", "client", "bytes", "time")


@dataclass(frozen=True)
class Ablated:
    """Finished runs by the folder of their variant."""

    scale: Scale
    runs: Mapping[str, Sequence[RunData]]


def write_ablation(found: Ablated, failed: Sequence[str], out: Path) -> list[Path]:
    """Writes ``ablation.html``, ``ablation.csv`` and ``ablation.svg``; the files."""
    title = f"Ablations of {METHOD}"
    panels = _panels(found)
    picture = sheet(title, [panel for _, panel in panels], _key(), _caption(found))
    return [
        write_text(out / "ablation.html", _page(found, panels, failed, title)),
        write_text(out / "ablation.csv", csv_text(ablation_cells(found))),
        write_text(out / "ablation.svg", picture),
    ]


def ablation_cells(found: Ablated) -> list[dict[str, str]]:
    """A row for each value of each axis."""
    rows: list[dict[str, str]] = []
    for axis in AXES:
        for variant in axis.variants:
            runs = found.runs[folder(axis, variant)]
            own = "" if variant.arguments else " (recipe)"
            rows.append({"varied": axis.label, "value": f"{variant.label}{own}", **_figures(runs)})
    return rows


def _figures(runs: Sequence[RunData]) -> dict[str, str]:
    if not runs:
        return dict.fromkeys(_FIGURES, "failed")
    result = Result(Line(METHOD, METHOD, 0), "iid", None, tuple(runs))
    client = spread(run.rows[-1].get("client_accuracy_before") for run in runs)
    late = spread(figures(run, run.metric or "")["mean_last"] for run in runs)
    found = (
        str(len(runs)),
        over(result.accuracy, len(runs), value_text),
        over(late, len(runs), value_text),
        over(client, len(runs), value_text),
        bytes_text(float(round(result.round_bytes))),
        seconds_text(spread(run_seconds(run) for run in runs)["mean"]),
    )
    return dict(zip(_FIGURES, found, strict=True))


def _panels(found: Ablated) -> list[tuple[Axis, Panel]]:
    made: list[tuple[Axis, Panel]] = []
    for at, axis in enumerate(AXES):
        name = "client_accuracy_before" if axis.clients else "test_accuracy"
        runs = [(style, variant, found.runs[folder(axis, variant)]) for style, variant in enumerate(axis.variants)]
        groups = [(style, Group(variant.label, tuple(own), {})) for style, variant, own in runs if own]
        curves = [one for style, group in groups if (one := curve(group, style, name, rounds)) is not None]
        values = ", ".join(variant.label for variant in axis.variants)
        title = f"{axis.label}: {values}"
        made.append((axis, Panel(title, draw_curves(curves, f"a{at}-", title, "rounds", ""))))
    return [(axis, panel) for axis, panel in made if panel.svg]


def _key() -> list[tuple[int, str]]:
    return [(0, "first value"), (1, "second value"), (2, "third value")]


def _caption(found: Ablated) -> str:
    groups = [Group(METHOD, tuple(runs), {}) for runs in found.runs.values() if runs]
    data = [f"Data: {note}." for note in dict.fromkeys(told(groups))]
    return " ".join([_READING, f"Setting: {setting(groups)}. Scale {found.scale.told}.", *data])


def _page(found: Ablated, panels: Sequence[tuple[Axis, Panel]], failed: Sequence[str], title: str) -> str:
    figures = [
        tag(
            "figure",
            [
                tag("h3", axis.label),
                legend([(style, variant.label) for style, variant in enumerate(axis.variants)]),
                Html(panel.svg),
            ],
        )
        for axis, panel in panels
    ]
    rows = ablation_cells(found)
    names = list(rows[0])
    body: list[list[Content]] = [[row[name] for name in names] for row in rows]
    base = next((run for runs in found.runs.values() for run in runs), None)
    warned = tag("aside", [tag("h2", "Notes"), tag("ul", [tag("li", note) for note in failed])], class_="note")
    main = [
        section("axes", "What each argument does", tag("div", figures, class_="charts"), _beside(_caption(found))),
        section(
            "table", "Table", table(names, body, "After the last round.", "Mean and standard deviation over seeds.")
        ),
        section("recipe", "The recipe", paragraph(code(method_call(base)) if base else "")),
    ]
    head = [tag("h1", title), paragraph(f"Scale {found.scale.told}."), warned if failed else ""]
    foot = tag("footer", paragraph("Written by ", code("fedsep paper ablation"), ". One file, nothing is loaded."))
    return document(title, tag("body", [tag("header", head), tag("main", main), foot]))


def _beside(reading: str) -> Html:
    return tag("p", reading, class_="caption", style="margin:.6rem 0 0")
