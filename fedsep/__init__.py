"""Federated learning in which what is communicated and what is learned are different parameters.

Read ``core.py`` first, then ``fedsep.py``: Algorithm 1 in its five parts.
"""

from fedsep import algorithms, codecs, data, engines, learners, models, servers, tasks, views, wires
from fedsep.core import (
    Algorithm,
    Batch,
    Codec,
    Ctx,
    Decoded,
    Failure,
    FedSepError,
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
from fedsep.train import Checkpoint, Cohort, Evaluate, Interrupted, Progress, Run, RunFailed, Stop, fit

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "Batch",
    "Checkpoint",
    "Codec",
    "Cohort",
    "Ctx",
    "Decoded",
    "Evaluate",
    "Failure",
    "FedSep",
    "FedSepError",
    "Interrupted",
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
    "learners",
    "models",
    "servers",
    "tasks",
    "views",
    "wires",
]
