"""A server that notes when each coordinate of the model last changed: what absent clients missed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor

from fedsep.core import Params, Server, Tree, Update


class Tracked(TypedDict):
    """The model, the round in which each coordinate last changed (-1: never; int32), and the round to come."""

    model: Params
    changed: Params
    round: Tensor


@dataclass(frozen=True)
class Track:
    """A server that notes which coordinates it moved.

    Attributes:
        server: Moves ``model``.
    """

    server: Server[Any]

    def init(self, x: Tracked) -> Tree:
        """The server's own state."""
        return self.server.init(x)

    def step(self, x: Tracked, updates: Iterable[Update], state: Tree) -> tuple[Tree, Tree]:
        """x with the coordinates marked that are no longer what they were."""
        moved, state = self.server.step(x, updates, state)
        if moved is x:
            return x, state
        now = x["round"].to(torch.int32)
        changed = {
            name: torch.where(moved["model"][name] != part, now, x["changed"][name])
            for name, part in x["model"].items()
        }
        return {**moved, "changed": changed}, state
