"""The panels of Figures 2 and 3: the metric against communication rate and p, then against rounds and real bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedsep.paper.results import Result, over_p
from fedsep.paper.scales import WORDS
from fedsep.report.accuracy import share_axis
from fedsep.report.curve import Abscissa, Curve, curve, rounds
from fedsep.report.plotting import bytes_tick, drawn, log_axis, plain, plot_curve, stand_in
from fedsep.report.reading import Record, finite
from fedsep.report.sheet import Panel
from fedsep.report.spread import column, payload

Key = list[tuple[int, str]]
"""Places in the palette, with labels."""


def paper_panels(results: Sequence[Result], prefix: str) -> list[Panel]:
    """The paper's four: for each split the metric against communication rate, and against p."""
    made: list[Panel] = []
    for at, split in enumerate(_splits(results)):
        rate = over_p(results, split, lambda result: result.rate)
        title = f"{WORDS[split]}: against communication rate"
        made.append(Panel(title, draw_curves(rate, f"{prefix}r{at}-", title, "(up + down bytes) / (2 · 4 d)", "log")))
        by_p = over_p(results, split, lambda result: None if result.p is None else float(result.p))
        level = [result for result in results if result.p is None and result.split == split]
        title = f"{WORDS[split]}: against p"
        made.append(
            Panel(title, draw_curves(by_p, f"{prefix}p{at}-", title, "communication dimension p", "log", level))
        )
    return [panel for panel in made if panel.svg]


def training_panels(results: Sequence[Result], p: int, prefix: str) -> list[Panel]:
    """For each split the course of training at p: against rounds, and against the bytes of one client."""
    made: list[Panel] = []
    for at, split in enumerate(_splits(results)):
        own = [result for result in results if result.split == split and result.p in (p, None)]
        for against, x_label, unit, name in (
            (rounds, "rounds", "", "rounds"),
            (_client_bytes(own), "bytes of one client since the start, up + down", "bytes", "bytes"),
        ):
            drawn_of = [curve(one.group, one.line.style, column(_metric(results)), against) for one in own]
            curves = [one for one in drawn_of if one is not None]
            title = f"{WORDS[split]}, p = {p:,}: against {name}"
            made.append(Panel(title, draw_curves(curves, f"{prefix}{name[0]}{at}-", title, x_label, unit)))
    return [panel for panel in made if panel.svg]


def key(results: Sequence[Result]) -> Key:
    """The key of all panels."""
    return list(dict.fromkeys((result.line.style, result.line.label) for result in results))


def draw_curves(
    curves: Sequence[Curve], prefix: str, title: str, x_label: str, unit: str, level: Sequence[Result] = ()
) -> str:
    """A panel; nothing where there is nothing to draw. ``level``: results that have no abscissa."""
    if not curves:
        return ""
    levels = [(result.line.style, value) for result in level if (value := result.accuracy["mean"]) is not None]

    def paint(axes: Any) -> None:
        _axes(axes, curves, [value for _, value in levels], x_label, unit)
        for style, value in levels:
            axes.axhline(value, color=stand_in(style), linewidth=1.4, dashes=(4, 2))
        for one in curves:
            plot_curve(axes, one)

    ends = ", ".join(f"{one.label} {one.mean[-1]:.3g}" for one in curves if one.mean)
    return drawn(paint, prefix=prefix, label=f"{title}; rightmost values: {ends}")


def _axes(axes: Any, curves: Sequence[Curve], levels: Sequence[float], x_label: str, unit: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    bands = [m + sign * s for one in curves for m, s in zip(one.mean, one.std, strict=True) for sign in (-1, 1)]
    share_axis(axes, [min(1.0, max(0.0, value)) for value in (*bands, *levels)])
    if not unit:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    else:
        log_axis(axes.xaxis, axes.set_xscale, [x for one in curves for x in one.x])
        axes.xaxis.set_major_formatter(FuncFormatter(bytes_tick if unit == "bytes" else plain))
    axes.set_xlabel(x_label)
    axes.spines["left"].set_visible(False)


def _client_bytes(results: Sequence[Result]) -> Abscissa:
    clients = float(results[0].runs[0].summary["clients"]) if results else 1.0

    def against(row: Record) -> float | None:
        sent = payload(row)
        return None if not sent or finite(sent) is None else sent / clients

    return against


def _splits(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.split for result in results))


def _metric(results: Sequence[Result]) -> str:
    return next((run.metric for result in results for run in result.runs if run.metric), "accuracy")
