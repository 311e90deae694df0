"""The ablations that section 5.1 announces: one argument at a time, the others as in the recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fedsep.paper.cells import Block, Cell
from fedsep.paper.scales import DIGITS, Scale
from fedsep.recipes import Change

METHOD = "fedsep_lasso"
"""The recipe's method, which every variant changes."""

DEFAULT = "default"
"""Folder of the recipe as it is, which every axis shares."""


class Variant(NamedTuple):
    """A value of an axis: its name, and the arguments that make it; nothing where it is the recipe's own."""

    label: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Axis:
    """What is varied.

    Attributes:
        name: Of its folder.
        label: In words, with the paper's letter.
        variants: Its values.
        clients: Whether the clients' own decoded models are shown, since the server's is nobody's.
    """

    name: str
    label: str
    variants: tuple[Variant, ...]
    clients: bool = False


def _axis(name: str, label: str, argument: str, own: float, values: Sequence[float]) -> Axis:
    told = [Variant(f"{value:g}", {} if value == own else {argument: value}) for value in values]
    return Axis(name, label, tuple(told))


AXES = (
    _axis("steps", "learning steps I", "steps", 5, (1, 5, 20)),
    _axis("decode_steps", "decode steps I_dec", "decode_steps", 10, (3, 10, 100)),
    _axis("terms", "terms Q of the Neumann series", "terms", 100, (10, 100, 500)),
    _axis("beta", "beta, in units of |S^T x_1|", "beta", 0.003, (0.001, 0.003, 0.01)),
    Axis("sketch", "sketch S", (Variant("shared", {}), Variant("private", {"private": True})), clients=True),
    Axis(
        "decodes",
        "decodes a round, of 5 learning steps",
        (Variant("1", {}), Variant("2", {"decodes": 2}), Variant("5", {"decodes": 5})),
    ),
)
"""All axes. A sketch is shared or private: there is no third value."""

SCALES: Mapping[str, Scale] = {
    "smoke": Scale(
        name="smoke",
        told="smoke: a few rounds on 8 x 8 digits, which shows that everything runs and nothing else",
        rounds=1,
        every=1,
        ps=(50,),
        splits=("iid",),
        blocks={**DIGITS, "data": {**DIGITS["data"], "clients": 3}, "cohort": {"per_round": 3}},
        arguments={"p": 50, "batch_size": 16},
    ),
    "small": Scale("small", "small: 100 rounds, one seed", 100, 5, (1000,), splits=("iid",)),
    "paper": Scale("paper", "paper: 200 rounds, three seeds", 200, 10, (1000,), splits=("iid",), seeds=(0, 1, 2)),
}
"""How much is run."""


def cells(scale: Scale, block: Block) -> list[Cell]:
    """The recipe as it is, then every other value of every axis."""
    made = [_cell(scale, DEFAULT, block, {})]
    for axis in AXES:
        varied = [variant for variant in axis.variants if variant.arguments]
        made += [_cell(scale, folder(axis, variant), block, variant.arguments) for variant in varied]
    return made


def folder(axis: Axis, variant: Variant) -> str:
    """Where a variant's runs lie, below the ablation's folder."""
    return f"{axis.name}/{variant.label}" if variant.arguments else DEFAULT


def _cell(scale: Scale, where: str, block: Block, arguments: Mapping[str, Any]) -> Cell:
    method = _method({**block, **scale.arguments, **arguments})
    changes: dict[tuple[str, ...], Any] = {(key,): value for key, value in scale.blocks.items()}
    changes |= {("seed",): list(scale.seeds), ("rounds",): scale.rounds, ("evaluate", "every"): scale.every}
    changes[("methods",)] = [method]
    told = tuple(Change(path, value, f"scale {scale.name}") for path, value in changes.items())
    return Cell(where, "iid", None, (METHOD,), told)


def _method(block: dict[str, Any]) -> dict[str, Any]:
    """The method's block; with ``decodes`` it is wrapped."""
    decodes = block.pop("decodes", None)
    if decodes is None:
        return {"name": METHOD, **block}
    inner = {key: value for key, value in block.items() if key != "name"}
    return {"name": METHOD, "use": "fedsep.paper.stepwise.stepwise", "decodes": decodes, "of": inner}
