"""The identity, whose replies also say which classes the client has: a bit for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from torch import Tensor

from fedsep import tree
from fedsep.core import Ctx, Decoded, Info, Params, Shard
from fedsep.learners.own_classes import present
from fedsep.wires.bits import pack


class Told(TypedDict):
    """What a client's reply holds: its change, and a bit for each class that it has (uint8)."""

    model: Params
    classes: Tensor


@dataclass(frozen=True)
class Present:
    """y = x; the reply is dy with the client's classes, from which the server knows whose rows it may move.

    A client that was sent nothing has nothing to tell.

    Attributes:
        classes: Number of classes.
    """

    classes: int

    def init(self, params: Params) -> Params:
        """The model."""
        return params

    def enroll(self, x: Params, ctx: Ctx) -> tuple[()]:
        """Nothing is remembered."""
        return ()

    def decode(self, x: Params, memory: tuple[()], shard: Shard, ctx: Ctx) -> tuple[Decoded, tuple[()]]:
        """y_0 = x."""
        return Decoded(x), memory

    def encode(
        self, start: Decoded, y: Params, x: Params, memory: tuple[()], shard: Shard, ctx: Ctx
    ) -> tuple[Told, tuple[()], Info]:
        """dy, and the classes."""
        bits = pack(present(shard.train.y, self.classes if x else 0), 1)
        return {"model": tree.sub(y, start.y), "classes": bits}, memory, {}

    def advance(self, x: Params, round: int) -> tuple[Params, bool]:
        """Nothing happens between rounds."""
        return x, False

    def model(self, x: Params) -> Params:
        """The model."""
        return x
