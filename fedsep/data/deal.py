"""Held-out shares of a data set, and evaluation samples dealt out by what classes a client holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fedsep import random
from fedsep.core import FedSepError
from fedsep.data.drawing import apportion, order
from fedsep.data.parts import Indices, Parts, by_pairs


def held_out(key: Tensor, count: int, held: int) -> tuple[Indices, Indices]:
    """Positions that stay and ``held`` uniformly chosen ones that are held out, both increasing."""
    shuffled = order(key, count)
    return np.sort(shuffled[held:]), np.sort(shuffled[:held])


def stratified(key: Tensor, labels: Indices, share: float) -> tuple[Indices, Indices]:
    """Positions that stay and a share of every class that is held out, both increasing; no class is held out whole.

    Raises:
        FedSepError: The share comes to no sample at all.
    """
    sizes = np.bincount(labels)
    quota = np.minimum(apportion(sizes.astype(np.float64), round(share * len(labels))), np.maximum(sizes - 1, 0))
    if quota.sum() == 0:
        singly = ", of no class more than one" if sizes.max() == 1 else ""
        raise FedSepError(f"test must hold out at least one sample (got {share:g} of {len(labels):,} samples{singly})")
    shuffled = order(key, len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    place = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    out = place < np.repeat(quota, sizes)
    return np.sort(by_class[~out]), np.sort(by_class[out])


def by_class_set(key: Tensor, labels: Indices, holds: npt.NDArray[np.bool_]) -> Parts:
    """Samples dealt to clients so that each gets samples of exactly the classes it holds.

    The samples of a class are split evenly among its holders. Where a class has fewer samples than holders, each
    holder gets one and holders share it: parts may then overlap. Samples of a class that nobody holds are nobody's,
    and a class without samples is missing in its holders' parts.

    Args:
        key: Randomness.
        labels: Class of every sample.
        holds: Whether a client holds a class, shape (clients, classes).
    """
    shuffled = order(key, len(labels))
    clients: list[Indices] = []
    samples: list[Indices] = []
    for label in range(holds.shape[1]):
        members, holders = shuffled[labels[shuffled] == label], np.flatnonzero(holds[:, label])
        if len(members) and len(holders):
            turns = np.arange(max(len(members), len(holders)))
            shift = int(random.integers(random.fold(key, label), len(holders), 1))
            clients.append(np.roll(holders, shift)[turns * len(holders) // len(turns)])
            samples.append(members[turns * len(members) // len(turns)])
    empty = np.zeros(0, np.int64)
    return by_pairs(np.concatenate([empty, *clients]), np.concatenate([empty, *samples]), len(holds))
