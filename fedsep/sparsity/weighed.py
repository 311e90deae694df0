"""Sparse models averaged by units: a client tells how much its steps pulled at each, and its weights count by that.

A unit's number is that of all the parameters that make it, also of those outside of the client's masks, whose gradient
the steps have: so it says what the unit is worth to the client, and not how many of its weights the masks left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from fedsep.class_rows import times
from fedsep.core import Ctx, Params, Task, Tree
from fedsep.learners.sgd import Steps
from fedsep.learners.weighing import Weighing, importances
from fedsep.models.units import Units
from fedsep.sparsity.density import Scale
from fedsep.submodels import table_of
from fedsep.views.submodel import Importance

Reduction = Literal["coverage_mean", "importance", "shuffled"]
"""How changes become one.

``coverage_mean``: clients that hold a weight count alike. ``importance``: each client sends one number a unit, how much
its local steps pulled at the parameters that make it, and a weight is averaged over the clients that hold it by that
number, relative to the client's other units of the layer, times the client's capability where its density depends on
that. ``shuffled`` is the control of it: the numbers of each layer change places among the units.
"""


@dataclass(frozen=True)
class ByUnit:
    """What both ends know about importances; see the module.

    Attributes:
        units: Of the model.
        importance: What is made of the numbers.
        scale: How a client's density follows from its capability.
    """

    units: Units
    importance: Importance
    scale: Scale

    def weigh(self, cover: Params, reply: Any, model: Params, ctx: Ctx) -> Params:
        """Where a client holds the model, by how much its units matter to it."""
        ctx = ctx._replace(capability=1.0) if self.scale == "constant" else ctx
        return times(cover, self.units.weigh(model, self.importance.weights(reply["importance"], ctx)))

    def even(self, model: Params) -> dict[str, Tensor]:
        """A number for each unit, all alike."""
        ones = next(iter(model.values())).new_ones
        return {group: ones(n) for group, n in self.units.sizes.items()}


def by_unit(task: Task, reduce: Reduction, units: Units | None, scale: Scale) -> ByUnit | None:
    """None where clients that hold a weight count alike: then no units are looked for.

    Raises:
        FedSepError: The task's model has no units that can be found.
    """
    return None if reduce == "coverage_mean" else ByUnit(table_of(task, units), Importance(reduce == "shuffled"), scale)


def weighing(by: ByUnit | None, learner: Steps) -> Steps:
    """Local steps that note the importances where they are told."""
    return learner if by is None else Weighing(learner, by.units)


def told(by: ByUnit | None, reply: Any, y: Params) -> Tree:
    """A reply with the importances beside the change: all alike where no step was taken."""
    return reply if by is None else {**_named(reply), "importance": {**by.even(y), **importances(y)}}


def like(by: ByUnit | None, reply: Any, model: Params) -> Tree:
    """The shape of that."""
    return reply if by is None else {**_named(reply), "importance": by.even(model)}


def heard(by: ByUnit | None, reply: Any) -> Any:
    """A reply as it is without importances."""
    return reply if by is None or "classes" in reply else reply["model"]


def _named(reply: Any) -> dict[str, Tree]:
    return reply if "classes" in reply else {"model": reply}
