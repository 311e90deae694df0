"""A wire applied to each tensor of a message by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fedsep import tree as trees
from fedsep.core import Ctx, FedSepError, Payload, Tree, Wire
from fedsep.wires.message import inside
from fedsep.wires.promises import Promise, promise_of

Per = Literal["global", "tensor"]

_KEY = 7302


@dataclass(frozen=True)
class PerTensor:
    """See ``per_tensor``."""

    wire: Wire[Any]

    def init(self, like: Tree) -> tuple[Any, ...]:
        """A memory for each tensor; () if none remembers anything."""
        memories = tuple(self.wire.init(part) for part in trees.ordered(like)[0])
        return memories if any(trees.leaves(memory) for memory in memories) else ()

    def pack(self, tree: Tree, memory: tuple[Any, ...], ctx: Ctx) -> tuple[Payload, tuple[Any, ...]]:
        """The payloads of the tensors, in the order of their sorted names."""
        parts, _ = trees.ordered(tree)
        memories = memory or ((),) * len(parts)
        packed = [
            self.wire.pack(part, own, inside(ctx, _KEY + number))
            for number, (part, own) in enumerate(zip(parts, memories, strict=True))
        ]
        return tuple(payload for payload, _ in packed), tuple(own for _, own in packed) if memory else ()

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """Each tensor from its payload."""
        if like is None:
            raise FedSepError("PerTensor can only be read with the shapes of what was sent: give `like`")
        parts, restore = trees.ordered(like)
        pairs = enumerate(zip(payload, parts, strict=True))
        return restore([self.wire.unpack(sent, part, inside(ctx, _KEY + number)) for number, (sent, part) in pairs])

    def promise(self, size: int) -> Promise:
        """That of the wire for all coordinates together: no promise is better for a longer message."""
        return promise_of(self.wire, size)


def per_tensor(wire: Wire[Any]) -> PerTensor:
    """Sends each tensor of a message by itself: with a scale, or a k, of its own.

    Args:
        wire: Sends one tensor.

    Bytes:
        Those of ``wire``, for each tensor.
    """
    return PerTensor(wire)
