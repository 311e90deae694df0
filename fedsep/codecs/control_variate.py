"""The codec of SCAFFOLD: a control variate beside the model, which corrects every local step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fedsep import tree
from fedsep.core import Ctx, Decoded, Info, Params, Shard
from fedsep.servers.control_variate import Controlled, Controls


class Reaching(Protocol):
    """A learner that knows how far it goes: a gradient that stays the same moves y by ``-reach * gradient``."""

    def reach(self, shard: Shard, ctx: Ctx) -> float:
        """I eta for plain SGD."""
        ...


@dataclass(frozen=True)
class ControlVariate:
    """y_0 = x under the penalty <c - c_m, y - x>; dx = (dy, dc_m) with c_m+ = c_m - c - dy / (I eta).

    The penalty's gradient is the correction c - c_m of every local step. c_m+ is option II: the mean of the
    round's gradients, from what they did. c_m is the client's memory, so it holds once the reply is accepted.

    Attributes:
        learner: Says what I eta is.

    Bytes:
        Up and down: the model's twice, 8 d in float32.
    """

    learner: Reaching

    def unfit(self, server: object) -> str | None:
        """Why c would not be the mean of all c_m: any other step than ``Controls`` averages over the cohort."""
        if isinstance(server, Controls):
            return None
        return (
            "c must be the mean over all clients, invited or not, and fedsep.servers.Controls knows how many there are"
        )

    def init(self, params: Params) -> Controlled:
        """The model, and c = 0."""
        return {"model": params, "c": tree.zeros_like(params)}

    def enroll(self, x: Controlled, ctx: Ctx) -> Params:
        """c_m = 0, as the server takes it to be."""
        return tree.zeros_like(x["c"])

    def decode(self, x: Controlled, memory: Params, shard: Shard, ctx: Ctx) -> tuple[Decoded, Params]:
        """y_0 is the model; the penalty tilts the local loss."""
        model = x["model"]
        tilt = tree.sub(by_name(x["c"], model), by_name(memory, model))
        return Decoded(model, penalty=lambda y: tree.dot(tilt, tree.sub(y, model))), memory

    def encode(
        self, start: Decoded, y: Params, x: Controlled, memory: Params, shard: Shard, ctx: Ctx
    ) -> tuple[Controlled, Params, Info]:
        """dy and c_m+ - c_m; c_m+ is proposed as memory."""
        dy = tree.sub(y, start.y)
        change = tree.sub(tree.scale(dy, -1.0 / self.learner.reach(shard, ctx)), by_name(x["c"], dy))
        return {"model": dy, "c": change}, tree.add(by_name(memory, dy), change), {}

    def advance(self, x: Controlled, round: int) -> tuple[Controlled, bool]:
        """Nothing happens between rounds."""
        return x, False

    def model(self, x: Controlled) -> Params:
        """The model alone."""
        return x["model"]


def by_name(params: Params, like: Params) -> Params:
    """The same parameters in the order of ``like``: an order of names means nothing, and may change on the way."""
    return {name: params[name] for name in like}
