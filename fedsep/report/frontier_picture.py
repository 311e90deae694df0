"""Draws the byte frontier: a step line a method, thin ones for its settings, and the Pareto set behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedsep.report.accuracy import share_axis
from fedsep.report.frontier import Frontier, Led, Setting, pareto
from fedsep.report.plotting import COLOURS, DASHES, INK, MARKERS, bytes_tick, drawn, log_axis, stand_in
from fedsep.report.sheet import Panel

ALL = "all settings' Pareto set: wide grey line"


def panels(found: Frontier, prefix: str = "f", styles: Sequence[int] | None = None) -> list[Panel]:
    """The metric against payload bytes of one client, and against payload and header.

    Args:
        found: What ``frontier`` gives.
        prefix: Of the figures' ids; unique in the page.
        styles: Places of the methods in the palette; by default the order in which they came.
    """
    styles = range(len(found.families)) if styles is None else styles
    return [
        Panel("Against payload", _draw(found, False, f"{prefix}0-", styles)),
        Panel(f"Against payload + {_header(found)} of header", _draw(found, True, f"{prefix}1-", styles)),
    ]


def _header(found: Frontier) -> str:
    least, most = (pick(setting.round_header for setting in found.settings) for pick in (min, max))
    told = f"{least:.0f}" if round(least) == round(most) else f"{least:.0f} to {most:.0f}"
    return f"{told} B a round"


def _draw(found: Frontier, header: bool, prefix: str, styles: Sequence[int]) -> str:
    def paint(axes: Any) -> None:
        _axes(axes, found, header)
        _halo(axes, pareto(found.settings, found.metric, header), header)
        for style, family in zip(styles, found.families, strict=True):
            _family(axes, found, style, [one for one in found.settings if one.family == family], header)

    best = {family: max(s.best for s in found.settings if s.family == family) for family in found.families}
    told = ", ".join(f"{family} {value:.4g}" for family, value in best.items())
    return drawn(paint, prefix=prefix, label=f"{found.metric} against bytes of one client; best: {told}")


def _axes(axes: Any, found: Frontier, header: bool) -> None:
    from matplotlib.ticker import FuncFormatter

    points = [point for setting in found.settings for point in setting.points]
    sent = [point.whole if header else point.payload for point in points]
    share_axis(axes, [point.value for point in points])
    log_axis(axes.xaxis, axes.set_xscale, [each for each in sent if each > 0])
    axes.xaxis.set_major_formatter(FuncFormatter(bytes_tick))
    axes.set_xlabel("bytes of one client since the start, up + down")
    axes.spines["left"].set_visible(False)


def _halo(axes: Any, led: Sequence[Led], header: bool) -> None:
    axes.plot(*_xy(led, header), drawstyle="steps-post", color=INK, linewidth=6, alpha=0.13, solid_capstyle="butt")


def _family(axes: Any, found: Frontier, style: int, settings: Sequence[Setting], header: bool) -> None:
    colour, dashes = stand_in(style), DASHES[style // COLOURS % len(DASHES)]
    line: dict[str, Any] = {"color": colour, "dashes": dashes} if dashes else {"color": colour}
    if len(settings) > 1:
        for one in settings:
            x, y = _xy([Led(one, point) for point in one.points], header)
            axes.plot(x, y, drawstyle="steps-post", linewidth=0.7, alpha=0.45, color=colour)
    x, y = _xy(pareto(settings, found.metric, header), header)
    every = max(1, len(x) // 8)
    marker = {"marker": MARKERS[style % len(MARKERS)], "markersize": 3.6, "markeredgewidth": 0, "markevery": every}
    axes.plot(x, y, drawstyle="steps-post", linewidth=1.7, **line, **marker)


def _xy(led: Sequence[Led], header: bool) -> tuple[list[float], list[float]]:
    return [one.point.whole if header else one.point.payload for one in led], [one.point.value for one in led]
