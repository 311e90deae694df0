"""Whether a method suits its fleet: capabilities that cannot be cut, minibatches that are too small, missing data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedsep.cohort import Cohort
from fedsep.core import Algorithm, Task
from fedsep.engines.engine import Fleet
from fedsep.models.calibration import is_static
from fedsep.tasks.pure import Pure


def mistakes(algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, cohort: Cohort) -> list[str]:
    """What is wrong with a method for these clients, as sentences."""
    view: Any = getattr(algorithm, "view", None)
    found = list(dict.fromkeys(view.mistakes(cohort.capabilities))) if hasattr(view, "mistakes") else []
    return found + _batches_of_one(algorithm, task, fleet) + _nothing_to_score_on(algorithm, fleet)


def _batches_of_one(algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet) -> list[str]:
    """Static batch normalisation has no statistics of one example."""
    model, size = getattr(task, "model", None), _batch_size(algorithm)
    if size is _UNKNOWN or not isinstance(model, Pure) or not is_static(model.module):
        return []
    sizes = ((client, fleet.shard(client).train.size) for client in _here(fleet))
    client, n = next(((c, n) for c, n in sizes if n == 1 or size == 1 or (size and n % size == 1)), (0, 0))
    if not n:
        return []
    return [
        f"batch_size must leave no minibatch of one example, since the model has static batch normalisation "
        f"(got {size}; client {client} has {n} training examples): choose another, or a model with norm=group"
    ]


def _nothing_to_score_on(algorithm: Algorithm[Any, Any], fleet: Fleet) -> list[str]:
    """Scores that are fitted to validation data need some of every client."""
    scorer: Any = getattr(getattr(algorithm, "codec", None), "scorer", None)
    if getattr(scorer, "data", "train") != "validation":
        return []
    parts = ((client, fleet.shard(client).validation) for client in _here(fleet))
    client = next((client for client, part in parts if part is None or not part.size), None)
    if client is None:
        return []
    return [
        f"scores must be fitted to training data where clients have no validation data (got data=validation; client "
        f"{client} has none): set validation in data, or make it larger"
    ]


def _here(fleet: Fleet) -> Sequence[int]:
    """Clients whose data are here: at a site, or for a server whose data lie at sites, not all."""
    return getattr(fleet, "present", range(fleet.clients))


_UNKNOWN = object()


def _batch_size(algorithm: object) -> Any:
    """Of a method's local steps, however they are wrapped; None takes all examples."""
    part: object = getattr(algorithm, "learner", None)
    while part is not None:
        if hasattr(part, "batch_size"):
            return part.batch_size  # type: ignore[attr-defined]
        part = getattr(part, "learner", None) or getattr(part, "sgd", None)
    return _UNKNOWN
