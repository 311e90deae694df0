"""A picture of a record as an ``<svg>`` in the report's colours: marks are measured, lines are predicted."""

from __future__ import annotations

import io
from typing import Any

from fedsep.report.plotting import COLOURS, HEIGHT, MARKERS, WIDTH
from fedsep.report.svg import embed

_INK, _GRID = "#010101", "#020202"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedsep",
    "font.size": 10,
    "legend.fontsize": 7,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def picture_svg(picture: dict[str, Any], prefix: str) -> str:
    """Draws one picture.

    Args:
        picture: As ``Picture.record`` gives it.
        prefix: Put before the ids; unique in the page.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the page is to be the same everywhere
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained", facecolor="none")
        axes: Any = figure.add_subplot(facecolor="none")
        for at, line in enumerate(picture["lines"]):
            _draw(axes, line, at)
        axes.set_xlabel(picture["x_label"])
        positive = all(y > 0 for line in picture["lines"] for _, y in line["points"])
        if picture["log_y"] and positive:
            axes.set_yscale("log")
        if picture["log_x"]:
            axes.set_xscale("log")
        axes.legend(frameon=False)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    lines = {_stand_in(at): f"var(--c{at})" for at in range(COLOURS)}
    return embed(target.getvalue(), prefix, picture["title"], {_INK: "var(--ink)", _GRID: "var(--grid)", **lines})


def _draw(axes: Any, line: dict[str, Any], at: int) -> None:
    x, y = [point[0] for point in line["points"]], [point[1] for point in line["points"]]
    marks: dict[str, Any] = {"marker": MARKERS[at % len(MARKERS)], "markersize": 5, "linestyle": "none"}
    drawn = marks if line["measured"] else {"linewidth": 1.4}
    axes.plot(x, y, color=_stand_in(at), label=line["label"], **drawn)


def _stand_in(style: int) -> str:
    return f"#0303{style % COLOURS:02x}"
