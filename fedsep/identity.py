"""What a run is made of, as plain values: a checkpoint goes on only in a run that is made of the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor

from fedsep.core import Params

_FREE = {"rounds", "engine", "evaluate", "checkpoint", "stop", "out", "device"}
"""Parts of a recipe that a resumed run may change: they do not change what a round computes."""
_FREE_DATA = {"data_dir", "download"}


def describe(value: object) -> Any:
    """A description of a value that is equal in two processes if the values were made alike.

    Numbers and strings stand for themselves; of tensors and modules only the shapes count, of functions the
    name, of dataclasses the fields (not the private ones: they may be caches). Nothing in it depends on
    addresses in memory or on the order of sets.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, torch.nn.Module):
        return {"is": _name(value), "parameters": {name: describe(part) for name, part in value.named_parameters()}}
    if isinstance(value, Mapping):
        return {str(key): describe(part) for key, part in cast(Mapping[object, object], value).items()}
    if isinstance(value, list | tuple):
        return [describe(part) for part in cast(list[object], value)]
    return _describe_object(value)


def _describe_object(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        public = [field.name for field in fields(value) if field.compare and not field.name.startswith("_")]
        return {"is": _name(value)} | {name: describe(getattr(value, name)) for name in public}
    if isinstance(value, partial):
        return {"is": describe(value.func), "args": describe(value.args), "keywords": describe(value.keywords)}
    return getattr(value, "__qualname__", None) or _name(value)


def _name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def identify(
    *,
    algorithm: object,
    params: Params,
    fleet: Any,
    cohort: object,
    seed: int,
    states: str,
    recipe: Mapping[str, Any] | None,
    chosen: Mapping[str, object] = MappingProxyType({}),
) -> dict[str, Any]:
    """Everything that a checkpoint must have in common with the run that goes on from it, ready for JSON.

    Args:
        algorithm: The method.
        params: The model's initial parameters.
        fleet: The data.
        cohort: Who takes part.
        seed: The run's.
        states: Where memories live.
        recipe: The run's, if it has one.
        chosen: What most runs do without: a part that is None is left out.
    """
    kept = {key: part for key, part in (recipe or {}).items() if key not in _FREE}
    if isinstance(kept.get("data"), Mapping):
        kept["data"] = {key: part for key, part in kept["data"].items() if key not in _FREE_DATA}
    identity = {
        "seed": seed,
        "method": describe(algorithm),
        "model": describe(params),
        "data": {
            "name": getattr(fleet, "name", None),
            "clients": fleet.clients,
            "partition": getattr(getattr(fleet, "partition", None), "hash", None),
        },
        "cohort": describe(cohort),
        "states": states,
        "recipe": describe(kept),
        **{name: describe(part) for name, part in chosen.items() if part is not None},
    }
    return json.loads(json.dumps(identity))


def differences(there: Any, here: Any, at: str = "") -> list[str]:
    """Where two identities differ, as ``method.learner.lr: 0.1 there, 0.2 here``."""
    if isinstance(there, dict) and isinstance(here, dict):
        there, here = cast(dict[str, Any], there), cast(dict[str, Any], here)
        dot = f"{at}." if at else ""
        names = dict.fromkeys([*there, *here])
        return [line for name in names for line in differences(there.get(name), here.get(name), dot + name)]
    return [] if there == here else [f"{at}: {_short(there)} there, {_short(here)} here"]


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
