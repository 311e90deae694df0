"""Minibatches by key: without replacement inside an epoch, a new order in every epoch."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from fedsep.core import Batch, FedSepError, Samples
from fedsep.learners.augment import Augment, augmented, draws
from fedsep.looking import sent
from fedsep.random import fold, permutation


def per_epoch(samples: Samples, batch_size: int) -> int:
    """Minibatches in an epoch; the last may be smaller."""
    return math.ceil(samples.size / batch_size)


@functools.lru_cache(maxsize=256)
def lengths(size: int, batch_size: int | None, count: int) -> tuple[int, ...]:
    """How many of ``size`` examples each of ``count`` minibatches has; clients for whom these agree can be stacked."""
    if batch_size is None or batch_size >= size:
        return (size,) * count
    epoch = [min(batch_size, size - at) for at in range(0, size, batch_size)]
    return tuple(itertools.islice(itertools.cycle(epoch), count))


def minibatches(
    samples: Samples, key: Tensor, batch_size: int | None, count: int, augment: Augment | None = None
) -> Iterator[Batch]:
    """``count`` minibatches, epoch after epoch; None as batch size means all examples, in their order.

    Args:
        samples: What they are taken from.
        key: Of their order, and of the augmentation.
        batch_size: Examples in each.
        count: Number of minibatches.
        augment: What becomes of their inputs, with draws of its own in each of them.
    """
    size = samples.size if batch_size is None else min(batch_size, samples.size)
    whole = size == samples.size
    if augment is not None:
        every = itertools.repeat(slice(None), count) if whole else positions(key, samples.size, size, count)
        for step, index in enumerate(every):
            met = samples.size if isinstance(index, slice) else len(index)
            yield augmented(samples, index, draws(key, step, met), augment)
    elif whole:
        yield from itertools.repeat(samples.all(), count)
    else:
        yield from map(samples.take, positions(key, samples.size, size, count))


def minibatches_together(
    samples: Sequence[Samples], keys: Tensor, batch_size: int | None, count: int, augment: Augment | None = None
) -> Iterator[Batch]:
    """The ``minibatches`` of several clients, a key each, stacked step by step; each client's are the same as its own.

    Raises:
        FedSepError: The clients' minibatches are not of the same sizes.
    """
    sizes = [each.size for each in samples]
    if len({lengths(size, batch_size, count) for size in set(sizes)}) > 1:
        raise FedSepError("clients have minibatches of different sizes, or different numbers of them")
    take, order = _taker(samples, augment), _order(sizes, keys, batch_size, count)
    if augment is not None:
        yield from (take(index, draws(keys, step, index.shape[1])) for step, index in enumerate(order))
    elif batch_size is None or max(sizes) <= batch_size:
        for index in itertools.islice(order, 1):
            yield from itertools.repeat(take(index, None), count)
    else:
        yield from (take(index, None) for index in order)


def _order(sizes: Sequence[int], keys: Tensor, batch_size: int | None, count: int) -> Iterator[Tensor]:
    """The examples of each step, a row a client; orders are drawn at once for all clients with equally many."""
    distinct = dict.fromkeys(sizes)
    if len(distinct) == 1:
        return _steps(sizes[0], keys, batch_size, count)
    return _mixed({size: [client for client, own in enumerate(sizes) if own == size] for size in distinct}, keys,
                  batch_size, count)  # fmt: skip


def _mixed(members: Mapping[int, list[int]], keys: Tensor, batch_size: int | None, count: int) -> Iterator[Tensor]:
    each = [_steps(size, keys[sent(own, keys.device)], batch_size, count) for size, own in members.items()]
    back = sent(list(itertools.chain(*members.values())), keys.device).argsort()
    yield from (torch.cat(rows)[back] for rows in zip(*each, strict=True))


def _steps(size: int, keys: Tensor, batch_size: int | None, count: int) -> Iterator[Tensor]:
    if batch_size is None or batch_size >= size:
        return itertools.repeat(torch.arange(size, device=keys.device).expand(len(keys), size), count)
    return positions(keys, size, batch_size, count)


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


def _taker(samples: Sequence[Samples], augment: Augment | None) -> Callable[[Tensor, Tensor | None], Batch]:
    """Stacks rows of several clients, told as (clients, rows); normalises at once where constants are shared."""
    first, whole = samples[0], _whole(samples)
    shared = all(each.shift is first.shift and each.scale is first.scale for each in samples)

    def own(each: Samples, index: Tensor, drawn: Tensor | None) -> Batch:
        if augment is None or drawn is None:
            return each.take(index)
        return augmented(each, index, drawn, augment)

    def take(index: Tensor, drawn: Tensor | None) -> Batch:
        if whole is not None and shared:
            rows, starts = whole
            at = (index + starts[:, None]).flatten()
            like = rows._replace(shift=first.shift, scale=first.scale)
            batch = own(like, at, None if drawn is None else drawn.flatten())
            return Batch(*(part.unflatten(0, index.shape) for part in batch))
        none = itertools.repeat(None)
        told = zip(samples, index, none if drawn is None else drawn, strict=drawn is not None)
        parts = [own(*each) for each in told]
        return Batch(torch.stack([part.x for part in parts]), torch.stack([part.y for part in parts]))

    return take


def _whole(samples: Sequence[Samples]) -> tuple[Samples, Tensor] | None:
    """The set of which all clients' samples are slices, and where each starts; None if there is none."""
    x, y = samples[0].x._base, samples[0].y._base
    if x is None or y is None or len(x) != len(y):
        return None
    starts = _starts([each.x for each in samples], x)
    if starts is None or starts != _starts([each.y for each in samples], y):
        return None
    return Samples(x, y), sent(starts, y.device)


def _starts(parts: Sequence[Tensor], whole: Tensor) -> list[int] | None:
    """The first row of each slice of a tensor's rows; None if one of them is not such a slice."""
    shape, stride, first, row = whole.shape[1:], whole.stride(), whole.storage_offset(), whole.stride(0)
    for part in parts:
        if part._base is not whole or part.stride() != stride or part.shape[1:] != shape:
            return None
    return [(part.storage_offset() - first) // row for part in parts]
