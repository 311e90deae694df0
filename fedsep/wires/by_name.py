"""A wire for each part of a message, by its top-level name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedsep.core import Ctx, FedSepError, Payload, Tree, Wire
from fedsep.wires.dense import Dense
from fedsep.wires.promises import Promise, promise_of, together


@dataclass(frozen=True)
class ByName:
    """See ``by_name``."""

    parts: Mapping[str, Wire[Any]]
    rest: Wire[Any] = field(default_factory=Dense)

    def init(self, like: Tree) -> dict[str, Any]:
        """A memory for each part."""
        return {name: self._wire(name).init(part) for name, part in _named(like).items()}

    def pack(self, tree: Tree, memory: dict[str, Any], ctx: Ctx) -> tuple[Payload, dict[str, Any]]:
        """Each part by its wire, under its name."""
        parts = {name: (self._wire(name), part) for name, part in _named(tree).items()}
        # A part need not be in every message: it starts without a memory, and what it has is kept meanwhile.
        packed = {
            name: wire.pack(part, memory[name] if name in memory else wire.init(part), ctx)
            for name, (wire, part) in parts.items()
        }
        own = {name: after for name, (_, after) in packed.items()}
        return {name: sent for name, (sent, _) in packed.items()}, {**(memory or {}), **own}

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """Each part by its wire, in the order of ``like``."""
        order = _named(payload if like is None else like)
        return {name: self._wire(name).unpack(payload[name], like and like[name], ctx) for name in order}

    def promise(self, size: int) -> Promise:
        """What all the wires promise for a message of this size: none promises less for a shorter one."""
        return together([promise_of(wire, size) for wire in (*self.parts.values(), self.rest)])

    def _wire(self, name: str) -> Wire[Any]:
        return self.parts.get(name, self.rest)


def by_name(rest: Wire[Any] | None = None, **parts: Wire[Any]) -> ByName:
    """Sends the parts of a message by different wires: ``by_name(omega=lloyd_max(bits=1))``.

    Args:
        rest: Sends what is not named; plain by default, and then whole numbers go as they are.
        **parts: Wires by top-level names of the message.

    Bytes:
        The sum of those of the wires.
    """
    return ByName(parts, rest or Dense())


def _named(message: Tree) -> dict[str, Tree]:
    if not isinstance(message, dict):
        raise FedSepError(f"by_name sends messages whose parts have names (got a {type(message).__name__})")
    return message
