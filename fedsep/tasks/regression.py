"""Predicting numbers: squared error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsep.core import Batch, Params
from fedsep.tasks.pure import Pure, pure


@dataclass(frozen=True)
class Regression:
    """See ``regression``."""

    model: Pure
    higher_is_better: ClassVar[Mapping[str, bool]] = MappingProxyType(
        {"r2": True, "mse": False, "mae": False, "loss": False}
    )

    def init(self) -> Params:
        """The model's initial parameters, as fresh tensors."""
        return self.model.init()

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """Predictions, shape (batch, outputs)."""
        return self.model(params, x)

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error over examples and outputs, a scalar."""
        return F.mse_loss(outputs, _like(targets, outputs))

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean squared error of a batch over examples and outputs, a scalar."""
        return self.criterion(self.model(params, batch.x), batch.y)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """``r2`` (mean over outputs), ``mse`` and ``mae`` (over examples and outputs), ``loss`` (the mse).

        r2 of one example is nan; of targets that are all equal it is 1 if they are met exactly, else 0.
        """
        if not len(targets):
            return dict.fromkeys(self.higher_is_better, math.nan)
        wanted = _like(targets, outputs).double()
        error = outputs.double() - wanted
        mse, mae = float(error.square().mean()), float(error.abs().mean())
        return {"r2": _r2(error, wanted), "mse": mse, "mae": mae, "loss": mse}

    def mistakes(self, outputs: Tensor, targets: Tensor) -> list[str]:
        """Why data with these targets cannot be learned by a model that gives such outputs.

        Args:
            outputs: Of a few examples.
            targets: Of all examples.
        """
        given, wanted = (math.prod(tensor.shape[1:]) for tensor in (outputs, targets))
        if given == wanted:
            return []
        return [
            f"the model gives {_counted(given, 'number')} an example, and the data has {_counted(wanted, 'target')}: "
            f"build the model with {_counted(wanted, 'output')}"
        ]


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def _like(targets: Tensor, outputs: Tensor) -> Tensor:
    # Without this, outputs (n, 1) less targets (n,) would be an n x n matrix.
    return targets.to(outputs.dtype).reshape(outputs.shape)


def _r2(error: Tensor, wanted: Tensor) -> float:
    if len(wanted) < 2:
        return math.nan
    residual = error.reshape(len(error), -1).square().sum(0)
    columns = wanted.reshape(len(wanted), -1)
    total = (columns - columns.mean(0)).square().sum(0)
    met = (residual == 0).to(total.dtype)
    return float(torch.where(total > 0, 1 - residual / total.where(total > 0, 1.0), met).mean())


def regression(model: nn.Module) -> Regression:
    """Regression: mean squared error is minimised; r2, mse and mae are reported.

    Args:
        model: Gives one number per target; its own parameters are the initial ones.

    Raises:
        FedSepError: The model cannot be a pure function of its parameters; see ``fedsep.tasks.check_module``.
    """
    return Regression(pure(model))
