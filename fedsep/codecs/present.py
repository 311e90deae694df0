"""The identity, whose replies also tell what the server averages by: the client's classes, its units' importance."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedsep import tree
from fedsep.codecs.identity import Identity
from fedsep.core import Ctx, Decoded, Info, Params, Shard, Tree
from fedsep.learners.own_classes import present
from fedsep.learners.weighing import importances
from fedsep.wires.bits import pack


@dataclass(frozen=True)
class Present(Identity):
    """y = x; a reply holds dy under ``model``, and what is told beside it.

    ``classes``: a bit for each class that the client has, so that the server knows whose rows it may move.
    ``importance``: one number for each unit of each group. A client that was sent nothing has nothing to tell.

    ``report``: the key of a client's first accepted round, told in that round.

    Attributes:
        classes: Number of classes; None: they are not told.
        importance: Whether importances are told; the learner is then a ``Weighing``.
        key: Whether the key is told.
    """

    classes: int | None
    importance: bool = False
    key: bool = False

    def encode(
        self, start: Decoded, y: Params, x: Params, memory: tuple[()], shard: Shard, ctx: Ctx
    ) -> tuple[dict[str, Tree], tuple[()], Info]:
        """dy, and what is told."""
        told: dict[str, Tree] = {"model": tree.sub({name: y[name] for name in start.y}, start.y)}
        if self.classes is not None:
            told["classes"] = self._bits(shard.train.y, self.classes if x else 0)
        if self.importance:
            told["importance"] = importances(y)
        if self.key and ctx.report is None:
            told["report"] = {"key": ctx.key}
        return told, memory, {}

    def _bits(self, labels: Tensor, classes: int) -> Tensor:
        return pack(present(labels, classes), 1)
