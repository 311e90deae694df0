"""One stage of Algorithm 1 at a time, on fresh independent examples: the draws are copies of a single call."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fedsep.core import Ctx, Decoded, Shard
from fedsep.random import fold, key
from fedsep.theory.quadratic import Quadratic
from fedsep.theory.settings import Settings, method

_NUMBERS = 4_000_000
"""Numbers that the examples of one call may have."""


def encoded(
    bed: Quadratic, client: int, settings: Settings, y: Tensor, v: Tensor, x: Tensor, draws: int, seed: int
) -> Tensor:
    """``draws`` independent encodes of v at (x, y), shape (draws, p): each minibatch is of examples of its own."""
    count = None if settings.encode_batch is None else settings.encode_batch * (settings.terms + 1)
    made: list[Tensor] = []
    for copies, shard, ctx in _calls(bed, client, count, draws, seed):
        codec = method(bed, settings, copies).codec
        here, moved = y.expand(copies, -1), (y + v).expand(copies, -1)
        at = {"x": x.expand(copies, -1)}
        made.append(
            codec.encode(Decoded({"y": here}, residual=torch.zeros(())), {"y": moved}, at, (), shard, ctx)[0]["x"]
        )
    return torch.cat(made)


def decoded(bed: Quadratic, client: int, settings: Settings, x: Tensor, draws: int, seed: int) -> Tensor:
    """``draws`` independent decodes of x from y_0 = 0, shape (draws, d)."""
    count = None if settings.batch is None else settings.batch * settings.decode_steps
    made: list[Tensor] = []
    for copies, shard, ctx in _calls(bed, client, count, draws, seed):
        start, _ = method(bed, settings, copies).codec.decode({"x": x.expand(copies, -1)}, (), shard, ctx)
        made.append(start.y["y"])
    return torch.cat(made)


def learned(bed: Quadratic, client: int, settings: Settings, y: Tensor, draws: int, seed: int) -> Tensor:
    """``draws`` independent results of the learning stage from y, shape (draws, d)."""
    count = None if settings.batch is None else settings.batch * settings.steps
    made: list[Tensor] = []
    for copies, shard, ctx in _calls(bed, client, count, draws, seed):
        learner = method(bed, settings, copies).learner
        made.append(learner.learn(Decoded({"y": y.expand(copies, -1)}), shard, ctx)[0]["y"])
    return torch.cat(made)


def _calls(bed: Quadratic, client: int, count: int | None, draws: int, seed: int) -> Iterator[tuple[int, Shard, Ctx]]:
    """Splits the draws into calls whose examples fit memory; ``count`` None means no noise, and one call."""
    if count is None:
        samples = bed.samples(client, 1, 1, key(seed), centred=True)
        yield 1, Shard(samples), Ctx(0, 1.0, key(seed))
        return
    d, p = bed.sizes
    most = max(1, _NUMBERS // (count * (2 * d * d + d * p + d)))
    for number, first in enumerate(range(0, draws, most)):
        copies, drawn = min(most, draws - first), fold(key(seed), number)
        yield copies, Shard(bed.samples(client, count, copies, drawn)), Ctx(0, 1.0, drawn)


def standard_error(values: Tensor) -> float:
    """Of the mean of independent numbers, shape (draws,); 0 for a single one."""
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else 0.0
