"""What the rows of clients that can hold less need: numbers of weights sent, public data, other networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fedsep import models, random
from fedsep.core import Samples
from fedsep.testing.documented import Size
from fedsep.testing.play import Played

INPUTS, HIDDEN, OUTPUTS = 4, 3, 3
"""Sizes of the catalogue's network."""

HEAD = ("1.weight", "1.bias")
"""Its parameters whose rows are classes."""


def masked_counts(played: Played, number: int, client: int, power: int, density: float) -> list[int]:
    """How many weights of each sparse layer a client is given; of layers of one density, where it is a weak one."""
    masks, share = played.states[number].x["mask"].values(), played.seats[number][client].ctx.capability ** power
    if share == 1:
        return [int(mask.sum()) for mask in masks]
    return [max(1, round(share * density * mask.numel())) for mask in masks]


def weights_sent(power: int = 0, density: float = 1.0, *, first: int | None = None) -> Size:
    """The client's part of the server's kept weights, and the biases; ``first`` numbers while Flash agrees."""

    def count(played: Played, number: int, client: int) -> int:
        if first is not None and not int(played.states[number].x["agreed"]):
            return first
        return sum(masked_counts(played, number, client, power, density)) + HIDDEN + OUTPUTS

    return count


def places_sent(*, always: bool) -> Size:
    """A bit for each weight of the layers that are not kept whole, in the rounds in which masks travel."""

    def count(played: Played, number: int, client: int) -> int:
        x = played.states[number].x
        news = played.seats[number][client].ctx.seen < int(x["since"])
        if not int(x.get("agreed", 1)) or not (always or news):
            return 0
        return sum(-(-mask.numel() // 8) for mask in x["mask"].values())

    return count


def largest_sent(density: float, power: int, bytes_each: int = 0) -> Mapping[str, Size]:
    """ZeroFL: how many coordinates are sent, and their positions, as bits or in some bytes each."""

    def kept(played: Played, number: int, client: int) -> list[int]:
        part = density * played.seats[number][client].ctx.capability ** power + 0.2
        return [round(part * n) for n in (INPUTS * HIDDEN, HIDDEN * OUTPUTS)]

    bitmask = -(-INPUTS * HIDDEN // 8) + -(-HIDDEN * OUTPUTS // 8)
    return {"classes": OUTPUTS, "numbers": 0, "sent": lambda *at: sum(kept(*at)) + HIDDEN + OUTPUTS,
            "places": lambda *at: bytes_each * sum(kept(*at)) or bitmask}  # fmt: skip


def classes_told(count: int = OUTPUTS) -> Size:
    """Classes, or what else so many are told of, of Flash's replies: none while it agrees."""
    return lambda played, number, client: count * int(played.states[number].x["agreed"])


def moves(every: int) -> Size:
    """Positions of FedDST's replies: in every so many rounds."""
    always = places_sent(always=True)
    return lambda played, number, client: 0 if number % every else always(played, number, client)  # type: ignore[operator]


def public(count: int = 12) -> Samples:
    """Examples without labels."""
    return Samples(random.normal(random.key(200), count, INPUTS), torch.zeros(count, dtype=torch.int64))


def narrow_net(hidden: int, seed: int = 3) -> torch.nn.Module:
    """A network of another width, with other names of its parameters."""
    return models.mlp((INPUTS,), OUTPUTS, hidden=(hidden,), seed=seed)


def zoo(*, heads: bool = False) -> Callable[[], Mapping[str, Any]]:
    """For clients of capability 1/2: the next smaller network, or one with a head of the same shape."""
    small = models.mlp((INPUTS,), OUTPUTS, hidden=(2, HIDDEN), seed=3) if heads else narrow_net(2)
    return lambda: {"public": public(), "zoo": {0.5: small}}


def own(*small: int) -> Size:
    """Parameters of a client's architecture, from its layers' sizes."""
    whole, part = (sum((a + 1) * b for a, b in itertools.pairwise((INPUTS, *hidden, OUTPUTS)))
                   for hidden in ((HIDDEN,), small))  # fmt: skip
    return lambda played, number, client: whole if played.seats[number][client].ctx.capability == 1 else part
