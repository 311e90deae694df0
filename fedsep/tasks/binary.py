"""Telling two classes apart: logistic loss and the area under the ROC curve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from fedsep.core import Batch, Params
from fedsep.tasks.auc import auc
from fedsep.tasks.pure import Pure, pure


@dataclass(frozen=True)
class Binary:
    """See ``binary``."""

    model: Pure
    higher_is_better: ClassVar[Mapping[str, bool]] = MappingProxyType({"auc": True, "accuracy": True, "loss": False})

    def init(self) -> Params:
        """The model's initial parameters, as fresh tensors."""
        return self.model.init()

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """The model's outputs, shape (batch,), (batch, 1) or (batch, 2)."""
        return self.model(params, x)

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean binary cross-entropy in nats, a scalar."""
        logits = _logits(outputs)
        return F.binary_cross_entropy_with_logits(logits, targets.reshape(-1).to(logits.dtype))

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean binary cross-entropy of a batch in nats, a scalar."""
        return self.criterion(self.model(params, batch.x), batch.y)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """``auc`` (nan where only one class is present), ``accuracy`` at probability 1/2, ``loss`` in nats."""
        if not len(targets):
            return dict.fromkeys(self.higher_is_better, math.nan)
        logits, positive = _logits(outputs), targets.reshape(-1) > 0
        right = int(((logits > 0) == positive).sum())
        return {
            "auc": auc(logits, positive),
            "accuracy": right / len(targets),
            "loss": float(self.criterion(outputs, targets)),
        }

    def mistakes(self, outputs: Tensor, targets: Tensor) -> list[str]:
        """Why data with these targets cannot be learned by a model that gives such outputs.

        Args:
            outputs: Of a few examples.
            targets: Of all examples.
        """
        found: list[str] = []
        if outputs.dim() not in (1, 2) or (outputs.dim() == 2 and outputs.shape[1] > 2):
            found.append(f"the model must give 1 or 2 outputs an example, and gives shape {tuple(outputs.shape)}")
        if targets.dim() != 1 and tuple(targets.shape[1:]) != (1,):
            return [*found, f"labels must be one number for each example, and have shape {tuple(targets.shape)}"]
        values = targets.unique()
        if not bool(((values == 0) | (values == 1)).all()):
            some = ", ".join(f"{value:g}" for value in values[:5].tolist()) + (", ..." if len(values) > 5 else "")
            found.append(f"labels must be 0 and 1, and are {some}; for more classes use fedsep.tasks.classification")
        return found


def _logits(outputs: Tensor) -> Tensor:
    """The log-odds of class 1, shape (batch,): the one output, or the second minus the first."""
    if outputs.dim() == 2 and outputs.shape[1] == 2:
        return outputs[:, 1] - outputs[:, 0]
    return outputs.reshape(-1)


def binary(model: nn.Module) -> Binary:
    """Two classes, labels 0 and 1: mean binary cross-entropy is minimised, AUC and accuracy are reported.

    Args:
        model: Gives one output, the log-odds of class 1, or two, whose difference is the log-odds (then
            the loss equals that of ``classification``). Its own parameters are the initial ones.

    Raises:
        FedSepError: The model cannot be a pure function of its parameters; see ``fedsep.tasks.check_module``.
    """
    return Binary(pure(model))
