"""A federation whose data lie at its sites: the server knows their form and the number of clients, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch

from fedsep.core import FedSepError, Samples, Shard
from fedsep.ranges import Count, Range, checked

_BLANKS = 4
_REHEARSED = 256


@dataclass(frozen=True)
class Sites:
    """See ``sites``."""

    shape: tuple[int, ...]
    classes: int
    clients: int
    kind: Literal["classification", "regression"] = "classification"
    name: str = "sites"
    validation: None = None
    test: None = None
    public: None = None

    @property
    def present(self) -> tuple[int, ...]:
        """Clients whose data are here: none."""
        return ()

    @property
    def train(self) -> Samples:
        """Blank examples of the declared form: enough to see whether a model fits it, and no more."""
        return self.blank(_BLANKS)

    def blank(self, count: int) -> Samples:
        """So many blank examples."""
        x = torch.zeros(count, *self.shape)
        if self.kind == "classification":
            return Samples(x, torch.arange(count) % self.classes)
        return Samples(x, torch.zeros(count) if self.classes == 1 else torch.zeros(count, self.classes))

    def rehearsal(self) -> Sites:
        """The same with blank examples for every client: what crosses and what fits can be measured with them."""
        return _Blank(self.shape, self.classes, self.clients, self.kind)

    def shard(self, client: int) -> Shard:
        """Nobody's.

        Raises:
            FedSepError: Always: the data are elsewhere.
        """
        raise FedSepError(f"the data of client {client} are at its site (fedsep.data.sites): use fedsep flower server")

    def describe(self) -> str:
        """One line."""
        kind = f"{self.classes} classes" if self.kind == "classification" else f"{self.classes} outputs"
        return f"{self.clients:,} clients at their sites; inputs of {' x '.join(map(str, self.shape))}, {kind}"


class _Blank(Sites):
    """See ``Sites.rehearsal``: nothing can be learned from it."""

    def shard(self, client: int) -> Shard:
        """Blank examples."""
        return Shard(self.blank(_REHEARSED))


@checked
def sites(
    *,
    shape: Sequence[Annotated[int, Range(ge=1)]],
    classes: Count,
    clients: Count,
    kind: Literal["classification", "regression"] = "classification",
) -> Sites:
    """Data that stay at their sites, for ``fedsep flower server``; each site brings its own (``fedsep flower client``).

    Args:
        shape: Of one input: [features], or [channels, height, width].
        classes: Number of classes; of outputs for a regression.
        clients: Number of clients at all sites together; each site says which of them, from 0, are its own.
        kind: What the targets are.

    Raises:
        FedSepError: A number is out of range.
    """
    return Sites(tuple(int(size) for size in shape), classes, clients, kind)
