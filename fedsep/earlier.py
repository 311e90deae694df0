"""What methods did before an argument was there: a run of an earlier version does not name it in its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

_WITHOUT_CLASSES = {"own_classes": False, "outputs": None}
_ALIKE = {"reduce": "coverage_mean"}

BEFORE: Mapping[str, Mapping[str, Any]] = {
    "fedsep.algorithms.fedsep_mask": {"terms": "first", "damping": 1.0, "bound": 1.0, "common": 0.0},
    "fedsep.algorithms.kept_random": {"common": 0.0},
    "fedsep.algorithms.splitmix": _ALIKE,
    "fedsep.algorithms.homogeneous": _ALIKE,
    "fedsep.algorithms.zerofl": {**_WITHOUT_CLASSES, **_ALIKE, "units": None},
    "fedsep.algorithms.feddst": {**_WITHOUT_CLASSES, **_ALIKE, "units": None},
    "fedsep.algorithms.flash": {**_WITHOUT_CLASSES, **_ALIKE, "units": None},
}
"""By method: arguments that came later, with values under which the method is what it was, whatever the default is."""

_LOCAL = ("lr", "steps", "epochs", "batch_size", "momentum", "weight_decay", "clip", "schedule")
_SINCE: Mapping[str, Any] = {"augment": None}
"""What ``learners.sgd`` takes since, in the block of any method that names all of ``_LOCAL``: its steps are these."""

_BLOCKS: Mapping[str, Mapping[str, Any]] = {
    "data": {"public": None},
    "cohort": {"sampling": "fixed"},
    "evaluate": {
        "statistics": "calibrated",
        "calibration": 2000,
        "served": [],
        "levels": None,
        "held": None,
        "average": None,
    },
}
"""What other blocks of a recipe say since, with what was done before."""
_PARTITIONS: Mapping[str, Mapping[str, Any]] = {"fedsep.data.classes": {"rare": None, "among": None}}
"""The same of the block inside ``data`` that deals examples to clients."""


def comparable(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved recipe of one method with all that recipes say now, so that those of two versions can be compared."""
    found = dict(tree)
    for name, since in _BLOCKS.items():
        if isinstance(found.get(name), Mapping):
            found[name] = {**since, **cast(Mapping[str, Any], found[name])}
    if isinstance(found.get("data"), Mapping) and isinstance(dealt := found["data"].get("partition"), Mapping):
        partition = cast(Mapping[str, Any], dealt)
        found["data"] = {**found["data"], "partition": {**_PARTITIONS.get(str(partition.get("use")), {}), **partition}}
    if isinstance(found.get("method"), Mapping):
        found["method"] = completed(found["method"])
    return found


def completed_recipe(tree: Any) -> Any:
    """A recipe as it was resolved for a run, with what its methods did before arguments that came later."""
    if not isinstance(tree, Mapping):
        return tree
    found = dict(cast(Mapping[str, Any], tree))
    if isinstance(found.get("method"), Mapping):
        found["method"] = completed(found["method"])
    if isinstance(found.get("methods"), list):
        found["methods"] = [completed(each) if isinstance(each, Mapping) else each for each in found["methods"]]
    return found


def completed(block: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved method block with the arguments that came after it was resolved."""
    local = _SINCE if all(name in block for name in _LOCAL) else {}
    return {**local, **BEFORE.get(str(block.get("use")), {}), **block}
