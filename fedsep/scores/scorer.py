"""What decides which units a client keeps: one number a unit, the larger the better."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from fedsep import random
from fedsep.core import Batch, Ctx, Params, Samples, Shard

_EXAMPLES = int.from_bytes(b"scores", "big")  # what the client's key is folded with to draw examples


class Scorer(Protocol):
    """Scores of a model's units on a client's data."""

    def __call__(
        self, parameters: Params, shard: Shard, ctx: Ctx, keep: dict[str, Tensor] | None, /
    ) -> dict[str, Tensor]:
        """By group: a number for each unit, shape (n,), the larger the more is lost without the unit.

        Args:
            parameters: Of the whole model, or of a sub-model.
            shard: The client's data.
            ctx: What both ends know of the client.
            keep: By group, the units that the sub-model has, int64, in its order: numbers for these units alone, in
                this order. None: the model is whole.
        """
        ...


def examples(samples: Samples, ctx: Ctx, images: int, batch_size: int) -> Iterator[Batch]:
    """Some of a client's examples, drawn anew in each round, in minibatches; a last one of one example is left out."""
    order = random.permutation(random.fold(ctx.key, _EXAMPLES), samples.size)[:images]
    for number, index in enumerate(order.split(batch_size)):
        if number == 0 or len(index) > 1:
            yield samples.take(index)
