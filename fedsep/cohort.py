"""Who takes part in a round, how large a model each client can hold, and the key it gets.

All of it depends on the run's seed and the round alone, so that every method meets the same cohorts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from fedsep import random
from fedsep.core import Ctx, Invitation, Tree
from fedsep.options import option_errors
from fedsep.ranges import Count, Fraction

# What the run's key is folded with; larger than any round, so that no round's keys are met again.
_MEMBERS = int.from_bytes(b"cohort", "big")
_CAPABILITIES = int.from_bytes(b"widths", "big")


@dataclass(frozen=True)
class Cohort:
    """How many clients take part in a round, and what they can hold.

    Attributes:
        per_round: Number of clients in a round, drawn without replacement (see ``sampling``); None: all of them.
        capabilities: Fractions of the server's model. A fraction that is listed twice is met twice as often.
        draw: ``"fixed"``: every client has one capability for the whole run, each listed one equally often
            (to within one client), at random; ``"ordered"``: the same in the order of clients, the first of them the
            first one; ``"dynamic"``: each client draws one in each round.
        sampling: ``"fixed"``: every round has ``per_round`` clients; ``"poisson"``: so many on average, each client
            taking part by a draw of its own, as the tightest accountant of differential privacy has it.
    """

    per_round: Count | None = None
    capabilities: tuple[Fraction, ...] = (1.0,)
    draw: Literal["fixed", "ordered", "dynamic"] = "fixed"
    sampling: Literal["fixed", "poisson"] = "fixed"

    def errors(self, clients: int) -> list[str]:
        """What is wrong with it for a fleet of ``clients``."""
        errors = option_errors("cohort", self)
        if isinstance(self.per_round, int | float) and self.per_round > clients:
            errors.append(f"cohort.per_round must be at most the number of clients, {clients:,} (got {self.per_round})")
        if not self.capabilities:
            errors.append("cohort.capabilities must name at least one fraction (got none)")
        return errors

    def size(self, clients: int) -> int:
        """Number of clients in a round; the expected number of Poisson cohorts."""
        return clients if self.per_round is None else min(self.per_round, clients)

    def members(self, seed: int, round: int, clients: int) -> list[int]:
        """The clients of a round in increasing order, in time and memory proportional to their number."""
        key, size = random.fold(_key(seed, _MEMBERS), round), self.size(clients)
        return (
            random.bernoulli(key, clients, size / clients)
            if self.sampling == "poisson"
            else random.sample(key, clients, size)
        )

    def capability(self, seed: int, round: int, members: Sequence[int], clients: int) -> list[float]:
        """What each of ``members`` can hold in a round."""
        kinds = len(self.capabilities)
        if kinds == 1:
            return [float(self.capabilities[0])] * len(members)
        which = torch.tensor(members, dtype=torch.int64, device="cpu")
        if self.draw == "fixed":
            index = _shuffled(seed, clients)[which] % kinds
        elif self.draw == "ordered":
            index = which * kinds // clients
        else:
            draws = random.fold(random.fold(_key(seed, _CAPABILITIES), round), which)
            index = ((draws >> 32 & 0xFFFFFFFF) * kinds) >> 32
        return [float(self.capabilities[i]) for i in index.tolist()]

    def invitations(
        self, seed: int, round: int, members: Sequence[int], seen: Tensor, report: Callable[[int], Tree]
    ) -> list[Invitation]:
        """The seats of a round.

        Args:
            seed: The run's seed.
            round: Number of the round, from 0.
            members: The clients, in increasing order.
            seen: Round of the last accepted reply of every client of the fleet, -1 if there was none; int64.
            report: What a client's last accepted report was, None if there was none.
        """
        which = torch.tensor(members, dtype=torch.int64, device="cpu")
        keys = random.fold(random.fold(random.key(seed), round), which)
        capability = self.capability(seed, round, members, len(seen))
        # A key of its own for each: a view of them all would take them all along wherever it is sent.
        return [
            Invitation(client, Ctx(round, width, random.as_key(key), last, report(client)))
            for client, width, key, last in zip(members, capability, keys.tolist(), seen[which].tolist(), strict=True)
        ]


def _key(seed: int, purpose: int) -> Tensor:
    return random.fold(random.key(seed), purpose)


@lru_cache(maxsize=8)
def _shuffled(seed: int, clients: int) -> Tensor:
    """The clients in the random order by which capabilities are dealt out: 8 bytes a client, made once."""
    return random.permutation(_key(seed, _CAPABILITIES), clients)
