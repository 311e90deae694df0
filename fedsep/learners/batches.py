"""Minibatches by key: without replacement inside an epoch, a new order in every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from fedsep.core import Batch, FedSepError, Samples
from fedsep.looking import sent
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
    yield from map(samples.take, positions(key, samples.size, batch_size, count))


def minibatches_together(
    samples: Sequence[Samples], keys: Tensor, batch_size: int | None, count: int
) -> Iterator[Batch]:
    """The ``minibatches`` of several clients, a key each, stacked step by step; each client's are the same as its own.

    Raises:
        FedSepError: The clients do not have equally many examples.
    """
    size = samples[0].size
    if any(each.size != size for each in samples):
        raise FedSepError("clients have different numbers of examples, and minibatches of different sizes")
    take = _taker(samples)
    if batch_size is None or batch_size >= size:
        whole = take(torch.arange(size, device=samples[0].y.device).expand(len(samples), size))
        for _ in range(count):
            yield whole
        return
    yield from map(take, positions(keys, size, batch_size, count))


def positions(keys: Tensor, size: int, batch_size: int, count: int) -> Iterator[Tensor]:
    """The examples of ``count`` minibatches, as positions among ``size`` of them, in a new order in every epoch.

    Args:
        keys: One, or one for each of several clients; their minibatches then lie along a first dimension.
        size: Number of examples.
        batch_size: Of a minibatch; the last of an epoch may be smaller.
        count: Number of minibatches.
    """
    each = max(1, math.ceil(size / batch_size))
    for epoch in range(math.ceil(count / each)):
        drawn = fold(keys, epoch)
        orders = permutation(drawn[:, None] if drawn.ndim else drawn, size)
        yield from orders.split(batch_size, -1)[: count - epoch * each]


def _taker(samples: Sequence[Samples]) -> Callable[[Tensor], Batch]:
    """Stacks rows of several clients, told as (clients, rows); normalises at once where constants are shared."""
    first, whole = samples[0], _whole(samples)
    shared = all(each.shift is first.shift and each.scale is first.scale for each in samples)

    def take(index: Tensor) -> Batch:
        if whole is not None and shared:
            rows, starts = whole
            x, y = rows.rows((index + starts[:, None]).flatten())
            return Batch(*(part.unflatten(0, index.shape) for part in (first.normalised(x), y)))
        parts = [each.take(at) for each, at in zip(samples, index, strict=True)]
        return Batch(torch.stack([part.x for part in parts]), torch.stack([part.y for part in parts]))

    return take


def _whole(samples: Sequence[Samples]) -> tuple[Samples, Tensor] | None:
    """The set of which all clients' samples are slices, and where each starts; None if there is none."""
    x, y = samples[0].x._base, samples[0].y._base
    if x is None or y is None or len(x) != len(y):
        return None
    starts: list[int] = []
    for each in samples:
        at = [_start(part, whole) for part, whole in ((each.x, x), (each.y, y))]
        if at[0] is None or at[0] != at[1]:
            return None
        starts.append(at[0])
    return Samples(x, y), sent(starts, y.device)


def _start(part: Tensor, whole: Tensor) -> int | None:
    """The first row of a slice of a tensor's rows; None if it is not one."""
    if part._base is not whole or part.shape[1:] != whole.shape[1:] or part.stride() != whole.stride():
        return None
    return (part.storage_offset() - whole.storage_offset()) // whole.stride(0)
