"""The panels of Figures 2 and 3: the metric against communication rate and p, then against rounds and real bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fedsep.paper.results import Result, over_p
from fedsep.paper.scales import WORDS
from fedsep.report.accuracy import share_axis
from fedsep.report.curve import Abscissa, Curve, curve, rounds
from fedsep.report.plotting import COLOURS, bytes_tick, drawn, log_axis, plain, plot_curve, stand_in
from fedsep.report.reading import Record, finite
from fedsep.report.sheet import Panel
from fedsep.report.spread import column, payload

Key = list[tuple[int, str]]
"""Places in the palette, with labels."""


def paper_panels(results: Sequence[Result], prefix: str) -> list[Panel]:
    """The paper's four: for each split the metric against communication rate, and against p."""
    made: list[Panel] = []
    for at, split in enumerate(_splits(results)):
        rate = over_p(results, split, lambda result: result.rate) + _dense(results, split)
        title = f"{WORDS[split]}: against communication rate"
        made.append(Panel(title, draw_curves(rate, f"{prefix}r{at}-", title, "(up + down bytes) / (2 · 4 d)", "log")))
        by_p = over_p(results, split, lambda result: None if result.p is None else float(result.p))
        level = [result for result in results if result.p is None and result.split == split]
        title, x_label = f"{WORDS[split]}: against p", "communication dimension p; below it p/d"
        made.append(Panel(title, draw_curves(by_p, f"{prefix}p{at}-", title, x_label, "log", level, d=results[0].d)))
    return [panel for panel in made if panel.svg]


def rate_panels(results: Sequence[Result], prefix: str) -> list[Panel]:
    """For each split the metric against the rate up, and against the rate down: two codecs may differ in one alone."""
    made: list[Panel] = []
    for at, split in enumerate(_splits(results)):
        up = over_p(results, split, lambda result: result.rate_up or None)
        down = over_p(results, split, lambda result: result.rate_down or None)
        for way, curves in (("up", up), ("down", down)):
            title = f"{WORDS[split]}: against the rate {way}"
            made.append(Panel(title, draw_curves(curves, f"{prefix}{way}{at}-", title, f"{way} bytes / 4 d", "log")))
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


def rate_key(results: Sequence[Result]) -> Key:
    """The key where the rates of a dense download are drawn too."""
    dense = (result.line for result in results if _drawn_dense(result))
    return key(results) + list(dict.fromkeys((_dotted(line.style), _dense_label(line.label)) for line in dense))


def draw_curves(
    curves: Sequence[Curve],
    prefix: str,
    title: str,
    x_label: str,
    unit: str,
    level: Sequence[Result] = (),
    d: int | None = None,
) -> str:
    """A panel; nothing where there is nothing to draw.

    Args:
        curves: Its lines.
        prefix: Of the ids in it.
        title: In words.
        x_label: Of the abscissa.
        unit: Of the abscissa: ``log``, ``bytes`` (logarithmic too), or empty.
        level: Results that have no abscissa.
        d: Where given, each tick is told as a part of it too.
    """
    if not curves:
        return ""
    levels = [(result.line.style, value) for result in level if (value := result.accuracy["mean"]) is not None]

    def paint(axes: Any) -> None:
        _axes(axes, curves, [value for _, value in levels], x_label, unit, d)
        for style, value in levels:
            axes.axhline(value, color=stand_in(style), linewidth=1.4, dashes=(4, 2))
        for one in curves:
            plot_curve(axes, one)

    ends = ", ".join(f"{one.label} {one.mean[-1]:.3g}" for one in curves if one.mean)
    return drawn(paint, prefix=prefix, label=f"{title}; rightmost values: {ends}")


def _axes(
    axes: Any, curves: Sequence[Curve], levels: Sequence[float], x_label: str, unit: str, d: int | None = None
) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    bands = [m + sign * s for one in curves for m, s in zip(one.mean, one.std, strict=True) for sign in (-1, 1)]
    share_axis(axes, [min(1.0, max(0.0, value)) for value in (*bands, *levels)])
    if not unit:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    else:
        log_axis(axes.xaxis, axes.set_xscale, [x for one in curves for x in one.x])
        told = bytes_tick if unit == "bytes" else plain
        axes.xaxis.set_major_formatter(FuncFormatter(told if d is None else _with_part(d)))
    axes.set_xlabel(x_label)
    axes.spines["left"].set_visible(False)


def _with_part(d: int) -> Callable[[float, object], str]:
    return lambda value, at: f"{plain(value, at)}\n{value / d:.2g}"


def _dense(results: Sequence[Result], split: str) -> list[Curve]:
    """Curves against the rate if the whole model were sent down: of a colour's solid line only."""
    own = [result for result in results if _drawn_dense(result)]
    return [
        one._replace(label=_dense_label(one.label), style=_dotted(one.style))
        for one in over_p(own, split, lambda result: result.rate_dense_down)
    ]


def _drawn_dense(result: Result) -> bool:
    return result.line.dense and result.line.style < COLOURS


def _dense_label(label: str) -> str:
    return f"{label}, download counted dense"


def _dotted(style: int) -> int:
    return style + 2 * COLOURS


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
