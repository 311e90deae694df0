"""Federated learning in which what is communicated and what is learned are different parameters.

Read ``core.py`` first, then ``fedsep.py``: Algorithm 1 in its five parts. Names are loaded when they are
first used, so that the command line answers before torch is there.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedsep import (
        algorithms,
        codecs,
        data,
        engines,
        implicit,
        learners,
        models,
        operators,
        privacy,
        random,
        servers,
        tasks,
        testing,
        tree,
        views,
        wires,
    )
    from fedsep.core import (
        Algorithm,
        Batch,
        Codec,
        Ctx,
        Decoded,
        Expected,
        Failure,
        FedSepError,
        Invitation,
        Learner,
        Reply,
        Samples,
        Server,
        Shard,
        Task,
        Update,
        View,
        Wire,
    )
    from fedsep.fedsep import FedSep
    from fedsep.train import Accept, Checkpoint, Cohort, Evaluate, Interrupted, Progress, Run, RunFailed, Stop, fit

__version__ = "0.1.0"

__all__ = [
    "Accept",
    "Algorithm",
    "Batch",
    "Checkpoint",
    "Codec",
    "Cohort",
    "Ctx",
    "Decoded",
    "Evaluate",
    "Expected",
    "Failure",
    "FedSep",
    "FedSepError",
    "Interrupted",
    "Invitation",
    "Learner",
    "Progress",
    "Reply",
    "Run",
    "RunFailed",
    "Samples",
    "Server",
    "Shard",
    "Stop",
    "Task",
    "Update",
    "View",
    "Wire",
    "algorithms",
    "codecs",
    "data",
    "engines",
    "fit",
    "implicit",
    "learners",
    "models",
    "operators",
    "privacy",
    "random",
    "servers",
    "tasks",
    "testing",
    "tree",
    "views",
    "wires",
]

_CORE = (
    "Algorithm Batch Codec Ctx Decoded Expected Failure FedSepError Invitation "
    "Learner Reply Samples Server Shard Task Update View Wire"
)
_TRAIN = "Accept Checkpoint Cohort Evaluate Interrupted Progress Run RunFailed Stop fit"
_HOMES = {"FedSep": "fedsep"} | dict.fromkeys(_CORE.split(), "core") | dict.fromkeys(_TRAIN.split(), "train")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"fedsep.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"fedsep.{name}")
    raise AttributeError(f"module 'fedsep' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
