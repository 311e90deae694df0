"""Exactly k classes for every client and equal sizes, whatever the sizes of the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from fedsep import random
from fedsep.core import FedSepError
from fedsep.data.drawing import draws, grid
from fedsep.data.parts import Indices
from fedsep.data.rules import Pool, by_class, class_name
from fedsep.data.transport import components, demands, edges, shares

if TYPE_CHECKING:
    from fedsep.data.classes import Rare

ATTEMPTS = 20
"""Random assignments of classes that are tried before the rule gives up."""


def deal(pool: Pool, clients: int, k: int, rare: Rare | None = None) -> Indices:
    """The client of every sample: exactly k classes each, sizes equal to within one, nothing dropped.

    Args:
        pool: What there is.
        clients: Number of clients.
        k: Classes per client.
        rare: Classes that only some clients may hold.

    Raises:
        FedSepError: Classes are too unequal for equal shares.
    """
    supply = np.bincount(pool.labels, minlength=pool.classes).astype(np.int64)
    for attempt in range(ATTEMPTS):
        key = random.fold(pool.key, attempt)
        held = assign(random.fold(key, 0), clients, k, supply, even=attempt > 0)
        if rare is not None:
            held = _with_rare(random.fold(key, 2), held, rare)
        demand, graph = demands(random.fold(key, 1), held, supply), edges(held)
        fits = rare is None or not np.isin(held[: len(held) - rare.last], rare.classes).any()
        amounts = shares(graph, supply, demand) if fits and demand is not None else None
        if amounts is not None:
            return by_class(pool, np.repeat(graph.client, amounts))
    raise FedSepError(_infeasible(pool, supply, clients, k))


def _infeasible(pool: Pool, supply: Indices, clients: int, k: int) -> str:
    least, most = int(supply.argmin()), int(supply.argmax())
    low, high = (f"{class_name(pool, label)} ({supply[label]:,} samples)" for label in (least, most))
    text = (
        f"classes: no equal shares found for {clients} clients with exactly k = {k} classes each, as classes are as "
        f"unequal as {low} and {high}"
    )
    cure = "k of at least 2" if k == 1 else "another k or number of clients"
    return f"{text}, use {cure}, mode pathological, or dirichlet"


def assign(key: Tensor, clients: int, k: int, supply: Indices, even: bool = False) -> Indices:
    """Deals k different classes to every client, every class equally often; the graph is connected if it can be.

    Random orders of all classes are written one behind the other and cut in k's; where a cut spans two orders, the
    second begins with classes that the first part lacks.

    Args:
        key: Randomness.
        clients: Number of clients; k times it is a multiple of the number of classes.
        k: Classes per client.
        supply: Samples of each class.
        even: Whether to swap until large classes go with small ones: less random, but equal shares are likelier.

    Returns:
        Shape (clients, k).
    """
    classes = len(supply)
    blocks = grid(random.fold(key, 0), clients * k // classes, classes)
    if classes % k:
        blocks = _without_clashes(blocks, k)
    held = blocks.reshape(clients, k)
    if even:
        held = _evened(random.fold(key, 2), held, supply)
    return _connected(random.fold(key, 1), held, classes) if k > 1 and len(blocks) > 1 else held


def _connected(key: Tensor, held: Indices, classes: int, tries: int = 2000) -> Indices:
    """Swaps classes between clients of different components for as long as that joins components."""
    count, component = components(held, classes)
    for pick in draws(key, 4 * tries, 2**30).reshape(tries, 4) if count > 1 else ():
        inside, outside = np.flatnonzero(component == 0), np.flatnonzero(component != 0)
        i, j = inside[pick[0] % len(inside)], outside[pick[1] % len(outside)]
        a, b = pick[2] % held.shape[1], pick[3] % held.shape[1]
        swapped = held.copy()
        swapped[i, a], swapped[j, b] = held[j, b], held[i, a]
        joined, found = components(swapped, classes)
        if joined < count:
            held, count, component = swapped, joined, found
        if count == 1:
            break
    return held


def _with_rare(key: Tensor, held: Indices, rare: Rare) -> Indices:
    """Swaps each rare class of a client that may not hold it with another class of one that may, at random."""
    cards: list[list[int]] = held.tolist()
    apart, first = set(rare.classes), len(cards) - rare.last
    wrong = [i for i in range(first) for label in cards[i] if label in apart]
    for number, i in enumerate(wrong):
        mine = next(label for label in cards[i] if label in apart)
        places = [
            (j, at)
            for j in range(first, len(cards))
            for at, other in enumerate(cards[j])
            if other not in apart and other not in cards[i] and mine not in cards[j]
        ]
        if not places:
            return held  # no equal shares are found then, and another attempt is made
        j, at = places[int(random.integers(random.fold(key, number), len(places), 1))]
        cards[i][cards[i].index(mine)], cards[j][at] = cards[j][at], mine
    return np.array(cards, np.int64)


def _without_clashes(blocks: Indices, k: int) -> Indices:
    """Where a run of k spans two rows, the second begins with what the first part lacks."""
    classes = blocks.shape[1]
    rows: list[list[int]] = blocks.tolist()
    for number in range(1, len(rows)):
        begun = number * classes % k
        if begun:
            taken = set(rows[number - 1][-begun:])
            lead = [label for label in rows[number] if label not in taken][: k - begun]
            rows[number] = lead + [label for label in rows[number] if label not in lead]
    return np.array(rows, np.int64)


def _evened(key: Tensor, held: Indices, supply: Indices, most: int = 20_000) -> Indices:
    """Swaps classes between pairs of clients wherever that brings their loads together.

    A client's load is what it would get if every class were split evenly among its holders.
    """
    clients, k = held.shape
    share: list[float] = (supply * len(supply) / held.size).tolist()
    cards: list[list[int]] = held.tolist()
    load = [sum(share[label] for label in row) for row in cards]
    for first, second, a, b in draws(key, 4 * min(20 * held.size, most), 2**30).reshape(-1, 4).tolist():
        i, j = first % clients, second % clients
        mine, other = cards[i][a % k], cards[j][b % k]
        change = share[other] - share[mine]
        if change * (change + load[i] - load[j]) < 0 and other not in cards[i] and mine not in cards[j]:
            cards[i][a % k], cards[j][b % k] = other, mine
            load[i], load[j] = load[i] + change, load[j] - change
    return np.array(cards, np.int64)
