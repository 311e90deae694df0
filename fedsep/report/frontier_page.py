"""The byte frontier as a page, as a picture of its own, and as tables of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedsep.core import HEADER_BYTES
from fedsep.report.describe import method_call, seeds_of, setting
from fedsep.report.frontier import Frontier, Led, Reach, leading, pareto
from fedsep.report.frontier_picture import ALL, panels
from fedsep.report.legend import legend, named
from fedsep.report.markup import Content, Html, code, fold, paragraph, section, table, tag
from fedsep.report.notes import notes, told
from fedsep.report.page import document, write_text
from fedsep.report.sheet import sheet
from fedsep.report.wording import NONE, bytes_text, count_text, seeds_text, value_text

READING = (
    "Bytes are those of one client since the start, up + down, as measured (all clients' bytes, shared out evenly); "
    f"a message also has a constant header of {HEADER_BYTES} bytes, which is counted apart. A line is the best test "
    "value so far of the mean over seeds, so a little optimistic for all methods alike; a method's line is the best "
    "of its settings, which are thin."
)


def write_frontier(found: Frontier, to: Path) -> list[Path]:
    """Writes ``frontier.html`` and ``frontier.svg``; the files.

    Args:
        found: What ``frontier`` gives.
        to: The page (``.html``), beside which the picture is written, or a folder for both.

    Raises:
        FedSepError: They cannot be written.
    """
    page = to if to.suffix.lower() in (".html", ".htm") else to / "frontier.html"
    return [write_text(page, _page(found)), write_text(page.with_suffix(".svg"), picture(found))]


def picture(found: Frontier) -> str:
    """The frontier as an SVG document."""
    title = f"{found.metric.replace('_', ' ').capitalize()} against bytes: {setting(found.groups)}"
    return sheet(title, panels(found, "s"), list(enumerate(found.families)), caption(found))


def caption(found: Frontier) -> str:
    """What a reader of the figure must know, and what the runs note of their data."""
    data = [f"Data: {note}." for note in dict.fromkeys(told(found.groups))]
    over = f"Mean over {seeds_of(found.groups)}."
    return " ".join([READING, f"{ALL[0].upper()}{ALL[1:]}.", over, *data])


def reach_cells(found: Frontier, rounds: bool = False) -> list[dict[str, str]]:
    """A row a setting: payload to each target, with payload + header in brackets; ``*``: the fewest payload bytes.

    Args:
        found: What ``frontier`` gives.
        rounds: Whether rounds are told too.
    """
    best = [leading(found.settings, at) for at in range(len(found.targets))]
    return [
        {
            "method": one.label,
            "seeds": seeds_text(one.seeds),
            "a round": bytes_text(_rounded(one.round_payload)),
            "header": bytes_text(_rounded(one.round_header)),
            "best": value_text(one.best),
            **{
                f"to {target:g}": _reached(one.reaches[at], rounds) + (" *" if best[at] is one else "")
                for at, target in enumerate(found.targets)
            },
        }
        for one in found.settings
    ]


def leader_cells(found: Frontier, header: bool = False) -> list[dict[str, str]]:
    """Who leads where: a row for each stretch of the Pareto set that one setting holds."""
    stretches: list[list[Led]] = []
    for led in pareto(found.settings, found.metric, header):
        if stretches and stretches[-1][-1].setting is led.setting:
            stretches[-1].append(led)
        else:
            stretches.append([led])
    return [
        {
            "method": one[0].setting.label,
            "from": bytes_text(_rounded(_bytes(one[0], header))),
            "to": bytes_text(_rounded(_bytes(following[0], header))) if following else "the end",
            "value": value_text(one[0].point.value)
            + (f" to {value_text(one[-1].point.value)}" if len(one) > 1 else ""),
        }
        for one, following in zip(stretches, [*stretches[1:], None], strict=True)
    ]


def _page(found: Frontier) -> str:
    what = found.metric.replace("_", " ")
    title = f"{what.capitalize()} against bytes"
    known = notes(found.groups, {})
    warned = tag("aside", [tag("h2", "Notes"), tag("ul", [tag("li", note) for note in known])], class_="note")
    methods = list(enumerate(found.families))
    figures = [
        tag("figure", [tag("h3", one.title), Html(one.svg), tag("figcaption", caption(found))]) for one in panels(found)
    ]
    body = [
        tag("header", [tag("h1", title), paragraph(f"{setting(found.groups)}."), warned if known else ""]),
        tag(
            "main",
            [
                section("frontier", "Frontier", legend(methods), tag("div", figures, class_="charts")),
                section("targets", "Bytes to reach", _reach_table(found)),
                section("leaders", "Who leads where", *_leader_tables(found)),
                section("settings", "Settings", _settings(found)),
            ],
        ),
        tag("footer", paragraph("Written by ", code("fedsep frontier"), ". One file, no scripts, nothing is loaded.")),
    ]
    return document(title, tag("body", body))


def _reach_table(found: Frontier) -> Html:
    reading = (
        "Payload of one client until the first evaluation that reaches the target, mean over seeds; in brackets with "
        "headers. (2 of 3): seeds that reached it. *: the fewest, of those that reached it with every seed."
    )
    return _table(found, reach_cells(found, rounds=True), f"Bytes to reach {found.metric.replace('_', ' ')}.", reading)


def _leader_tables(found: Frontier) -> list[Html]:
    reading = "Between these bytes of one client no other setting is better."
    return [
        _table(found, leader_cells(found, header), title, reading)
        for header, title in ((False, "By payload."), (True, "By payload and header."))
    ]


def _table(found: Frontier, cells: Sequence[dict[str, str]], title: str, reading: str) -> Html:
    styles = {one.label: found.families.index(one.family) for one in found.settings}
    names = list(cells[0])
    rows: list[list[Content]] = [
        [named(styles[cell["method"]], cell["method"]), *(cell[name] for name in names[1:])] for cell in cells
    ]
    return table(names, rows, title, reading)


def _settings(found: Frontier) -> Html:
    calls = [
        tag("li", [named(found.families.index(one.family), one.label), code(method_call(group.runs[0]))])
        for one, group in zip(found.settings, found.groups, strict=True)
    ]
    return fold("What each method was called with", tag("ul", calls, class_="calls"))


def _reached(reach: Reach, rounds: bool) -> str:
    sent, whole = reach.payload["mean"], reach.whole["mean"]
    if sent is None or whole is None:
        return NONE
    part = "" if reach.by_all else f" ({reach.payload['n']} of {reach.of})"
    after = f", {count_text(reach.rounds['mean'])} rounds" if rounds else ""
    return f"{bytes_text(_rounded(sent))} ({bytes_text(_rounded(whole))}){after}{part}"


def _bytes(led: Led, header: bool) -> float:
    return led.point.whole if header else led.point.payload


def _rounded(value: float) -> float:
    """Bytes to the byte."""
    return float(round(value))
