"""Which rows belong to which client, stored flat: 100,000 clients take two arrays, not 100,000."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
"""Positions of samples, or codes of classes, groups and clients: one-dimensional int64."""


@dataclass(frozen=True, eq=False)
class Parts:
    """A list of index arrays, one per client.

    Attributes:
        flat: All indices, client after client.
        offsets: Client i has ``flat[offsets[i]:offsets[i + 1]]``; shape (clients + 1,).
    """

    flat: Indices
    offsets: Indices

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, client: int) -> Indices:
        if not -len(self) <= client < len(self):
            raise IndexError(f"client {client} of {len(self)}")
        client %= len(self)
        return self.flat[self.offsets[client] : self.offsets[client + 1]]

    def __iter__(self) -> Iterator[Indices]:
        return (self[client] for client in range(len(self)))

    @property
    def sizes(self) -> Indices:
        """Number of indices of each client."""
        return np.diff(self.offsets)

    @property
    def disjoint(self) -> bool:
        """Whether no index occurs twice."""
        return len(self.flat) == 0 or int(np.bincount(self.flat).max()) == 1

    def of(self, rows: Indices) -> Parts:
        """The same parts in another numbering: index j becomes ``rows[j]``."""
        return Parts(rows[self.flat], self.offsets)


def by_owner(owner: Indices, clients: int) -> Parts:
    """Parts from the client of every sample; -1 means nobody's. Indices grow within a part."""
    order = np.argsort(owner, kind="stable")
    return Parts(order[np.searchsorted(owner[order], 0) :], _offsets(owner[owner >= 0], clients))


def by_pairs(client: Indices, sample: Indices, clients: int) -> Parts:
    """Parts from pairs (client, sample) in any order; a sample may occur with several clients."""
    return Parts(sample[np.lexsort((sample, client))], _offsets(client, clients))


def _offsets(owner: Indices, clients: int) -> Indices:
    return np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=clients))]).astype(np.int64)
