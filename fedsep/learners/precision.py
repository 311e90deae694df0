"""Local steps in mixed precision: the network is computed in bfloat16, all that is kept or sent stays float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedsep.core import FedSepError, Params, Task
from fedsep.tasks.around import Around

Precision = Literal["float32", "bfloat16"]
"""What a local step's network is computed in."""


@dataclass(frozen=True, eq=False)
class Mixed(Around):
    """A task whose network runs under ``torch.autocast``: products and convolutions in bfloat16, there and back.

    Parameters come in float32, and so do outputs, losses and gradients: bfloat16 has float32's range, so that no loss
    need be scaled, but 8 significant bits, too few to add up small steps in.
    """

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """The task's outputs, shape (batch, outputs), in float32."""
        # Casts are not kept: inside vmap they would outlive it, and a weight's second use would round its gradient.
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            outputs = self.task.predict(params, x)
        return outputs.float()


def computed(task: Task, precision: Precision | None) -> Task:
    """The task as a local step computes it."""
    return Mixed(task) if precision == "bfloat16" else task


def check_precision(task: Task, precision: Precision | None) -> None:
    """Refuses what cannot be computed as asked.

    Raises:
        FedSepError: The model's parameters are not float32, or this GPU has no bfloat16.
    """
    if precision is None:
        return
    parts = list(task.init().values())
    others = {str(part.dtype).removeprefix("torch.") for part in parts} - {"float32"}
    if others:
        raise FedSepError(
            f"precision must be left out: {precision} is for models whose parameters are float32, "
            f"and this one's are {', '.join(sorted(others))}"
        )
    if precision == "bfloat16" and any(part.is_cuda for part in parts) and not torch.cuda.is_bf16_supported():
        raise FedSepError(
            f"precision must be float32 here: {torch.cuda.get_device_name()} does not compute in bfloat16"
        )
