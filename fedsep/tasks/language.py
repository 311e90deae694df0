"""Saying what comes next in a sequence: cross-entropy at every place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from fedsep.core import Batch, Params
from fedsep.tasks.pure import Pure, pure

_AT_ONCE = 64  # examples that are scored at a time: probabilities take as much memory as the outputs


@dataclass(frozen=True)
class Language:
    """See ``language``."""

    model: Pure
    shape: tuple[int, ...] | None = None
    higher_is_better: ClassVar[Mapping[str, bool]] = MappingProxyType(
        {"bits_per_byte": False, "accuracy": True, "loss": False}
    )

    def init(self) -> Params:
        """The model's initial parameters, as fresh tensors."""
        return self.model.init()

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """Logits, shape (batch, places, symbols)."""
        return self.model(params, x)

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy over examples and places in nats, a scalar."""
        return F.cross_entropy(outputs.flatten(0, 1), targets.flatten().long())

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy of a batch in nats, a scalar."""
        return self.criterion(self.model(params, batch.x), batch.y)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """``bits_per_byte``, ``accuracy`` of the likeliest symbol (0 to 1), ``loss`` in nats; nan for none."""
        if not len(targets):
            return dict.fromkeys(self.higher_is_better, math.nan)
        total, right = 0.0, 0
        for given, wanted in zip(outputs.split(_AT_ONCE), targets.split(_AT_ONCE), strict=True):
            total += float(self.criterion(given, wanted)) * wanted.numel()
            right += int((given.argmax(-1) == wanted).sum())
        loss = total / targets.numel()
        return {"bits_per_byte": loss / math.log(2), "accuracy": right / targets.numel(), "loss": loss}

    def mistakes(self, outputs: Tensor, targets: Tensor) -> list[str]:
        """Why data with these targets cannot be learned by a model that gives such outputs.

        Args:
            outputs: Of a few examples.
            targets: Of all examples.
        """
        if targets.dim() != 2 or targets.is_floating_point():
            shape, kind = tuple(targets.shape), str(targets.dtype).removeprefix("torch.")
            return [
                "targets must be one whole number at each place, shape (examples, places), as fedsep.data.text has "
                f"them (got {shape}, {kind})"
            ]
        if outputs.dim() != 3 or outputs.shape[1] != targets.shape[1]:
            return [
                f"the model must give scores at each of {targets.shape[1]} places, shape (batch, places, symbols), and "
                f"gives {tuple(outputs.shape)}: fedsep.models.transformer does"
            ]
        lowest, highest, symbols = int(targets.min()), int(targets.max()), outputs.shape[2]
        if lowest < 0 or highest >= symbols:
            return [f"the model tells {symbols} symbols apart, and the data have symbols from {lowest} to {highest}"]
        return []


def language(model: nn.Module, *, shape: Sequence[int] | None = None) -> Language:
    """The next symbol at every place: mean cross-entropy is minimised, bits per byte are reported.

    Bits per byte are the cross-entropy in bits, where a symbol is a byte: 8 for a model that knows nothing.

    Args:
        model: Gives one logit per symbol at each place. Its own parameters are the initial ones.
        shape: Of one input; methods that train sub-models find with it which parameters belong together.

    Raises:
        FedSepError: The model cannot be a pure function of its parameters; see ``fedsep.tasks.check_module``.
    """
    return Language(pure(model), None if shape is None else tuple(shape))
