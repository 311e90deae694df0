"""The report: one HTML file that needs nothing but itself."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from fedsep.core import HEADER_BYTES, FedSepError
from fedsep.report.cells import cells
from fedsep.report.comparing import compare_groups
from fedsep.report.describe import lead, method_call, title
from fedsep.report.figures import Figure, make_figures, readable
from fedsep.report.finding import Paths, find_runs
from fedsep.report.grouping import Group, group_runs
from fedsep.report.ledger import Ledger, read_ledger
from fedsep.report.legend import legend, named, swatch
from fedsep.report.markup import Content, Html, code, fold, listing, paragraph, section, tag
from fedsep.report.notes import notes
from fedsep.report.partitions import Picture, make_pictures
from fedsep.report.reading import RunData, read_run
from fedsep.report.style import CSS
from fedsep.report.submodels import make_submodel_figures
from fedsep.report.tables import (
    environment_table,
    failure_table,
    ledger_table,
    merit_table,
    runs_table,
    traffic_table,
)

OWN_LEGENDS = 8
"""Methods up to which each figure carries its own legend; beyond, one stands above them all."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(paths: Paths, to: str | Path) -> Path:
    """Writes the report of runs as one self-contained HTML file.

    The same folders give the same bytes.

    Args:
        paths: Run folders, or results folders that hold ``<method>/seed<k>``.
        to: The file to write (``.html``), or a folder, in which it is ``report.html``.

    Returns:
        The file that was written.

    Raises:
        FedSepError: No run is found, a run's file is corrupt, or the report cannot be written.
    """
    target = Path(to) if Path(to).suffix.lower() in (".html", ".htm") else Path(to) / "report.html"
    return write_text(target, make_page(group_runs(read_run(folder) for folder in find_runs(paths))))


def write_text(target: Path, text: str) -> Path:
    """Writes a page or a picture, whole or not at all.

    Raises:
        FedSepError: It cannot be written.
    """
    unready = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unready.write_text(text, encoding="utf-8")
        unready.replace(target)
    except OSError as error:
        with suppress(OSError):
            unready.unlink()
        raise FedSepError(f"{target}: cannot be written ({error.strerror or error})") from error
    return target


def make_page(groups: Sequence[Group]) -> str:
    """The report's HTML."""
    ledgers = {group.label: read_ledger(run.folder for run in group.runs) for group in groups}
    sections: list[tuple[str, str, Content]] = [
        ("results", "Results", _results(groups)),
        ("curves", "Curves", _curves(make_figures(groups), groups)),
        *_submodels(groups),
        ("communication", "Communication", _communication(groups, ledgers)),
        ("partition", "Partition of the data", _partitions(make_pictures(groups))),
        ("repeat", "How to repeat it", _repeat(groups)),
        ("recipes", "Recipes and environment", _recipes(groups)),
    ]
    body = [
        tag(
            "header",
            [tag("h1", title(groups)), paragraph(lead(groups)), _notes(notes(groups, ledgers)), _nav(sections)],
        ),
        tag("main", [section(*part) for part in sections]),
        tag("footer", paragraph("Written by ", code("fedsep report"), ". One file, no scripts, nothing is loaded.")),
    ]
    return document(title(groups), tag("body", body))


def document(name: str, body: Html) -> str:
    """A self-contained page with the style of the report."""
    head = [
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Html('<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'),
        tag("title", name),
        tag("style", Html(CSS)),
    ]
    html = tag("html", [tag("head", head), body], lang="en")
    return f"<!doctype html>\n{html.text}\n"


def _nav(sections: Sequence[tuple[str, str, Content]]) -> Html:
    return tag("nav", [tag("a", name, href=f"#{anchor}") for anchor, name, _ in sections], aria_label="Contents")


def _notes(told: Sequence[str]) -> Content:
    if not told:
        return ""
    return tag("aside", [tag("h2", "Notes"), tag("ul", [tag("li", note) for note in told])], class_="note")


def _results(groups: Sequence[Group]) -> list[Content]:
    rows = compare_groups(groups)
    texts = cells(rows)
    metrics = dict.fromkeys(readable(row["metric"]) for row in rows if row["metric"])
    what = f"Test {' or '.join(metrics)} of the server's model." if metrics else "Nothing has been evaluated yet."
    last = max(row["mean_last_of"] for row in rows)
    caption = f"Mean ± sample standard deviation over seeds. Mean of last: the last {last} evaluations of a run."
    if "at best validation" in texts[0]:
        caption += " At best validation: the test value of the round that is best on held-out training data."
    return [merit_table(texts, what, caption), _settings(groups)]


def _settings(groups: Sequence[Group]) -> Html:
    calls = [tag("li", [swatch(at), code(method_call(group.runs[0]))]) for at, group in enumerate(groups)]
    told = tag("ul", calls, class_="calls")
    return fold("Settings of the methods", told) if len(groups) > OWN_LEGENDS else told


def _curves(figures: Sequence[Figure], groups: Sequence[Group]) -> list[Content]:
    if not figures:
        return [paragraph("No round is over yet: there is nothing to draw.")]
    shared = len(groups) > OWN_LEGENDS
    above: Content = legend([(style, group.label) for style, group in enumerate(groups)]) if shared else ""
    return [above, tag("div", [_figure(figure, not shared) for figure in figures], class_="charts")]


def _submodels(groups: Sequence[Group]) -> list[tuple[str, str, Content]]:
    """A section only where clients held parts of the model."""
    figures = make_submodel_figures(groups)
    charts = tag("div", [_figure(figure, own_legend=True) for figure in figures], class_="charts")
    return [("submodels", "Sub-models", charts)] if figures else []


def _figure(figure: Figure, own_legend: bool) -> Html:
    key = legend(figure.methods) if own_legend and figure.methods else ""
    return tag("figure", [tag("h3", figure.title), key, Html(figure.svg), tag("figcaption", figure.caption)])


def _communication(groups: Sequence[Group], ledgers: dict[str, Ledger]) -> list[Content]:
    texts = cells(compare_groups(groups))
    told = (
        "Up, down: mean payload bytes per client and round. Totals: over all clients and rounds of a run. "
        "To a level of the metric: rounds, and payload up + down, at the first evaluation that reaches it."
    )
    parts: list[Content] = [
        paragraph(
            "Payload bytes are those of the tensors that were sent, measured. Each message has a constant header of "
            f"{HEADER_BYTES} bytes besides, counted apart. 1 kB is 1,000 bytes."
        ),
        traffic_table(texts, "What a method sends.", told),
    ]
    if any(ledger.messages for ledger in ledgers.values()):
        parts.append(ledger_table(ledgers, "The ledger.", "Messages of all of a method's runs together."))
    else:
        parts.append(paragraph("The runs have no ledger yet."))
    return [*parts, failure_table(ledgers) or ""]


def _partitions(pictures: Sequence[Picture]) -> list[Content]:
    return [tag("div", [_picture(picture) for picture in pictures], class_="charts")]


def _picture(picture: Picture) -> Html:
    drawn = Html(picture.svg) if picture.svg else ""
    return tag("figure", [tag("h3", picture.title), drawn, tag("figcaption", picture.caption)])


def _repeat(groups: Sequence[Group]) -> list[Content]:
    runs = [run for group in groups for run in group.runs]
    commands = list(dict.fromkeys(_command(run) for run in runs if run.environment.get("command")))
    parts: list[Content] = []
    if commands:
        parts += [paragraph("What was typed:"), listing("\n".join(commands))]
    again = [_again(run.folder) for run in runs if run.recipe]
    if again:
        parts += [
            paragraph("Each run again, from the recipe in its folder (every default filled in, one method, one seed):"),
            listing("\n".join(again)),
        ]
    return [*parts, runs_table(groups)]


def _command(run: RunData) -> str:
    """What was typed, but for where the program lies."""
    told: Any = run.environment["command"]
    try:
        first, *rest = map(str, cast(list[Any], told)) if isinstance(told, list) else shlex.split(str(told))
    except ValueError:
        return str(told)
    if Path(first).name in ("fedsep", "__main__.py"):
        return shlex.join(["fedsep", *rest])
    return shlex.join(["python", first, *rest] if first.endswith(".py") else [first, *rest])


def _again(folder: Path) -> str:
    return shlex.join(["fedsep", "run", (folder / "recipe.yaml").as_posix(), "--out", "runs/again"])


def _recipes(groups: Sequence[Group]) -> list[Content]:
    parts: list[Content] = []
    for style, group in enumerate(groups):
        run = group.runs[0]
        seed = "" if run.seed is None else f", seed {run.seed}"
        others = "; its other runs differ in the seed only" if len(group.runs) > 1 else ""
        if run.recipe_text:
            parts.append(fold([named(style, group.label), f"{seed}{others}"], listing(run.recipe_text)))
    if not parts:
        parts.append(paragraph("The runs were started from Python, without a recipe."))
    return [*parts, environment_table([run for group in groups for run in group.runs]) or ""]
