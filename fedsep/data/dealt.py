"""Examples in an order in which every client's part is a slice, so that a shard is a view and not a copy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from fedsep.core import Samples
from fedsep.data.normalise import Constants, Standard
from fedsep.data.parts import Indices, Parts
from fedsep.data.source import Array

_KEPT_PARTS = 1024
_KEPT_BYTES = 1 << 20  # of gathered examples: they scatter over the heap, which costs several times as much


@dataclass(frozen=True, eq=False)
class Dealt:
    """One set of examples with the clients' parts of it.

    Attributes:
        x: Inputs, dealt ones first, client after client; with ``index``, in the order of the source.
        y: Targets.
        offsets: Client i has the rows ``offsets[i]`` to ``offsets[i + 1]``, of x or of ``index``.
        index: Rows of x, client after client, where parts overlap; None where they do not.
        constants: What minibatches are normalised with.
    """

    x: Tensor
    y: Tensor
    offsets: Indices
    index: Tensor | None
    constants: Constants
    _met: dict[int, Samples] = field(default_factory=dict[int, Samples], init=False, repr=False)

    def part(self, client: int) -> Samples:
        """One client's samples: a view, or a gather where parts overlap. What was met lately is not made again."""
        part = self._met.get(client)
        if part is None:
            part = self._met[client] = self._cut(client)
            while len(self._met) > self._most(part):
                del self._met[next(iter(self._met))]
        return part

    def _most(self, part: Samples) -> int:
        """How many parts are kept if they are all like this one."""
        if self.index is None or not part.size:  # a view takes no memory of its own
            return _KEPT_PARTS
        return max(1, min(_KEPT_PARTS, _KEPT_BYTES // (part.x.nbytes + part.y.nbytes)))

    def _cut(self, client: int) -> Samples:
        first, last = self.offsets[client : client + 2].tolist()
        if self.index is None:  # narrow takes a fraction of a slice's time
            return self._samples(self.x.narrow(0, first, last - first), self.y.narrow(0, first, last - first))
        rows = self.index[first:last]
        return self._samples(self.x.index_select(0, rows), self.y.index_select(0, rows))

    def all(self) -> Samples:
        """Every sample of the set, also those that no client was dealt."""
        return self._samples(self.x, self.y)

    def given(self) -> Samples:
        """The samples that clients hold, client after client; only for parts that do not overlap."""
        count = int(self.offsets[-1])
        return self._samples(self.x[:count], self.y[:count])

    def ready(self) -> Dealt:
        """The same examples with inputs as minibatches have them: floats, normalised once and not in every round."""
        return replace(self, x=self.all().normalised(self.x), constants=Constants(None, None))

    def to(self, device: torch.device) -> Dealt:
        """The same examples on a device; images stay uint8."""
        index = None if self.index is None else self.index.to(device)
        constants = Constants(*(None if c is None else c.to(device) for c in self.constants))
        return replace(self, x=self.x.to(device), y=self.y.to(device), index=index, constants=constants)

    def _samples(self, x: Tensor, y: Tensor) -> Samples:
        """With constants as they are stored: a minibatch turns them into its own float type."""
        return Samples(x, y, *self.constants)


def arrange(x: Array, y: Array, rows: Indices, parts: Parts, constants: Constants, standard: Standard | None) -> Dealt:
    """The rows of a set in dealt order.

    Args:
        x: Inputs of the source.
        y: Targets of the source.
        rows: Positions in x that belong to this set, increasing.
        parts: Positions in x by client.
        constants: For images.
        standard: For tables, which are standardised here; None leaves x as it is.
    """
    order, index = rows, None
    if parts.disjoint:
        order = np.concatenate([parts.flat, np.setdiff1d(rows, parts.flat, assume_unique=True)])
    else:
        index = torch.from_numpy(np.searchsorted(rows, parts.flat))
    inputs = torch.from_numpy(np.ascontiguousarray(x[order])) if standard is None else standard.apply(x[order])
    targets = torch.from_numpy(np.ascontiguousarray(y[order]))
    if targets.is_floating_point():
        targets = targets.to(torch.get_default_dtype())
    return Dealt(inputs, targets, parts.offsets, index, constants)
