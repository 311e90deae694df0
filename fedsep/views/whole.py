"""The view of most methods: every client is sent all of x."""

from __future__ import annotations

from dataclasses import dataclass

from fedsep.core import Ctx, Tree


@dataclass(frozen=True)
class Whole:
    """cut and paste are the identity.

    Bytes:
        Down: all of x, up: a change of all of x.
    """

    def cut(self, x: Tree, ctx: Ctx) -> Tree:
        """x."""
        return x

    def like(self, x: Tree, ctx: Ctx) -> Tree:
        """x."""
        return x

    def paste(self, dx: Tree, x: Tree, ctx: Ctx) -> tuple[Tree, None]:
        """dx, which covers everything."""
        return dx, None
