"""The rows of the table: methods of the recipe, what changes in them with the setting, and what the paper says of them.

A recipe, ``recipes/paper/table1.yaml``, holds the methods as they are in the first setting. A new row is one entry here
and one block there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedsep.paper.table1.settings import Setting

KINDS = {
    "kd": "distillation",
    "pt": "partial training",
    "fedsep": "FedSep",
    "bound": "homogeneous",
    "control": "controls",
}
"""Groups of rows, in the order in which they stand."""

Published = Mapping[str, tuple[float, float]]
"""The paper's test accuracy, mean and deviation in per cent, by data set and classes of a client."""


def _everywhere(setting: Setting) -> bool:
    return True


def _nothing(setting: Setting) -> dict[str, Any]:
    return {}


def _zoo(setting: Setting) -> dict[str, Any]:
    return {"zoo": setting.zoo(shared_head=False)}


def _zoo_of_one_head(setting: Setting) -> dict[str, Any]:
    return {"zoo": setting.zoo(shared_head=True)}


def _widths(setting: Setting) -> dict[str, Any]:
    return {"widths": sorted(setting.capabilities)}


def _smallest(setting: Setting) -> dict[str, Any]:
    return {"width": min(setting.capabilities)}


def _largest(setting: Setting) -> dict[str, Any]:
    return {"width": max(setting.capabilities)}


def _full_size(setting: Setting) -> bool:
    return max(setting.capabilities) == 1.0


def _variants(setting: Setting) -> bool:
    return setting.variants


def _rounds(setting: Setting) -> dict[str, Any]:
    """Masks move in the first half of a run, as in FedDST's own experiments."""
    return {"until": max(1, setting.rounds // 2)}


def _until_the_end(setting: Setting) -> dict[str, Any]:
    return {"until": setting.rounds}


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        name: The method's name in the recipe, and of its runs' folders.
        label: In the table.
        kind: Of ``KINDS``.
        published: What the paper says.
        at: Its arguments in a setting.
        where: The settings in which it is run.
        main: Whether it has all seeds in every setting of a scale that spares some.
        model: Arguments of the setting's model that are this row's own.
    """

    name: str
    label: str
    kind: str
    published: Published = field(default_factory=dict[str, tuple[float, float]])
    at: Callable[[Setting], Mapping[str, Any]] = _nothing
    where: Callable[[Setting], bool] = _everywhere
    main: bool = False
    model: Callable[[Setting], Mapping[str, Any]] = _nothing


def _paper(*figures: float) -> dict[str, tuple[float, float]]:
    """Accuracies and deviations as they stand in a row of the paper's table."""
    columns = ("cifar10 2", "cifar100 20", "cifar10 5", "cifar100 50")
    return {name: (figures[2 * at], figures[2 * at + 1]) for at, name in enumerate(columns)}


def _own_head(setting: Setting) -> Mapping[str, Any]:
    """Fed-ET's networks have heads of one shape, whatever their width."""
    return setting.head


OURS = "importance"
"""The row that is compared with all others."""

ROWS = (
    Row("feddf", "FedDF", "kd", _paper(73.81, 0.42, 31.87, 0.46, 76.55, 0.32, 37.87, 0.31), _zoo),
    Row("dsfl", "DS-FL", "kd", _paper(65.27, 0.53, 29.12, 0.51, 68.44, 0.47, 33.56, 0.55), _zoo),
    Row(
        "fedet",
        "Fed-ET",
        "kd",
        _paper(78.66, 0.31, 35.78, 0.45, 81.13, 0.28, 41.58, 0.36),
        _zoo_of_one_head,
        model=_own_head,
    ),
    Row("heterofl", "HeteroFL", "pt", _paper(63.90, 2.74, 52.38, 0.80, 73.19, 1.71, 57.44, 0.42), main=True),
    Row(
        "federated_dropout",
        "Federated Dropout",
        "pt",
        _paper(46.64, 3.05, 45.07, 0.07, 76.20, 2.53, 46.40, 0.21),
        main=True,
    ),
    Row("zerofl", "ZeroFL", "pt", _paper(64.61, 2.18, 51.39, 0.45, 83.31, 0.78, 53.62, 0.51)),
    Row("zerofl_sent", "ZeroFL, largest changes, divided by senders", "pt", where=_variants),
    Row("zerofl_width", "ZeroFL, density p", "pt", where=_variants),
    Row("feddst", "FedDST", "pt", _paper(67.65, 1.27, 54.21, 0.34, 84.57, 0.28, 54.97, 0.44), _rounds),
    Row("feddst_width", "FedDST, density p", "pt", at=_rounds, where=_variants),
    Row("flash", "Flash", "pt", _paper(67.08, 1.46, 54.92, 0.29, 84.61, 0.37, 55.04, 0.32), _until_the_end),
    Row("flash_width", "Flash, density p", "pt", at=_until_the_end, where=_variants),
    Row("fedrolex", "FedRolex", "pt", _paper(69.44, 1.50, 56.57, 0.15, 84.45, 0.36, 58.73, 0.33), main=True),
    Row("fjord", "Fjord", "pt", at=_widths),
    Row("splitmix", "Split-Mix", "pt", main=True),
    Row("fedsep_mask", "FedSep mask", "fedsep", _paper(71.13, 0.94, 58.16, 0.25, 84.61, 0.37, 61.41, 0.29), main=True),
    Row("fedsep_mask_mean", "FedSep mask, divided by all (Remark 3)", "fedsep"),
    Row("fedsep_shared", "FedSep, one plan by averaged scores", "fedsep"),
    Row("importance", "HeteroFL, importance-weighted (ours)", "fedsep", main=True),
    Row("smallest", "smallest", "bound", _paper(38.82, 0.88, 12.69, 0.50, 46.86, 0.54, 19.70, 0.34), _smallest),
    Row("largest", "largest", "bound", _paper(75.74, 0.42, 60.89, 0.60, 84.48, 0.58, 62.51, 0.20), _largest),
    Row("full_size_only", "only full-size clients", "control", where=_full_size),
    Row("half_and_more", "only clients of 1/2 and more", "control"),
    Row("shuffled", "importance, shuffled", "control"),
    Row("kept_random", "random masks, kept", "control"),
    Row("shared_random", "one random plan a round", "control"),
)
"""All rows, in the order of the table."""
