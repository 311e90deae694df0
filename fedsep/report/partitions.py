"""Pictures of how the data was split, one a distinct split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree.ElementTree import ParseError

from fedsep.core import FedSepError
from fedsep.report.describe import call, data_name
from fedsep.report.grouping import Group, flatten
from fedsep.report.reading import RunData
from fedsep.report.svg import embed

_COLOURS = {"#2f7fd0": "var(--c0)"}

MOST = 4
"""Pictures that a page shows at most."""


class Picture(NamedTuple):
    """A partition's picture, or None and the reason why there is none."""

    title: str
    caption: str
    svg: str | None


def make_pictures(groups: Sequence[Group]) -> list[Picture]:
    """One picture for each way in which the runs split their data, of the first seed that has it."""
    firsts: dict[str, RunData] = {}
    count: dict[str, set[str]] = {}
    for run in (run for group in groups for run in group.runs):
        way = _way(run)
        firsts.setdefault(way, run)
        count.setdefault(way, set()).add(str(run.seed))
    hashes: dict[str, tuple[RunData, int]] = {}
    for way, run in firsts.items():
        hashes.setdefault(str(run.summary.get("partition") or way), (run, len(count[way])))
    return [_picture(run, draws, f"d{at}-") for at, (run, draws) in enumerate(list(hashes.values())[:MOST])]


def _way(run: RunData) -> str:
    """The recipe's description of the data: what differs between seeds is only the draw."""
    if not run.recipe.get("data"):
        return str(run.summary.get("partition") or run.folder)
    return json.dumps(flatten({"data": run.recipe["data"]}), sort_keys=True, default=str)


def _picture(run: RunData, draws: int, prefix: str) -> Picture:
    data: Any = run.recipe.get("data")
    title = call(data) if isinstance(data, dict) else data_name(run)
    seed = "" if run.seed is None else f"The draw of seed {run.seed}"
    others = f", one of {draws} draws" if draws > 1 and seed else ""
    told = str(run.summary.get("partition") or "")
    caption = f"{seed}{others}." if seed else ""
    caption += f" Hash {told[:12]}." if told else ""
    try:
        return Picture(title, caption.strip(), embed(_draw(run), prefix, f"Partition of the data: {title}", _COLOURS))
    except (FedSepError, ImportError, AttributeError, OSError, ValueError, KeyError, ParseError) as error:
        return Picture(title, f"No picture: {error}.".replace("..", "."), None)


def _draw(run: RunData) -> str:
    path = run.folder / "partition.npz"
    if not path.exists():
        raise FedSepError(f"{path} is missing")
    from fedsep.data.partition import Partition

    return Partition.load(path).picture()
