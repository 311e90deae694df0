"""Draws one figure with matplotlib, in stand-in colours that the page's light and dark palettes replace."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

from fedsep.report.curve import Curve
from fedsep.report.svg import embed
from fedsep.report.wording import bytes_text

COLOURS = 8
"""Colours of the palette; further methods repeat them with other dashes."""

DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2.5), (1.5, 2))
"""Dashes by how often the colours have been used up."""

MARKERS = "os^DvPX*"
"""Markers, so that methods differ without colour as well."""

WIDTH, HEIGHT = 4.4, 3.0
"""Inches; small, so that text stays readable where a phone shows the figure 350 pixels wide."""

INK, _GRID = "#010101", "#020202"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedsep",
    "font.size": 10,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def stand_in(style: int) -> str:
    """The colour to draw a method in: the page puts the palette's in its place."""
    return f"#0303{style % COLOURS:02x}"


def draw(curves: Sequence[Curve], *, prefix: str, label: str, x_label: str, unit: str = "", log_y: bool = False) -> str:
    """A figure of curves as an ``<svg>`` element.

    Args:
        curves: One or more.
        prefix: Put before the figure's ids; unique in the page.
        label: What the figure shows, for who cannot see it.
        x_label: The abscissa.
        unit: ``bytes`` (logarithmic), or empty for plain numbers.
        log_y: Whether the ordinate is logarithmic.
    """

    def paint(axes: Any) -> None:
        _axes(axes, curves, x_label, unit, log_y)
        for one in curves:
            plot_curve(axes, one)

    return drawn(paint, prefix=prefix, label=label)


def drawn(paint: Callable[[Any], None], *, prefix: str, label: str, size: tuple[float, float] = (WIDTH, HEIGHT)) -> str:
    """What ``paint`` does to matplotlib axes as an ``<svg>`` element in the colours of the page.

    Args:
        paint: Draws in ``INK`` and the colours of ``stand_in``.
        prefix: Put before the figure's ids; unique in the page.
        label: What the figure shows, for who cannot see it.
        size: Width and height in inches.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        # matplotlib's own defaults, not the user's: the page is to be the same everywhere
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        paint(figure.add_subplot(facecolor="none"))
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata=_NO_METADATA)
    return embed(target.getvalue(), prefix, label, _colours())


def _colours() -> dict[str, str]:
    lines = {stand_in(at): f"var(--c{at})" for at in range(COLOURS)}
    return {INK: "var(--ink)", _GRID: "var(--grid)", **lines}


def plot_curve(axes: Any, one: Curve) -> None:
    """One curve with its band and its tails."""
    colour, dashes = stand_in(one.style), DASHES[one.style // COLOURS % len(DASHES)]
    line: dict[str, Any] = {"color": colour, "dashes": dashes} if dashes else {"color": colour}
    if one.faint:
        line = {"color": colour, "dashes": (1, 1.6)}
    marker = {
        "marker": MARKERS[one.style % len(MARKERS)],
        "markersize": 3.6 if len(one.x) > 1 else 6,
        "markeredgewidth": 0,
    }
    marker["markevery"] = max(1, math.ceil(len(one.x) / 14))
    width = 1.1 if one.faint else 1.7
    if any(one.std):
        low, high = ([m + sign * s for m, s in zip(one.mean, one.std, strict=True)] for sign in (-1, 1))
        axes.fill_between(one.x, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(one.x, one.mean, linewidth=width, **line, **marker)
    for x, y in one.tails:
        single = {"marker": ".", "markersize": 4} if len(x) == 1 else {}
        axes.plot(x, y, linewidth=0.8, alpha=0.75, **line, **single)


def _axes(axes: Any, curves: Sequence[Curve], x_label: str, unit: str, log_y: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlabel(x_label)
    axes.spines["left"].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.get_major_formatter().set_useOffset(False)
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if log_y:
        log_axis(axes.yaxis, axes.set_yscale, [y for one in curves for _, ys in _lines(one) for y in ys])
        axes.yaxis.set_major_formatter(FuncFormatter(plain))
    if unit == "bytes":
        log_axis(axes.xaxis, axes.set_xscale, [x for one in curves for xs, _ in _lines(one) for x in xs])
        axes.xaxis.set_major_formatter(FuncFormatter(bytes_tick))


def _lines(one: Curve) -> list[tuple[list[float], list[float]]]:
    return [(one.x, one.mean), *one.tails]


def log_axis(axis: Any, set_scale: Callable[[str], None], values: Sequence[float]) -> None:
    """A logarithmic axis with ticks that carry numbers, however few decades it spans."""
    from matplotlib.ticker import LogLocator, NullLocator

    set_scale("log")
    decades = math.log10(max(values) / min(values))
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 1.7 else (1.0,), numticks=6))
    axis.set_minor_locator(NullLocator())


def plain(value: float, _: object) -> str:
    """A tick's number."""
    return f"{value:,.6g}".replace("-", "\N{MINUS SIGN}")


def bytes_tick(value: float, _: object) -> str:
    """A tick's bytes: 10 kB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return bytes_text(value)
