"""A figure as a page, as pictures, and as a table of text; what was tuned stands beside every picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedsep.core import HEADER_BYTES
from fedsep.paper.cells import Chosen
from fedsep.paper.lines import Line, Tries
from fedsep.paper.panels import Key, key, paper_panels, rate_key, rate_panels, training_panels
from fedsep.paper.results import Result, csv_text
from fedsep.paper.scales import WORDS, Scale
from fedsep.report.cells import over
from fedsep.report.describe import method_call, setting
from fedsep.report.frontier import frontier
from fedsep.report.frontier_page import READING
from fedsep.report.frontier_picture import ALL
from fedsep.report.frontier_picture import panels as frontier_panels
from fedsep.report.legend import legend, named
from fedsep.report.markup import Content, Html, code, fold, paragraph, section, table, tag
from fedsep.report.notes import told
from fedsep.report.page import document, write_text
from fedsep.report.sheet import Panel, sheet
from fedsep.report.wording import bytes_text, plural, value_text

_DEFINED = (
    "Test {metric} after the last round, mean and standard deviation over seeds. Communication rate: payload bytes up "
    f"+ down of a client and round over 2 · 4 d, all as measured, indices included; rate up and rate down: each "
    f"direction over 4 d. The constant header of {HEADER_BYTES} bytes a message is in none of them."
)

_DENSE = (
    "Top-K's download is the union of what the clients sent; dotted, the rate that it has if, as is often counted, the "
    "whole model is sent down."
)

_TRAINING = "The course of training; bytes are payload of one client since the start, as measured."


@dataclass(frozen=True)
class Drawn:
    """A figure with all that is said about it.

    Attributes:
        name: ``fig2`` or ``fig3``.
        title: In words.
        scale: What was run.
        results: What came out.
        chosen: What tuning chose.
        failed: Runs that failed: they are not in the figure.
    """

    name: str
    title: str
    scale: Scale
    results: Sequence[Result]
    chosen: Chosen
    failed: Sequence[str] = ()


def write_figure(found: Drawn, out: Path) -> list[Path]:
    """Writes the page, its table as comma-separated values, and its pictures; the files."""
    asked, training = paper_panels(found.results, "a"), training_panels(found.results, _closest(found), "b")
    apart = rate_panels(found.results, "c")
    pictures = {
        found.name: sheet(found.title, [*asked, *apart], rate_key(found.results), caption(found)),
        f"{found.name}_training": sheet(found.title, training, key(found.results), caption(found, _TRAINING)),
    }
    rows = [{"method": each.line.label, "split": each.split, "p": each.p, **each.figures} for each in found.results]
    files = [write_text(out / f"{found.name}.html", _page(found, asked, apart, training)),
             write_text(out / f"{found.name}.csv", csv_text(rows))]  # fmt: skip
    return files + [write_text(out / f"{name}.svg", svg) for name, svg in pictures.items()]


def cells(found: Drawn) -> list[dict[str, str]]:
    """The table behind the panels: a row for each line, split and p."""
    return [
        {
            "method": result.line.label,
            "split": WORDS[result.split],
            "p": "–" if result.p is None else f"{result.p:,}",
            "seeds": str(len(result.runs)),
            "accuracy": over(result.accuracy, len(result.runs), value_text),
            "bytes a round": bytes_text(float(round(result.round_bytes))),
            "header": bytes_text(float(round(result.header_bytes))),
            "rate": f"{result.rate:.3g}",
        }
        for result in found.results
    ]


def _shares(result: Result) -> dict[str, str]:
    """What the page's table has beside ``cells``: a terminal has no room for it."""
    of = {"up": result.rate_up, "down": result.rate_down, "dense down": result.rate_dense_down, "p/d": result.p_over_d}
    return {name: "–" if value is None else f"{value:.3g}" for name, value in of.items()}


def caption(found: Drawn, about: str = "") -> str:
    """What must be known of a picture: its scale, what was tuned, what its data are."""
    groups = [result.group for result in found.results]
    defined = about or " ".join([_DEFINED.format(metric=groups[0].metric or "accuracy"), *_dense(found)])
    data = [f"Data: {note}." for note in _data_notes(found)]
    return " ".join([defined, f"Setting: {setting(groups)}. Scale {found.scale.told}.", tuned(found), *data])


def tuned(found: Drawn) -> str:
    """What was tuned, among what, on what; everything else stands in the recipe."""
    lines = list(dict.fromkeys(result.line for result in found.results))
    notes = "".join(f" {line.label}: {line.note}." for line in lines if line.note)
    if not found.chosen:
        return "Nothing was tuned." + (f" Settled before:{notes}" if notes else "")
    choices = [f"{line.label}: {_choices(found, line)}" for line in lines if isinstance(line.tries, Tries)]
    return (
        f"Tuned on validation data, on each split by itself, at p = {found.scale.tune_at:,} with "
        f"{found.scale.tune_rounds} rounds of seed {found.scale.tune_seed}, and carried over to every p: "
        + "; ".join(choices) + ". Dashed lines of a colour take the solid line's choice." + notes
    )  # fmt: skip


def _dense(found: Drawn) -> list[str]:
    return [_DENSE] if any(result.line.dense for result in found.results) else []


def _choices(found: Drawn, line: Line) -> str:
    assert isinstance(line.tries, Tries)
    values = {split: choice.value for (split, name), choice in found.chosen.items() if name == line.name}
    among = ", ".join(f"{value:g}" for value in line.tries.values[: found.scale.tries])
    if len(set(values.values())) == 1:
        return f"{line.tries.argument} {next(iter(values.values())):g} of {among}"
    picked = ", ".join(f"{value:g} ({WORDS[split]})" for split, value in values.items())
    return f"{line.tries.argument} {picked} of {among}"


def _page(found: Drawn, asked: Sequence[Panel], apart: Sequence[Panel], training: Sequence[Panel]) -> str:
    sections: list[tuple[str, str, Content]] = [
        ("paper", "The paper's panels", _figures(found, asked, caption(found), rate_key(found.results))),
        ("apart", "Up and down apart", _figures(found, apart, caption(found))),
        (
            "training",
            "Against rounds and real bytes",
            _figures(found, training, caption(found, _TRAINING)),
        ),
        ("frontier", "All p together", _frontiers(found)),
        ("table", "Table", _table(found)),
        ("settings", "Settings", _settings(found)),
    ]
    known = [*found.failed, *_data_notes(found)]
    warned = tag("aside", [tag("h2", "Notes"), tag("ul", [tag("li", note) for note in known])], class_="note")
    head = [tag("h1", found.title), paragraph(f"Scale {found.scale.told}."), warned if known else ""]
    body = [
        tag("header", head),
        tag("main", [section(*part) for part in sections if part[2]]),
        tag("footer", paragraph("Written by ", code(f"fedsep paper {found.name}"), ". One file, nothing is loaded.")),
    ]
    return document(found.title, tag("body", body))


def _figures(found: Drawn, panels: Sequence[Panel], reading: str, shown: Key | None = None) -> Content:
    return [legend(shown or key(found.results)), _charts(panels), _beside(reading)] if panels else ""


def _charts(panels: Sequence[Panel]) -> Html:
    """Two in a row where there is room, since they belong together in pairs."""
    drawn = [tag("figure", [tag("h3", panel.title), Html(panel.svg)]) for panel in panels]
    return tag("div", drawn, class_="charts", style="max-width:60rem")


def _beside(reading: str) -> Html:
    return tag("p", reading, class_="caption", style="margin:.6rem 0 0")


def _frontiers(found: Drawn) -> Content:
    """The byte frontier of each split, over all p."""
    parts: list[Content] = []
    for at, split in enumerate(dict.fromkeys(result.split for result in found.results)):
        own = [result for result in found.results if result.split == split]
        line = frontier((run for result in own for run in result.runs), by_name=True)
        styles = [result.line.style for result in {result.line.name: result for result in own}.values()]
        panels = frontier_panels(line, f"f{at}", styles)
        parts.append(_charts([Panel(f"{WORDS[split]}: {one.title}", one.svg) for one in panels]))
    return [legend(key(found.results)), *parts, _beside(caption(found, f"{READING} {ALL[0].upper()}{ALL[1:]}."))]


def _table(found: Drawn) -> Html:
    rows = [{**row, **_shares(result)} for row, result in zip(cells(found), found.results, strict=True)]
    names = list(rows[0])
    body: list[list[Content]] = [
        [named(result.line.style, row["method"]), *(row[name] for name in names[1:])]
        for result, row in zip(found.results, rows, strict=True)
    ]
    return table(
        names,
        body,
        "The figures behind the panels.",
        "Bytes: payload of a client in a round, up + down; rates as defined above.",
    )


def _settings(found: Drawn) -> Content:
    calls = [
        tag("li", [named(result.line.style, f"{result.line.label}, {_where(result)}"), code(method_call(run))])
        for result in found.results
        for run in result.runs[:1]
    ]
    return [paragraph(tuned(found)), fold("What each run was called with", tag("ul", calls, class_="calls"))]


def _where(result: Result) -> str:
    return WORDS[result.split] + ("" if result.p is None else f", p = {result.p:,}")


def _data_notes(found: Drawn) -> list[str]:
    """What the runs note of their data."""
    return list(dict.fromkeys(told(result.group for result in found.results)))


def _closest(found: Drawn) -> int:
    """The p with the most seeds, of these the one nearest to where settings were chosen."""
    seeds: Mapping[int, int] = {
        p: sum(len(result.runs) for result in found.results if result.p == p)
        for p in {result.p for result in found.results if result.p is not None}
    }
    most = max(len(result.runs) for result in found.results if result.p is not None)
    able = [p for p in seeds if any(result.p == p and len(result.runs) == most for result in found.results)]
    return min(able, key=lambda p: abs(p - found.scale.tune_at))


def failures(folders: Sequence[tuple[str, str]]) -> list[str]:
    """What the figure says of runs that failed: (folder, reason) each."""
    each = [f"{folder} failed: {reason}" for folder, reason in folders]
    return [f"Not drawn, since they failed: {plural(len(each), 'run')}.", *each] if each else []
