"""Pictures of sub-models: accuracy of each width, which units were trained when, and whose units are alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fedsep.report.curve import Curve, curve, rounds
from fedsep.report.figures import Figure, readable
from fedsep.report.grouping import Group
from fedsep.report.plotting import draw, drawn
from fedsep.report.reading import Record, RunData, read_lines

COLUMNS = 100
"""Columns of a map at most, each of some rounds."""

MOST = 6
"""Methods that have figures of their own at most."""

_LEVEL = re.compile(r"^test_level_([\d.e-]+)_(.+)$")
_COLOUR = (0x2F / 255, 0x7F / 255, 0xD0 / 255)


@dataclass(frozen=True)
class Seen:
    """What a run wrote down of its clients' sub-models.

    Attributes:
        rounds: Lines of rounds: clients that trained, units of every layer, and how many trained each.
        overlap: The last line on how much clients' units overlap: (similarity of classes, overlap, pairs) each.
        held: The capability at which they were compared.
    """

    rounds: tuple[Record, ...] = ()
    overlap: tuple[tuple[float, float, float], ...] = ()
    held: float | None = None
    layers: tuple[str, ...] = field(default=())

    def share(self, layer: str) -> npt.NDArray[np.float64]:
        """Of the clients of each round that trained each unit, shape (units, rounds)."""
        told = [np.array(row["trained"][layer], np.float64) / max(row["clients"], 1) for row in self.rounds]
        return np.stack(told, 1)


def read_submodels(run: RunData) -> Seen:
    """A run's ``submodels.jsonl``; empty if it has none."""
    lines = [row for _, row in read_lines(run.folder / "submodels.jsonl")]
    trained = tuple(row for row in lines if "trained" in row)
    compared = [row for row in lines if "overlap" in row]
    layers = tuple(trained[0]["trained"]) if trained else ()
    if not compared:
        return Seen(trained, layers=layers)
    return Seen(trained, tuple(tuple(each) for each in compared[-1]["overlap"]), compared[-1]["held"], layers)


def make_submodel_figures(groups: Sequence[Group]) -> list[Figure]:
    """All figures for which something was written down; of each method's first run where they are not means."""
    seen = [(style, group, read_submodels(group.runs[0])) for style, group in enumerate(groups)]
    own = [each for each in seen if each[2].rounds]
    made = [_levels(group, f"l{style}-") for style, group, _ in seen]
    made += [_map(group, found, f"h{style}-") for style, group, found in own[:MOST]]
    made += [_depth(own), _overlap(own)]
    return [figure for figure in made if figure is not None]


def _levels(group: Group, prefix: str) -> Figure | None:
    """Accuracy of the server's sub-model of each share, over rounds."""
    found = {(match[1], match[2]) for run in group.runs for row in run.rows for name in row
             if (match := _LEVEL.match(name)) and match[2] == group.metric}  # fmt: skip
    shares = sorted({share for share, _ in found}, key=float, reverse=True)
    curves = [
        one._replace(label=f"{share} of the units")
        for style, share in enumerate(shares)
        if (one := curve(group, style, f"test_level_{share}_{group.metric}", rounds)) is not None
    ]
    if not curves:
        return None
    heading = f"{group.label}: test {readable(group.metric or '')} of the server's sub-models"
    svg = draw(curves, prefix=prefix, label=heading, x_label="rounds")
    told = "The server's sub-model of each share of the units, by the method's own plan."
    return Figure(heading, svg, told, [(one.style, one.label) for one in curves])


def _map(group: Group, seen: Seen, prefix: str) -> Figure:
    """Which units are trained when: units down, layer by layer, rounds across."""
    shades = [_windows(seen.share(layer)) for layer in seen.layers]
    heading = f"{group.label}: which units are trained when"
    places = sum(len(part) for part in shades)
    svg = drawn(
        _painter(shades, seen), prefix=prefix, label=heading, size=(4.4, min(7.0, max(2.4, 0.9 + 0.035 * places)))
    )
    seed = "" if group.runs[0].seed is None else f" Seed {group.runs[0].seed}."
    lost = _untrained(seen)
    told = (
        "Share of a round's clients that trained each of the server's units: none is blank, all is blue. Layers from "
        f"the input down, units in their order; neighbours are averaged where there are many. {lost}{seed}"
    )
    return Figure(heading, svg, told, [])


def _untrained(seen: Seen) -> str:
    never = [(layer, float((seen.share(layer).max(1) == 0).mean())) for layer in seen.layers]
    told = [f"{100 * share:.0f} % of {layer}" for layer, share in never if share > 0]
    return f"Never trained: {', '.join(told)}." if told else "Every unit was trained by somebody."


def _windows(share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if share.shape[1] <= COLUMNS:
        return share
    return np.stack([part.mean(1) for part in np.array_split(share, COLUMNS, axis=1)], 1)


def _painter(shades: Sequence[npt.NDArray[np.float64]], seen: Seen) -> Callable[[Any], None]:
    first, last = seen.rounds[0]["round"], seen.rounds[-1]["round"]

    def paint(axes: Any) -> None:
        edges = np.cumsum([0, *(len(part) for part in shades)])
        image = np.empty((edges[-1], shades[0].shape[1], 4))
        image[..., :3], image[..., 3] = _COLOUR, np.concatenate(shades)
        axes.grid(visible=False)
        axes.imshow(image, aspect="auto", interpolation="nearest", extent=(first - 0.5, last + 0.5, edges[-1], 0))
        axes.set_yticks([(a + b) / 2 for a, b in pairwise(edges)], [_short(name) for name in seen.layers])
        axes.tick_params(axis="y", labelsize=max(4.5, min(9.0, 90 / len(shades))))
        for edge in edges[1:-1]:
            axes.axhline(edge, linewidth=0.6, color="#020202")
        axes.set_xlabel("rounds")
        axes.xaxis.get_major_locator().set_params(integer=True)

    return paint


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"…{name[-17:]}"


def _depth(own: Sequence[tuple[int, Group, Seen]]) -> Figure | None:
    """Share of each layer that a client trains, and of it that anybody ever did, by depth."""
    if not own:
        return None
    curves: list[Curve] = []
    for style, group, seen in own:
        shares = [seen.share(layer) for layer in seen.layers]
        depth = [float(at) for at in range(1, len(shares) + 1)]
        mean, ever = [float(part.mean()) for part in shares], [float((part.max(1) > 0).mean()) for part in shares]
        none = [0.0] * len(shares)
        curves += [Curve(group.label, style, depth, ever, none, 1, [], faint=True),
                   Curve(group.label, style, depth, mean, none, 1, [])]  # fmt: skip
    heading = "Where trained units lie, by depth"
    told = (
        "Layers that count units of their own, from the input on. Solid: share of the layer's units that a client of a "
        "round trains, mean over all rounds; thin and dotted: share that was ever trained by anybody."
    )
    svg = draw(curves, prefix="dp-", label=heading, x_label="layer")
    return Figure(heading, svg, told, [(style, group.label) for style, group, _ in own])


def _overlap(own: Sequence[tuple[int, Group, Seen]]) -> Figure | None:
    """Overlap of two clients' units against the similarity of their classes."""
    some = [(style, group, seen) for style, group, seen in own if seen.overlap]
    if not some:
        return None
    curves = [_pairs(style, group, seen) for style, group, seen in some]
    heading = "Do clients with like classes train like units?"
    held = ", ".join(f"{share:g}" for share in dict.fromkeys(seen.held for _, _, seen in some if seen.held is not None))
    told = (
        f"Mean over pairs of clients after the last evaluation, all at capability {held}: units that both would train "
        "over units that either would, against classes that both have over classes that either has."
    )
    svg = draw(curves, prefix="ov-", label=heading, x_label="overlap of the classes of two clients")
    return Figure(heading, svg, told, [(style, group.label) for style, group, _ in some])


def _pairs(style: int, group: Group, seen: Seen) -> Curve:
    like, alike = [each[0] for each in seen.overlap], [each[1] for each in seen.overlap]
    return Curve(group.label, style, like, alike, [0.0] * len(like), 1, [])
