"""Minibatches by key: without replacement inside an epoch, a new order in every epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from fedsep.core import Batch, Samples
from fedsep.random import fold, permutation


def per_epoch(samples: Samples, batch_size: int) -> int:
    """Minibatches in an epoch; the last may be smaller."""
    return math.ceil(samples.size / batch_size)


def minibatches(samples: Samples, key: Tensor, batch_size: int | None, count: int) -> Iterator[Batch]:
    """``count`` minibatches, epoch after epoch; None as batch size means all examples, in their order."""
    if batch_size is None or batch_size >= samples.size:
        whole = samples.all()
        for _ in range(count):
            yield whole
        return
    each = per_epoch(samples, batch_size)
    for epoch in range(math.ceil(count / each)):
        order = permutation(fold(key, epoch), samples.size)
        for index in order.split(batch_size)[: count - epoch * each]:
            yield samples.take(index)
