"""The rule ``classes(k)``: every client holds k classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from fedsep import random
from fedsep.core import FedSepError
from fedsep.data.drawing import order
from fedsep.data.parts import Indices
from fedsep.data.rules import Pool, by_class, class_name
from fedsep.ranges import Count, Fraction, NonNegativeInt, checked

Mode = Literal["balanced", "heterofl", "pathological"]


class Rare(NamedTuple):
    """Classes that only the last clients hold, and how many clients these are."""

    classes: tuple[int, ...]
    last: int


@dataclass(frozen=True)
class Classes:
    """See ``classes``."""

    k: int
    mode: Mode
    rare: tuple[int, ...] = ()
    among: float = 1.0
    column: str | None = None

    def clients(self, pool: Pool) -> int | None:
        """Any number, as far as k allows."""
        return None

    def deal(self, pool: Pool, clients: int) -> Indices:
        """The client of every sample."""
        _check(self, pool, clients)
        if not self.rare:
            return _MODES[self.mode](pool, clients, self.k)
        from fedsep.data.balanced import deal

        return deal(pool, clients, self.k, Rare(self.rare, _last(self, clients)))


@checked
def classes(
    k: Count, *, mode: Mode = "balanced", rare: Sequence[NonNegativeInt] | None = None, among: Fraction | None = None
) -> Classes:
    """Every client holds k classes.

    Args:
        k: Classes per client.
        mode: ``balanced``: exactly k classes each, every class with equally many clients, sizes equal to within one,
            nothing dropped; where classes differ in size, surplus moves along shared classes.
            ``heterofl``: the rule of HeteroFL's and FedRolex's public code, to compare with figures made by it: the
            list of classes, each repeated clients k / classes times, is shuffled and cut in k per client, and
            duplicates collapse, so that a client may hold fewer than k classes and some samples are nobody's.
            ``pathological``: the rule of McMahan et al. 2017: samples sorted by class are cut in clients k equal
            shards and every client gets k of them at random; a shard may reach into the next class.
        rare: Classes, by number, that only the last clients hold: with ``cohort.draw: ordered`` the weakest. With mode
            ``balanced`` only; everything else is as without.
        among: Share of the clients, counted from the last, that may hold them; None: all.

    Raises:
        FedSepError: An unknown mode, or rare classes in another mode than balanced. When dealing: more classes than
            there are, numbers that do not divide, or classes so unequal that equal shares do not exist.
    """
    if mode not in _MODES:
        raise FedSepError(f"mode must be one of {', '.join(_MODES)} (got {mode!r})")
    if rare and mode != "balanced":
        raise FedSepError(f"rare classes need mode balanced (got mode {mode!r})")
    return Classes(k, mode, tuple(rare or ()), 1.0 if among is None else among)


def _check(rule: Classes, pool: Pool, clients: int) -> None:
    if pool.classes < 2:
        raise FedSepError("classes: the targets are no classes of whole examples: use iid, sizes, natural or blocks")
    if rule.k > pool.classes:
        raise FedSepError(f"k must be at most the {pool.classes} classes of the data (got {rule.k})")
    if rule.mode != "pathological" and clients * rule.k % pool.classes:
        raise FedSepError(
            f"k does not divide: clients x k must be a multiple of the {pool.classes} classes, so that every class has "
            f"as many clients (got {clients} x {rule.k} = {clients * rule.k}{_fitting(clients, rule.k, pool.classes)})"
        )
    if rule.mode == "pathological" and clients * rule.k > len(pool.labels):
        raise FedSepError(
            f"k must leave each of clients x k shards a sample ({clients * rule.k:,} shards of {len(pool.labels):,})"
        )
    holders, held = clients * rule.k // pool.classes, np.bincount(pool.labels, minlength=pool.classes)
    if rule.mode != "pathological" and held.min() < holders:
        least = int(held.argmin())
        raise FedSepError(
            f"k is too large: class {class_name(pool, least)} has {held[least]:,} training samples but "
            f"{clients} x {rule.k} / {pool.classes} = {holders:,} clients must hold it"
        )

    if rule.rare:
        _check_rare(rule, pool, clients, holders)


def _check_rare(rule: Classes, pool: Pool, clients: int, holders: int) -> None:
    if max(rule.rare) >= pool.classes or len(set(rule.rare)) < len(rule.rare):
        raise FedSepError(
            f"rare must name different classes from 0 to {pool.classes - 1} (got {', '.join(map(str, rule.rare))})"
        )
    last, rare = _last(rule, clients), len(rule.rare)
    needed, room = rare * holders, last * min(rule.k, rare)
    if needed > room or rule.k > pool.classes - rare or (clients - last) * rule.k > (pool.classes - rare) * holders:
        raise FedSepError(
            f"among must leave the {rare} rare classes enough clients: each class has {holders} holders, and of the "
            f"{clients} clients the last {last} may hold rare ones, {rule.k} classes each (got among {rule.among:g})"
        )


def _last(rule: Classes, clients: int) -> int:
    return round(rule.among * clients)


def _fitting(clients: int, k: int, total: int) -> str:
    """Which k, or else which number of clients, would do."""
    fits = [other for other in range(1, total + 1) if clients * other % total == 0]
    near = sorted(sorted(fits, key=lambda other: abs(other - k))[:3])
    step = total // np.gcd(k, total)
    below, above = clients // step * step, (clients // step + 1) * step
    counts = " or ".join(str(count) for count in (below, above) if count)
    return f", k = {', '.join(map(str, near))} would do, or {counts} clients"


def _balanced(pool: Pool, clients: int, k: int) -> Indices:
    from fedsep.data.balanced import deal  # brings scipy, which nothing else here needs

    return deal(pool, clients, k)


def _heterofl(pool: Pool, clients: int, k: int) -> Indices:
    shards = clients * k // pool.classes
    cards = np.repeat(np.arange(pool.classes), shards)[order(random.fold(pool.key, 0), clients * k)].reshape(clients, k)
    owner = np.full(len(pool.labels), -1, np.int64)
    for label in range(pool.classes):
        members = np.flatnonzero(pool.labels == label)
        size = len(members) // shards
        place = np.arange(len(members))
        shard = np.where(place < size * shards, place // size, place - size * shards)
        holders = np.flatnonzero((cards == label).any(axis=1))
        taker = np.full(shards, -1, np.int64)
        taker[order(random.fold(pool.key, 1 + label), shards)[: len(holders)]] = holders
        owner[members] = taker[shard]
    return owner


def _pathological(pool: Pool, clients: int, k: int) -> Indices:
    count, shards = len(pool.labels), clients * k
    shard = np.arange(count) * shards // count
    return by_class(pool, (order(random.fold(pool.key, 0), shards) // k)[shard])


_MODES = {"balanced": _balanced, "heterofl": _heterofl, "pathological": _pathological}
