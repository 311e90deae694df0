"""From rows and settings to results folders: each is an ordinary recipe, made from the table's by changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedsep.core import FedSepError
from fedsep.paper.cells import Block, Cell, plain
from fedsep.paper.table1.rows import ROWS, Row
from fedsep.paper.table1.settings import Scale, Setting
from fedsep.recipes import Change

Rates = Mapping[tuple[str, str], float]
"""Learning rates that were chosen, by setting and row."""

METRIC = "served_accuracy"
"""What learning rates are chosen by, on validation data: the table's own figure. Without full-size clients the whole
model of some methods has units that nobody trains, and says little about a rate."""


@dataclass(frozen=True)
class Part:
    """Rows of a setting that share a recipe: its seeds and its model."""

    setting: Setting
    folder: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]


def parts(scale: Scale, rows: Sequence[Row] = ROWS) -> list[Part]:
    """Every setting's rows, those with most seeds first."""
    made: list[Part] = []
    for setting in scale.settings:
        if unknown := set(setting.rows) - {row.name for row in ROWS}:
            raise FedSepError(f"{setting.name}: there are no rows {', '.join(sorted(unknown))}")
        groups: dict[tuple[tuple[int, ...], str], list[Row]] = {}
        for row in (row for row in rows if row.where(setting) and row.name in (setting.rows or (row.name,))):
            seeds = setting.seeds if row.main or setting.fewer is None else setting.fewer
            if seeds:
                groups.setdefault((seeds, _suffix(row, setting)), []).append(row)
        for (seeds, suffix), own in sorted(groups.items(), key=lambda item: -len(item[0][0])):
            which = "" if setting.fewer is None else ("main" if seeds == setting.seeds else "more")
            folder = "_".join(part for part in (which, suffix) if part) or "all"
            made.append(Part(setting, f"{setting.name}/{folder}", tuple(own), seeds))
    return made


def cells(
    scale: Scale, blocks: Mapping[str, Block], rates: Rates, rows: Sequence[Row] = ROWS
) -> list[tuple[Part, Cell]]:
    """The results folders of a scale.

    Args:
        scale: What is run.
        blocks: The recipe's methods by name.
        rates: What tuning chose; where nothing is chosen, the recipe's learning rate stays.
        rows: Of the table.
    """
    return [(part, _cell(scale, part, blocks, rates, part.seeds, None)) for part in parts(scale, rows)]


def tuning(scale: Scale, blocks: Mapping[str, Block], rows: Sequence[Row] = ROWS) -> list[tuple[Part, Cell, list[str]]]:
    """Of every part whose setting is tuned: the recipe of the runs that try, and the grid."""
    made: list[tuple[Part, Cell, list[str]]] = []
    for part in parts(scale, rows):
        if part.setting.tries:
            tried = Part(part.setting, f"tuning/{part.folder}", part.rows, (scale.tune_seed,))
            made.append((tried, _cell(scale, tried, blocks, {}, tried.seeds, scale.tune_rounds), wider(part, {})))
    return made


def wider(part: Part, best: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The grid of a part, with one further rate for every row whose best so far is at the grid's end.

    Args:
        part: Whose rows are tuned.
        best: Chosen settings by path, of the rows of which all rates of the grid were tried.
    """
    rates = {name: next(iter(settings.values())) for name, settings in best.items()}
    return [_axis(part.setting, row.name, rates.get(row.name)) for row in part.rows]


def _axis(setting: Setting, row: str, best: float | None) -> str:
    return f"methods.{row}.lr=" + ",".join(f"{rate:g}" for rate in (*setting.tries, *setting.further(best)))


def chosen(sweeps: Sequence[tuple[Part, Mapping[str, Any]]]) -> dict[tuple[str, str], float]:
    """Learning rates from ``sweep.json`` of every tuned part: each setting has its own.

    Raises:
        FedSepError: Of some row all rates failed.
    """
    found: dict[tuple[str, str], float] = {}
    for part, sweep in sweeps:
        for row in part.rows:
            record = sweep["chosen"].get(row.name)
            if record is None:
                raise FedSepError(f"no learning rate of {row.name} could be chosen in {part.setting.name}: each failed")
            [found[part.setting.name, row.name]] = record["settings"].values()
    return found


def _suffix(row: Row, setting: Setting) -> str:
    return row.name if row.model(setting) else ""


def _cell(
    scale: Scale, part: Part, blocks: Mapping[str, Block], rates: Rates, seeds: tuple[int, ...], rounds: int | None
) -> Cell:
    setting = part.setting
    methods = [_block(setting, row, blocks, rates.get((setting.name, row.name))) for row in part.rows]
    validation, public = setting.held_out
    evaluated = [at for at in setting.evaluated if rounds is None or at <= rounds] or [rounds]
    given: dict[tuple[str, ...], Any] = {
        ("seed",): list(seeds),
        ("rounds",): rounds or setting.rounds,
        ("data",): {
            "use": f"fedsep.data.{setting.data}",
            "clients": setting.clients,
            "partition": {"use": "fedsep.data.classes", "k": setting.k, **setting.partition},
            "validation": validation,
            "public": public,
        },
        ("model",): {**setting.model, **part.rows[0].model(setting)},
        ("cohort",): {
            "per_round": setting.per_round,
            "capabilities": list(setting.capabilities),
            "draw": setting.draw,
        },
        ("evaluate",): {
            "rounds": evaluated,
            "served": list(setting.levels),
            "average": 0.8,
            "held": 0.25,
            "calibration": setting.calibration,
            # Learning rates are chosen on validation data, and levels are of test data.
            **({} if rounds else {"levels": list(setting.capabilities)}),
        },
        ("methods",): methods,
    }
    if scale.engine is not None:
        given["engine",] = scale.engine
    changes = tuple(Change(path, plain(value), f"scale {scale.name}") for path, value in given.items())
    return Cell(part.folder, setting.name, None, tuple(row.name for row in part.rows), changes)


def _block(setting: Setting, row: Row, blocks: Mapping[str, Block], rate: float | None) -> Block:
    picked = {} if rate is None else {"lr": rate}
    own = setting.own.get(row.name, {})
    made = {"name": row.name, **blocks[row.name], **row.at(setting), **setting.arguments, **own, **picked}
    return {name: value for name, value in made.items() if value is not None}
