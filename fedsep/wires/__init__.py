"""How a tree becomes bytes."""

from fedsep.wires.dense import Dense, dense

__all__ = ["Dense", "dense"]
