"""A task whose model is several narrow ones, whose outputs are averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep.core import Batch, Params
from fedsep.models.calibration import calibrated
from fedsep.tasks.narrowed import Narrowed
from fedsep.tasks.pure import Pure


@dataclass(frozen=True)
class Ensemble:
    """The mean of the outputs of narrow models, as many as there are parameters of: ``0.NAME``, ``1.NAME``, ...

    Attributes:
        block: The task of one of them.
        blocks: How many there are at first.
    """

    block: Narrowed
    blocks: int

    @property
    def model(self) -> Pure | None:
        """The module of one block."""
        return self.block.model

    @property
    def higher_is_better(self) -> Mapping[str, bool]:
        """The task's."""
        return self.block.higher_is_better

    def init(self) -> Params:
        """Each block has units of its own of the whole model's initial ones."""
        return joined({number: self.block.init(number) for number in range(self.blocks)})

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """The mean over blocks."""
        return torch.stack([self.block.predict(part, x) for part in parted(params).values()]).mean(0)

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The task's."""
        return self.block.criterion(outputs, targets)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Of the mean."""
        return self.criterion(self.predict(params, batch.x), batch.y)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """The task's."""
        return self.block.metrics(outputs, targets)

    def calibrated(self, params: Params, batches: Sequence[Tensor]) -> Params:
        """With the statistics of static batch normalisation, measured in each block."""
        if self.model is None:
            return params
        return joined({number: calibrated(self.model, part, batches) for number, part in parted(params).items()})


def joined(blocks: Mapping[int, Params]) -> Params:
    """Parameters of blocks under names that begin with the block's number."""
    return {f"{number}.{name}": part for number, params in blocks.items() for name, part in params.items()}


def parted(params: Params) -> dict[int, Params]:
    """The inverse of ``joined``, in increasing order."""
    blocks: dict[int, Params] = {}
    for name, part in params.items():
        number, _, own = name.partition(".")
        blocks.setdefault(int(number), {})[own] = part
    return dict(sorted(blocks.items()))
