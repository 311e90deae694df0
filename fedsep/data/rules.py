"""Rules by which training samples are dealt to clients, all but ``classes`` and ``dirichlet``.

Every rule is a frozen dataclass with a lower-case factory; what it deals depends on the seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from fedsep import random
from fedsep.core import FedSepError
from fedsep.data.drawing import apportion, order
from fedsep.data.parts import Indices
from fedsep.ranges import Count, NonNegative, Range, checked

CLIENTS = 10
"""Number of clients where neither the user nor the rule says one."""


class Pool(NamedTuple):
    """What there is to deal.

    Attributes:
        labels: Class of every sample, zeros for a regression.
        classes: Number of classes, 1 for a regression.
        key: Randomness of the partition.
        group: Code of every sample in the rule's column, None if the rule has none.
        names: Names of the classes.
    """

    labels: Indices
    classes: int
    key: Tensor
    group: Indices | None = None
    names: tuple[str, ...] = ()


class Rule(Protocol):
    """Who gets which training sample."""

    @property
    def column(self) -> str | None:
        """The column of the source that the rule reads, if any."""
        ...

    def clients(self, pool: Pool) -> int | None:
        """The number of clients that follows from the rule; None if it fits any number."""
        ...

    def deal(self, pool: Pool, clients: int) -> Indices:
        """The client of every sample of the pool, -1 for a sample that nobody gets.

        Raises:
            FedSepError: The rule cannot be followed.
        """
        ...


@dataclass(frozen=True)
class Iid:
    """See ``iid``."""

    column: str | None = None

    def clients(self, pool: Pool) -> int | None:
        """Any number."""
        return None

    def deal(self, pool: Pool, clients: int) -> Indices:
        """Equal shares of a random order."""
        count = len(pool.labels)
        owner = np.empty(count, np.int64)
        owner[order(pool.key, count)] = np.arange(count) * clients // count
        return owner


def iid() -> Iid:
    """Samples dealt at random, sizes equal to within one, nothing left over."""
    return Iid()


@dataclass(frozen=True)
class Blocks:
    """See ``blocks``."""

    column: str | None = None

    def clients(self, pool: Pool) -> int | None:
        """Any number."""
        return None

    def deal(self, pool: Pool, clients: int) -> Indices:
        """Equal shares of the source's order."""
        count = len(pool.labels)
        return np.arange(count) * clients // count


def blocks() -> Blocks:
    """Neighbouring samples stay together: consecutive runs in the order of the source, sizes equal to within one."""
    return Blocks()


@dataclass(frozen=True)
class Sizes:
    """See ``sizes``."""

    sizes: tuple[int, ...] | None
    power: float | None
    min_size: int
    column: str | None = None

    def clients(self, pool: Pool) -> int | None:
        """As many as there are sizes."""
        return None if self.sizes is None else len(self.sizes)

    def deal(self, pool: Pool, clients: int) -> Indices:
        """Consecutive runs of a random order; what is left over is nobody's."""
        count = len(pool.labels)
        shares = np.array(self.sizes) if self.sizes is not None else self._power_law(clients, count)
        if shares.sum() > count:
            raise FedSepError(f"sizes must add up to at most the {count:,} training samples (got {shares.sum():,})")
        owner = np.full(count, -1, np.int64)
        owner[order(pool.key, count)[: shares.sum()]] = np.repeat(np.arange(clients), shares)
        return owner

    def _power_law(self, clients: int, count: int) -> Indices:
        if clients * self.min_size > count:
            raise FedSepError(too_small(self.min_size, clients, count))
        weights = np.arange(1, clients + 1) ** -float(self.power or 0)
        return self.min_size + apportion(weights, count - clients * self.min_size)


@checked
def sizes(
    sizes: Sequence[Annotated[int, Range(ge=1)]] | None = None, *, power: NonNegative | None = None, min_size: Count = 1
) -> Sizes:
    """Samples dealt at random in shares of unequal size.

    Args:
        sizes: Number of samples of each client; what they leave over is nobody's.
        power: Instead of ``sizes``: beyond ``min_size``, client i (from 1) gets a share in proportion to i**-power.
        min_size: Least number of samples of a client, with ``power``.

    Raises:
        FedSepError: Both or neither of ``sizes`` and ``power``, or a size below 1.
    """
    if (sizes is None) == (power is None):
        raise FedSepError("sizes: give either a list of sizes or a power, not both and not neither")
    wrong = [size for size in sizes or () if isinstance(size, bool) or int(size) != size or size < 1]
    if wrong or (sizes is not None and len(sizes) == 0):
        raise FedSepError(f"sizes must be whole numbers of at least 1 (got {wrong[0] if wrong else 'an empty list'})")
    return Sizes(None if sizes is None else tuple(int(size) for size in sizes), power, min_size)


@dataclass(frozen=True)
class Natural:
    """See ``natural``."""

    column: str

    def clients(self, pool: Pool) -> int | None:
        """As many as the column has values."""
        return None if pool.group is None else len(np.unique(pool.group))

    def deal(self, pool: Pool, clients: int) -> Indices:
        """One client per value, in increasing order."""
        if pool.group is None:
            raise FedSepError(f"natural: the data have no column {self.column!r}")
        return np.unique(pool.group, return_inverse=True)[1].astype(np.int64)


def natural(column: str) -> Natural:
    """One client per value of a column, such as the writer or the hospital; the column is no input of the model.

    A value all of whose samples were held out for validation or testing gives no client.
    """
    return Natural(column)


def too_small(least: int, clients: int, count: int) -> str:
    """What is wrong with a least size that the samples do not suffice for."""
    return (
        f"min_size must be at most {count // clients} (got {least}: {clients:,} clients and {count:,} training samples)"
    )


def class_name(pool: Pool, label: int) -> str:
    """What messages call a class."""
    return repr(pool.names[label]) if pool.names else str(label)


def by_class(pool: Pool, clients: Indices) -> Indices:
    """Owners from a list of clients that runs through the classes in order, samples of a class at random."""
    shuffled = order(random.fold(pool.key, -1), len(pool.labels))
    owner = np.empty(len(pool.labels), np.int64)
    owner[shuffled[np.argsort(pool.labels[shuffled], kind="stable")]] = clients
    return owner
