"""A bound on the length of a message."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from fedsep import tree as trees
from fedsep.core import Ctx, Payload, Tree, Wire
from fedsep.ranges import Positive, checked
from fedsep.wires.dense import Dense
from fedsep.wires.message import vector_of
from fedsep.wires.promises import Lossy


@dataclass(frozen=True)
class Clip:
    """See ``clip``."""

    norm: float
    wire: Wire[Any] = field(default_factory=Dense)

    def init(self, like: Tree) -> Any:
        """The memory of the wire inside."""
        return self.wire.init(like)

    def pack(self, tree: Tree, memory: Any, ctx: Ctx) -> tuple[Payload, Any]:
        """The message, shortened to the norm if it is longer."""
        length = torch.linalg.vector_norm(vector_of(self, tree)[0])
        factor = torch.where(length > self.norm, self.norm / length, 1.0)
        return self.wire.pack(trees.map(lambda part: part * factor.to(part.dtype), tree), memory, ctx)

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """As the wire inside reads it."""
        return self.wire.unpack(payload, like, ctx)

    def promise(self, size: int) -> Lossy:
        """A long message loses nearly all of itself."""
        return Lossy()


@checked
def clip(norm: Positive, wire: Wire[Any] | None = None) -> Clip:
    """Shortens a message to a Euclidean norm of at most ``norm``, over all its tensors together, and sends it.

    What is cut off is lost, also around error feedback; ``error_feedback(clip(...))`` sends it later.

    Args:
        norm: The largest norm.
        wire: Sends what is left; plain by default.

    Bytes:
        Those of ``wire``.
    """
    return Clip(norm, wire or Dense())
