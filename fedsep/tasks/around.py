"""A task around another one: what is not said anew is that task's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsep.core import Batch, Params, Task


@dataclass(frozen=True, eq=False)
class Around:
    """The task itself, until something in it is replaced; its loss follows from ``predict`` and ``criterion``.

    Attributes:
        task: The task.
    """

    task: Task

    def init(self) -> Params:
        """The task's."""
        return self.task.init()

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """The task's."""
        return self.task.predict(params, x)

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The task's."""
        return self.task.criterion(outputs, targets)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """The criterion of what is predicted."""
        return self.criterion(self.predict(params, batch.x), batch.y)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """The task's."""
        return self.task.metrics(outputs, targets)
