"""The rule ``dirichlet(alpha)``: classes in random proportions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedsep import random
from fedsep.core import FedSepError
from fedsep.data.drawing import apportion, order
from fedsep.data.parts import Indices
from fedsep.data.rules import Pool, too_small
from fedsep.ranges import NonNegativeInt, Positive, checked


@dataclass(frozen=True)
class Dirichlet:
    """See ``dirichlet``."""

    alpha: float
    min_size: int
    column: str | None = None

    def clients(self, pool: Pool) -> int | None:
        """Any number."""
        return None

    def deal(self, pool: Pool, clients: int) -> Indices:
        """Each class cut at random proportions; then too small clients are filled up."""
        count = len(pool.labels)
        if clients * self.min_size > count:
            raise FedSepError(too_small(self.min_size, clients, count))
        draws = np.random.default_rng(int(pool.key) & (2**63 - 1))
        shuffled = order(random.fold(pool.key, 1), count)
        owner = np.empty(count, np.int64)
        for label in range(pool.classes):
            members = shuffled[pool.labels[shuffled] == label]
            share = apportion(draws.dirichlet(np.full(clients, self.alpha)), len(members))
            owner[members] = np.repeat(np.arange(clients), share)
        return _filled_up(owner, shuffled, clients, self.min_size)


@checked
def dirichlet(alpha: Positive, *, min_size: NonNegativeInt = 1) -> Dirichlet:
    """Each class is split among the clients in proportions drawn from Dirichlet(alpha): small alpha, few classes each.

    Clients with fewer than ``min_size`` samples are filled up with samples of whoever has most, chosen at random
    from those; nothing is dropped. The proportions are drawn with numpy's generator.

    Args:
        alpha: Concentration; 100 is nearly i.i.d., 0.1 leaves most clients with a few classes.
        min_size: Least number of samples of a client.

    Reference:
        Hsu, Qi, Brown 2019, arXiv:1909.06335, as by class in Yurochkin et al. 2019, arXiv:1905.12022.
    """
    return Dirichlet(alpha, min_size)


def _filled_up(owner: Indices, shuffled: Indices, clients: int, least: int) -> Indices:
    """Moves one sample after the other from whoever has most to the clients that have too few."""
    held = np.bincount(owner, minlength=clients)
    lack = np.maximum(least - held, 0)
    given = np.zeros(clients, np.int64)
    for _ in range(int(lack.sum())):
        donor = int(held.argmax())
        held[donor] -= 1
        given[donor] += 1
    by_donor = shuffled[np.argsort(owner[shuffled], kind="stable")]
    before = np.bincount(owner, minlength=clients)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(before) - before, before)
    moved = by_donor[place < np.repeat(given, before)]
    owner[moved] = np.repeat(np.arange(clients), lack)
    return owner
