"""A linear wire: a count sketch of the message, of which the receiver estimates the large coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import Ctx, FedSepError, Payload, Tree
from fedsep.operators.count_sketch import CountSketch, table
from fedsep.ranges import Count, checked
from fedsep.wires.dense import Dense, Precision, as_sent
from fedsep.wires.message import layout_of, vector_of
from fedsep.wires.promises import Lossy, Promise

_KEY = 7310


@dataclass(frozen=True)
class Table:
    """What both ends know of a sketch: its rows r, its cells c, and the seed of its hashes."""

    rows: int
    cells: int
    seed: int = 0

    def over(self, like: Tensor) -> CountSketch:
        """The sketch of vectors such as ``like``, shape (d,)."""
        key = random.fold(random.key(self.seed), _KEY).to(like.device)
        return table(self.rows, self.cells, like.numel(), key)


@dataclass(frozen=True)
class CountSketchWire:
    """See ``count_sketch``.

    Attributes:
        sketch: The same on both ends.
        opened: Whether the receiver reads estimates of the message, or the table itself, ``{"table": (r c,)}``,
            for a server that adds tables up and opens their sum.
        values: How the table is sent.
    """

    sketch: Table
    opened: bool = True
    values: Dense = Dense()

    def init(self, like: Tree) -> tuple[()]:
        """Nothing is remembered.

        Raises:
            FedSepError: The table has more numbers than the message.
        """
        size, numbers = layout_of(self, like).size, self.sketch.rows * self.sketch.cells
        if numbers > size:
            raise FedSepError(f"count_sketch: rows x cells must be at most {size}, the number of coordinates of the "
                              f"message (got {self.sketch.rows} x {self.sketch.cells} = {numbers})")  # fmt: skip
        return ()

    def pack(self, tree: Tree, memory: tuple[()], ctx: Ctx) -> tuple[Payload, tuple[()]]:
        """S u."""
        vector, _ = vector_of(self, tree)
        return {"table": self.values.round(self.sketch.over(vector).mv(vector))}, memory

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """Medians over the rows in the shapes of ``like``, or the table where it is left closed."""
        table = self.values.unpack(payload["table"], None, ctx)
        if not self.opened:
            return {"table": table}
        layout = layout_of(self, like)
        estimate = self.sketch.over(torch.empty(layout.size, device=layout.device)).estimate(table)
        return layout.unravel(estimate.to(layout.dtype))

    def promise(self, size: int) -> Promise:
        """Nothing for every message: the hashes are the same in all of them."""
        return Lossy()

    def unwise(self, size: int) -> str | None:
        """Why messages should not be opened one by one, unless there is a cell for each coordinate."""
        if not self.opened or self.sketch.cells >= size:
            return None
        return (
            f"opened message by message: each of {size} estimates errs by about |u| / sqrt({self.sketch.cells}), more "
            "than coordinates are long: fedsep.algorithms.fetchsgd adds the tables up and opens their sum"
        )


@checked
def count_sketch(*, rows: Count = 5, cells: Count, seed: int = 0, values: Precision | None = None) -> CountSketchWire:
    """Sends a table of r rows and c cells, S u, and reads coordinate j as the median of its r signed cells.

    S is linear and the same for all: the sum of tables is the table of the sum, which is what ``fetchsgd`` opens.
    Read one by one, with a server that averages, an estimate errs by about |u| / sqrt(c) in every coordinate:
    more than most coordinates are long.

    Args:
        rows: r, odd: the median of an even number is biased.
        cells: c.
        seed: Of the hashes; the same on both ends.
        values: The float type in which the table is sent; None: as it is.

    Bytes:
        4 * rows * cells, whatever the message's length; 2 * rows * cells in float16 and bfloat16.

    Raises:
        FedSepError: ``rows`` is even; or, once it is known what is sent, a message has fewer numbers than the table.

    Reference:
        Charikar, Chen, Farach-Colton 2002; for updates Rothchild et al. 2020, arXiv:2007.07682.
    """
    require_odd("count_sketch", rows)
    return CountSketchWire(Table(rows, cells, seed), values=as_sent(values))


def require_odd(name: str, rows: int) -> None:
    """Refuses an even number of rows.

    Raises:
        FedSepError: It is even.
    """
    if rows % 2 == 0:
        raise FedSepError(f"{name}: rows must be odd, since what is read are medians over them (got {rows})")
