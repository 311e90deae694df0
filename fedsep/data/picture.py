"""A partition as a picture: clients across, classes down."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fedsep.data.partition import Partition

DOTS = 30
"""Most clients, and most classes, that are drawn as dots; more become shades."""
SHOWN = 200
"""Most clients that are drawn; the title says how many are left out."""

_SIZES = 16
_INK = "#010203"
_COLOUR = "#2f7fd0"


def draw(partition: Partition) -> str:
    """An SVG document without background, its text in ``currentColor``."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    counts = partition.counts[:SHOWN].T.astype(np.float64)
    inked = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK)
    style: dict[Any, Any] = {**inked, "svg.fonttype": "none", "svg.hashsalt": partition.hash, "font.size": 9}
    with rc_context(style):
        figure = Figure(figsize=_size(counts), layout="constrained")
        axes = figure.subplots()
        dots = max(counts.shape) <= DOTS
        if len(counts) == 1:
            axes.bar(np.arange(counts.shape[1]), counts[0], color=_COLOUR, width=1 if counts.shape[1] > DOTS else 0.8)
        elif dots:
            _dots(axes, counts)
        else:
            _shades(axes, counts)
        _words(axes, partition, counts)
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    return text.getvalue().replace(_INK, "currentColor")


def _size(counts: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Inches; a cell is square for few clients and narrow for many."""
    classes, clients = counts.shape
    return float(np.clip(1.4 + 0.3 * clients, 4.4, 6.4)), 3.0 if classes == 1 else float(
        np.clip(1.3 + 0.24 * classes, 2.5, 9)
    )


def _dots(axes: Any, counts: npt.NDArray[np.float64]) -> None:
    """Area in proportion to the number of samples; the largest nearly touch. Few sizes keep the document small."""
    across = 72 * min(axes.figure.get_size_inches() * 0.78 / np.array(counts.shape[::-1]))
    width = np.ceil(_SIZES * np.sqrt(counts / counts.max()))
    for size in range(1, _SIZES + 1):
        label, client = np.nonzero(width == size)
        axes.plot(client, label, "o", markersize=max(0.9 * across * size / _SIZES, 1), color=_COLOUR, markeredgewidth=0)
    axes.set_xlim(-0.7, counts.shape[1] - 0.3)
    axes.set_ylim(counts.shape[0] - 0.3, -0.7)


def _shades(axes: Any, counts: npt.NDArray[np.float64]) -> None:
    """One colour whose opacity grows with the number of samples: the page shows through where there are none."""
    red, green, blue = (int(_COLOUR[i : i + 2], 16) / 255 for i in (1, 3, 5))
    shade = np.empty((*counts.shape, 4))
    shade[...] = red, green, blue, 0
    shade[..., 3] = np.where(counts > 0, 0.15 + 0.85 * counts / counts.max(), 0)
    axes.imshow(shade, aspect="auto", interpolation="nearest")


def _words(axes: Any, partition: Partition, counts: npt.NDArray[np.float64]) -> None:
    classes, clients = counts.shape
    first = f", the first {clients} drawn" if clients < partition.clients else ""
    axes.set_title(partition.describe() + first, fontsize=9)
    axes.set_xlabel("client")
    axes.spines[["top", "right"]].set_visible(False)
    axes.patch.set_alpha(0)
    axes.figure.patch.set_alpha(0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if classes == 1:
        axes.set_ylabel("samples")
        return
    axes.set_ylabel("class")
    if classes <= 30:
        names = partition.labels or [str(label) for label in range(classes)]
        axes.set_yticks(range(classes), [name if len(name) <= 14 else name[:13] + "…" for name in names])
