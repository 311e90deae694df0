"""FetchSGD's server: momentum and error live in a sketch, of which the largest coordinates are taken out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import Params, Tree, Update
from fedsep.learners.schedules import Schedule
from fedsep.operators.count_sketch import CountSketch
from fedsep.servers.reduce import mean
from fedsep.servers.track import Tracked
from fedsep.wires.count_sketch import Table

ErrorUpdate = Literal["zero_cells", "subtract"]


class FetchState(NamedTuple):
    """Two tables of r c numbers, whatever d is."""

    momentum: Tensor
    error: Tensor


@dataclass(frozen=True)
class FetchSGD:
    """T = mean of tables; M <- rho M + T; E <- E + M; D = top_k(estimate(E)); x <- x + lr D; E forgets D.

    Attributes:
        sketch: That of the uplink, which must hand over its tables closed.
        k: Coordinates taken out in a round.
        lr: eta_g.
        momentum: rho.
        error_update: How E forgets D: cells that S D touches become 0, or S D is subtracted.
        lr_in_error: E <- E + lr M and x <- x + D instead: the rate of the round in which a change came counts, not
            that of the round in which it is taken out.
        mask_momentum: Whether the cells that S D touches become 0 in M, too.
        schedule: Factor of lr by round; None: always 1.
    """

    sketch: Table
    k: int
    lr: float = 1.0
    momentum: float = 0.0
    error_update: ErrorUpdate = "zero_cells"
    lr_in_error: bool = False
    mask_momentum: bool = True
    schedule: Schedule | None = None

    def init(self, x: Tracked) -> FetchState:
        """Both tables are 0."""
        flat = tree.ordered_ravel(x["model"])[0]
        return FetchState(*(flat.new_zeros(self.sketch.rows * self.sketch.cells) for _ in range(2)))

    def step(self, x: Tracked, updates: Iterable[Update], state: FetchState) -> tuple[Tree, FetchState]:
        """x with k coordinates moved, and the tables; both as they were if nobody replied."""
        change = mean(updates)
        if change is None:
            return x, state
        rate = self.lr * (1.0 if self.schedule is None else self.schedule(int(x["round"])))
        flat, layout = tree.ordered_ravel(x["model"])
        sketch = self.sketch.over(flat)
        momentum = self.momentum * state.momentum + change["model"]["table"]
        error = state.error + (rate * momentum if self.lr_in_error else momentum)
        taken = heavy(sketch.estimate(error), self.k)
        model: Params = layout.unravel(flat + (taken if self.lr_in_error else rate * taken))
        return {**x, "model": {name: model[name] for name in x["model"]}}, self._forget(sketch, taken, momentum, error)

    def _forget(self, sketch: CountSketch, taken: Tensor, momentum: Tensor, error: Tensor) -> FetchState:
        """The tables without what was taken out."""
        table = sketch.mv(taken)
        error = error - table if self.error_update == "subtract" else error.where(table == 0, 0)
        return FetchState(momentum.where(table == 0, 0) if self.mask_momentum else momentum, error)


def heavy(vector: Tensor, k: int) -> Tensor:
    """The vector's k largest coordinates by magnitude, 0 elsewhere.

    Ties are common: coordinates whose medians lie in one cell. The first ones are taken, on every device.
    """
    places = vector.abs().sort(descending=True, stable=True).indices[:k]
    return torch.zeros_like(vector).index_copy_(0, places, vector[places])
