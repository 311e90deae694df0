"""From a figure and a scale to results folders: each is an ordinary recipe, made from the figure's by changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fedsep.core import FedSepError
from fedsep.paper.lines import Line, Tries
from fedsep.paper.scales import SPLITS, Scale
from fedsep.recipes import Change

Block = Mapping[str, Any]
"""A method of a recipe."""


class Choice(NamedTuple):
    """What tuning chose for a line on a split."""

    argument: str
    value: Any


Chosen = Mapping[tuple[str, str], Choice]
"""Choices by split and line."""


@dataclass(frozen=True)
class Cell:
    """The runs of one results folder.

    Attributes:
        folder: Below the figure's own.
        split: How the data are dealt.
        p: Communication dimension; None: methods that have none.
        lines: Names of the lines in it.
        changes: What makes its recipe from the figure's.
    """

    folder: str
    split: str
    p: int | None
    lines: tuple[str, ...]
    changes: tuple[Change, ...]


def cells(scale: Scale, lines: Sequence[Line], blocks: Mapping[str, Block], chosen: Chosen) -> list[Cell]:
    """Every cell of a figure: first what has most seeds, so that something can be looked at early.

    Args:
        scale: What is run.
        lines: The figure's.
        blocks: The recipe's methods by name.
        chosen: What tuning chose; where nothing is chosen, the recipe's values stay.
    """
    ps = sorted(scale.ps, key=lambda p: -len(scale.seeds_at(p)))
    made = [_cell(scale, lines, blocks, chosen, split, p) for split in scale.splits for p in (None, *ps)]
    return [cell for cell in made if cell.lines]


def tuning(scale: Scale, lines: Sequence[Line], blocks: Mapping[str, Block], split: str) -> tuple[Cell, list[str]]:
    """The recipe of the runs that try settings, and the grid: ``--grid`` of ``fedsep sweep``."""
    own = {line.name: line.tries for line in lines if isinstance(line.tries, Tries)}
    changed = [_block(scale, line, blocks, scale.tune_at, None) for line in lines if line.name in own]
    grid = [f"methods.{name}.{tries.argument}={_values(tries, scale)}" for name, tries in own.items()]
    return (
        Cell(
            f"{split}/tuning",
            split,
            scale.tune_at,
            tuple(own),
            _changes(scale, split, changed, (scale.tune_seed,), scale.tune_rounds),
        ),
        grid,
    )


def chosen_by(sweeps: Mapping[str, Mapping[str, Any]], lines: Iterable[Line]) -> dict[tuple[str, str], Choice]:
    """What sweeps chose, also for lines that take another one's choice.

    Args:
        sweeps: ``sweep.json`` by split.
        lines: The figure's.

    Raises:
        FedSepError: Of some line all settings failed.
    """
    found: dict[tuple[str, str], Choice] = {}
    for split, sweep in sweeps.items():
        for line in lines:
            of = line.tries if isinstance(line.tries, str) else line.name
            record = sweep["chosen"].get(of)
            if record is None:
                raise FedSepError(f"no setting of {of} could be chosen on {split}: each of them failed")
            [(path, value)] = record["settings"].items()
            found[split, line.name] = Choice(path.rpartition(".")[2], value)
    return found


def named(blocks: Iterable[Block]) -> dict[str, Block]:
    """A recipe's methods by name."""
    from fedsep.recipes.names import method_names

    listed = list(blocks)
    return dict(zip(method_names(listed), listed, strict=True))


def _cell(
    scale: Scale, lines: Sequence[Line], blocks: Mapping[str, Block], chosen: Chosen, split: str, p: int | None
) -> Cell:
    own = [line for line in lines if (line.follows_p and line.where(p) if p is not None else not line.follows_p)]
    changed = [_block(scale, line, blocks, p, chosen.get((split, line.name))) for line in own]
    where = f"{split}/{'any_p' if p is None else f'p{p}'}"
    names = tuple(line.name for line in own)
    return Cell(where, split, p, names, _changes(scale, split, changed, scale.seeds_at(p), scale.rounds))


def _block(scale: Scale, line: Line, blocks: Mapping[str, Block], p: int | None, choice: Choice | None) -> Block:
    follows = line.at(p) if p is not None and line.follows_p else {}
    picked = {choice.argument: choice.value} if choice else {}
    return {"name": line.name, **blocks[line.name], **follows, **scale.arguments, **picked}


def _changes(
    scale: Scale, split: str, methods: Sequence[Block], seeds: tuple[int, ...], rounds: int
) -> tuple[Change, ...]:
    given: dict[tuple[str, ...], Any] = {(key,): value for key, value in scale.blocks.items()}
    given[("seed",)] = list(seeds)
    given[("rounds",)] = rounds
    given[("data", "partition")] = SPLITS[split]
    given[("evaluate", "every")] = min(scale.every, rounds)
    given[("methods",)] = list(methods)
    return tuple(Change(path, plain(value), f"scale {scale.name}") for path, value in given.items())


def plain(value: Any) -> Any:
    """Mappings as blocks of a recipe, which may be written to."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def _values(tries: Tries, scale: Scale) -> str:
    return ",".join(f"{value:g}" for value in tries.values[: scale.tries])
