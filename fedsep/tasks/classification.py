"""Choosing one of several classes: cross-entropy and accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsep.core import Batch, Params
from fedsep.tasks.pure import Pure, pure

_IGNORED = -100  # torch's own: such a target counts neither in the sum nor in the mean


@dataclass(frozen=True)
class Classification:
    """See ``classification``."""

    model: Pure
    shape: tuple[int, ...] | None = None
    higher_is_better: ClassVar[Mapping[str, bool]] = MappingProxyType({"accuracy": True, "loss": False})

    def init(self) -> Params:
        """The model's initial parameters, as fresh tensors."""
        return self.model.init()

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """Logits, shape (batch, classes)."""
        return self.model(params, x)

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats, a scalar."""
        return F.cross_entropy(outputs, targets.to(torch.int64))

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean cross-entropy of a batch in nats, a scalar."""
        return self.criterion(self.model(params, batch.x), batch.y)

    def gradients_together(self, params: Params, batch: Batch) -> tuple[Tensor, Params] | None:
        """``loss`` of several clients at once, and its gradients; None where the model has no quick way to them.

        Args:
            params: A first dimension over clients.
            batch: Likewise.
        """
        chain = self.model.chain if type(self.model) is Pure else None
        if chain is None or batch.y.dim() != 2 or (made := chain.walk(params, batch.x)) is None:
            return None
        losses, change = _cross_entropy(made[-1], batch.y.to(torch.int64))
        return losses, chain.back(params, made, change)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """``accuracy`` from 0 to 1, and ``loss``, the mean cross-entropy in nats; nan for no examples."""
        if not len(targets):
            return dict.fromkeys(self.higher_is_better, math.nan)
        right = int((outputs.argmax(1) == targets).sum())
        return {"accuracy": right / len(targets), "loss": float(self.criterion(outputs, targets))}

    def mistakes(self, outputs: Tensor, targets: Tensor) -> list[str]:
        """Why data with these targets cannot be learned by a model that gives such outputs.

        Args:
            outputs: Of a few examples.
            targets: Of all examples.
        """
        found = _score_mistakes(outputs) + _label_mistakes(targets)
        given, highest = outputs.shape[-1], 0 if found else int(targets.max())
        if found or highest < given:
            return found
        return [
            f"the model gives {given} outputs, and the data has {highest + 1} classes (labels up to {highest}): "
            f"build the model with {highest + 1} outputs"
        ]


def _cross_entropy(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of each client's batch, and its derivative by the outputs.

    Args:
        outputs: Shape (clients, classes, batch).
        targets: Shape (clients, batch).
    """
    counts = (targets != _IGNORED).to(outputs.dtype)
    share = (counts / counts.sum(1, keepdim=True))[:, None]
    logs, place = torch.log_softmax(outputs, 1), targets.where(targets != _IGNORED, 0)[:, None]
    losses = -(logs.gather(1, place) * share).sum((1, 2))
    change = logs.exp_().mul_(share).scatter_add_(1, place, -share)  # (softmax - one-hot) / batch
    return losses, change


def _score_mistakes(outputs: Tensor) -> list[str]:
    if outputs.dim() != 2:
        return [f"the model must give one score per class, shape (batch, classes), and gives {tuple(outputs.shape)}"]
    if outputs.shape[1] == 1:
        return ["the model gives 1 output, which is no choice: give it 2, or use fedsep.tasks.binary"]
    return []


def _label_mistakes(targets: Tensor) -> list[str]:
    if targets.dim() != 1:
        shape = tuple(targets.shape)
        return [f"labels must be one whole number an example, and have shape {shape}: of one-hot rows take argmax(1)"]
    if targets.is_floating_point():
        kind = str(targets.dtype).removeprefix("torch.")
        return [f"labels must be whole numbers, and are {kind}: to predict numbers, use fedsep.tasks.regression"]
    lowest = int(targets.min())
    return [] if lowest >= 0 else [f"labels must be 0, 1, ..., classes - 1, and the lowest is {lowest}"]


def classification(model: nn.Module, *, shape: Sequence[int] | None = None) -> Classification:
    """Multi-class classification: mean cross-entropy is minimised, accuracy is reported.

    Args:
        model: Gives one logit per class; its own parameters are the initial ones.
        shape: Of one input; methods that train sub-models find with it which parameters belong together.

    Raises:
        FedSepError: The model cannot be a pure function of its parameters; see ``fedsep.tasks.check_module``.
    """
    return Classification(pure(model), None if shape is None else tuple(shape))
