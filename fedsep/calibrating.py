"""Models with static batch normalisation are evaluated with statistics of training data, measured then and there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from fedsep.core import Params, Samples, Task
from fedsep.models.calibration import calibrated, is_static
from fedsep.tasks.pure import Pure

AT_ONCE = 500
"""Examples of one pass; a last batch is never shorter than half of it unless it is the only one."""


def with_statistics(task: Task, params: Params, batches: Callable[[], Sequence[Tensor]]) -> Params:
    """Parameters with the statistics that the task's model needs in evaluation; as they are if it needs none."""
    model = static_model(task)
    if model is None:
        return params
    own: Callable[[Params, Sequence[Tensor]], Params] | None = getattr(task, "calibrated", None)
    return calibrated(model, params, batches()) if own is None else own(params, batches())


def static_model(task: Task | None) -> Pure | None:
    """The model of a task if it has static batch normalisation: it cannot be evaluated without statistics of data."""
    model = getattr(task, "model", None)
    return model if isinstance(model, Pure) and is_static(model.module) else None


def of_samples(samples: Samples, count: int) -> Sequence[Tensor]:
    """Inputs of ``count`` examples of one client."""
    return batches(spread(samples, count))


def batches(x: Tensor) -> Sequence[Tensor]:
    """Batches of about equal size, each with examples from all over."""
    pieces = max(1, round(len(x) / AT_ONCE))
    return list(_strided(x, pieces))


def _strided(x: Tensor, pieces: int) -> Iterator[Tensor]:
    for piece in range(pieces):
        yield x[piece::pieces]


def spread(samples: Samples, count: int) -> Tensor:
    """Inputs of examples at equal distances."""
    count = min(count, samples.size)
    index = torch.arange(count, device=samples.y.device) * samples.size // count
    return samples.take(index).x
