"""Which figures a page has, and what each says of itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fedsep.core import HEADER_BYTES
from fedsep.report.curve import Abscissa, Curve, curve, rounds, window_of
from fedsep.report.describe import seeds_of, setting
from fedsep.report.grouping import Group
from fedsep.report.plotting import draw
from fedsep.report.reading import Record
from fedsep.report.spread import column, payload, seconds

BYTES = (
    "Payload bytes, up + down, cumulative over all clients, without the "
    f"{HEADER_BYTES} header bytes of a message; logarithmic axis."
)


class Figure(NamedTuple):
    """A figure of the page: its title, picture, caption, and the methods in it as (style, label)."""

    title: str
    svg: str
    caption: str
    methods: list[tuple[int, str]]


class _Plan(NamedTuple):
    title: str
    against: Abscissa
    x_label: str
    unit: str = ""
    told: str = ""


def make_figures(groups: Sequence[Group]) -> list[Figure]:
    """All figures for which there are points: each metric against rounds, bytes and time, per client, and the loss."""
    metrics = dict.fromkeys(group.metric for group in groups if group.metric is not None)
    made: list[Figure | None] = []
    for at, metric in enumerate(metrics):
        made += [_merit(groups, metric, plan, f"m{at}{place}-") for place, plan in enumerate(_plans(groups))]
        made.append(_clients(groups, metric, f"p{at}-"))
    made.append(_training(groups, "t-"))
    return [figure for figure in made if figure is not None]


def readable(name: str) -> str:
    """A metric's name in words."""
    return name.replace("_", " ")


def _plans(groups: Sequence[Group]) -> list[_Plan]:
    unit, size = _time_unit(groups)
    return [
        _Plan("rounds", rounds, "rounds"),
        _Plan("bytes", _positive(payload), "payload, all clients, up + down", "bytes", BYTES),
        _Plan("time", _scaled(size), f"training time in {unit}", "", "Time is of training, without evaluation."),
    ]


def _merit(groups: Sequence[Group], metric: str, plan: _Plan, prefix: str) -> Figure | None:
    own = [group for group in groups if group.metric == metric]
    curves = _curves(groups, own, column(metric), plan.against)
    heading = f"{readable(column(metric)).capitalize()} against {plan.title}"
    if not curves:
        return None
    svg = draw(curves, prefix=prefix, label=_alt(heading, curves), x_label=plan.x_label, unit=plan.unit)
    return Figure(heading, svg, _caption(own, curves, plan.told), _methods(curves))


def _clients(groups: Sequence[Group], metric: str, prefix: str) -> Figure | None:
    before, after = (_curves(groups, groups, f"client_{metric}_{when}", rounds) for when in ("before", "after"))
    if not before and not after:
        return None
    heading = f"Per-client {readable(metric)} before and after local steps"
    told = "Each client's model on its own test part, averaged over clients. Solid: after, thin and dotted: before."
    curves = [*(one._replace(faint=True) for one in before), *after]
    svg = draw(curves, prefix=prefix, label=_alt(heading, curves), x_label="rounds")
    return Figure(heading, svg, _caption(groups, curves, told), _methods(curves))


def _training(groups: Sequence[Group], prefix: str) -> Figure | None:
    window = window_of(groups)
    curves = _curves(groups, groups, "train_loss", rounds, window)
    if not curves:
        return None
    told = "Mean over the round's clients." + (f" A point is the mean of {window} rounds." if window > 1 else "")
    values = [y for one in curves for ys in (one.mean, *(ys for _, ys in one.tails)) for y in ys]
    log = min(values) > 0 and max(values) > 50 * min(values)
    told += " Logarithmic axis." if log else ""
    heading = "Training loss against rounds"
    svg = draw(curves, prefix=prefix, label=_alt(heading, curves), x_label="rounds", log_y=log)
    return Figure(heading, svg, _caption(groups, curves, told), _methods(curves))


def _curves(
    groups: Sequence[Group], own: Sequence[Group], name: str, against: Abscissa, window: int = 1
) -> list[Curve]:
    made = [curve(group, style, name, against, window) for style, group in enumerate(groups) if group in own]
    return [one for one in made if one is not None]


def _caption(groups: Sequence[Group], curves: Sequence[Curve], told: str) -> str:
    several = any(one.seeds > 1 for one in curves)
    one = "One run each" if len(groups) > 1 else "One run"
    band = f"Mean over {seeds_of(groups)}; band: ± one standard deviation."
    over = band if several else f"{one}, {seeds_of(groups)}: no band."
    tails = "Thin lines: single seeds, where others have no value." if any(one.tails for one in curves) else ""
    return " ".join(part for part in (over, told, tails, f"Setting: {setting(groups)}.") if part)


def _methods(curves: Sequence[Curve]) -> list[tuple[int, str]]:
    return list(dict.fromkeys((one.style, one.label) for one in sorted(curves, key=lambda one: one.style)))


def _alt(heading: str, curves: Sequence[Curve]) -> str:
    ends = {one.label: one.mean[-1] for one in curves if one.mean and not one.faint}
    return f"{heading}. At the end: " + ", ".join(f"{label} {value:.4g}" for label, value in ends.items())


def _positive(against: Callable[[Record], float | None]) -> Abscissa:
    return lambda row: against(row) or None  # nothing sent yet has no place on a logarithmic axis


def _time_unit(groups: Sequence[Group]) -> tuple[str, float]:
    longest = max((seconds(row) or 0 for group in groups for run in group.runs for row in run.rows[-1:]), default=0)
    return ("seconds", 1) if longest < 300 else ("minutes", 60) if longest < 3 * 3600 else ("hours", 3600)


def _scaled(size: float) -> Abscissa:
    def against(row: Record) -> float | None:
        spent = seconds(row)
        return None if spent is None else spent / size

    return against
