"""Central differential privacy: a trusted server clips each change and adds noise to their sum."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import FedSepError, Server, Tree, Update
from fedsep.fedsep import FedSep
from fedsep.privacy.guarantee import Delta, Guarantee, require_plain
from fedsep.privacy.noise import clipped, new_secret, normal_like, number
from fedsep.ranges import Count, NonNegativeInt, Positive, checked


class CentralState(NamedTuple):
    """The secret (32 bytes, uint8) of noise and cohorts, the round to come, and the server's own state."""

    secret: Tensor
    round: Tensor
    server: Tree


@dataclass(frozen=True)
class Central:
    """See ``central``."""

    server: Server[Any]
    privacy: Guarantee

    def init(self, x: Tree) -> CentralState:
        """A secret of its own for every run, unless one was given."""
        secret = torch.frombuffer(bytearray(new_secret(self.privacy.secret, self.privacy.seed)), dtype=torch.uint8)
        return CentralState(secret, torch.tensor(0), self.server.init(x))

    def renew(self, x: Tree, state: CentralState) -> CentralState:
        """The server forgets, since x means something new; secret and count go on: no round's noise comes twice."""
        return state._replace(server=self.server.init(x))

    def cohort_seed(self, state: CentralState) -> int:
        """Who takes part must be as secret as the noise: what is gained by sampling is lost on whoever knows it."""
        return number(_bytes(state.secret), "cohort", int(state.round))

    def step(self, x: Tree, updates: Iterable[Update], state: CentralState) -> tuple[Tree, CentralState]:
        """x moved by the noisy mean. Noise is added also where nobody replied: that nobody did must not show."""
        like = moved(self.server, x)
        noise = normal_like(_bytes(state.secret), "noise", int(state.round), like)
        total = tree.scale(noise, self.privacy.noise * self.privacy.clip)
        for update in updates:
            total = tree.add(total, clipped(counted_once(update), self.privacy.clip))
        mean = divided(total, self.privacy.replies, like)
        x, server = self.server.step(x, iter([Update(mean)]), state.server)
        return x, CentralState(state.secret, state.round + 1, server)


def moved(server: Any, x: Tree) -> Tree:
    """The parts of x that changes have, under a server that ``require_plain`` lets pass."""
    while hasattr(server, "server"):
        server = server.server
    return {name: x[name] for name in server.rule} if isinstance(server.rule, Mapping) else x


def counted_once(update: Update) -> Tree:
    """A client's change, which counts as much as any other's.

    Raises:
        FedSepError: It has a weight, or a cover, of its own.
    """
    if update.weight != 1.0 or update.cover is not None:
        raise FedSepError(
            "privacy: every client's change must count the same and cover all of x: weights and covers reach the "
            "server without noise"
        )
    return update.value


def divided(total: Tree, by: int, like: Tree) -> Tree:
    """total / by, in the types of ``like``."""
    return tree.map(lambda into, part: (part / by).to(into.dtype), like, total)


def _bytes(secret: Tensor) -> bytes:
    return bytes(secret.tolist())


@checked
def central(
    method: FedSep,
    *,
    clip: Positive,
    noise: Positive,
    replies: Count,
    delta: Delta = 1e-5,
    secret: NonNegativeInt | None = None,
    seed: NonNegativeInt = 0,
) -> FedSep:
    r"""The Gaussian mechanism at a trusted server, around a method: x moves by (sum_m clip(dx_m) + noise) / replies.

    clip(v) = v min(1, C / |v|) over all of a change as the server reads it, in the coordinates of x: a sketch's
    change has p of them. The noise is N(0, (noise C)^2) in each. Whatever the server's optimiser, the downlink and the
    clients do with x afterwards costs no more. The sum is divided by ``replies``, whoever replied, so that one client
    more or less moves it by C / replies at most.

    Who is trusted: the server, which sees every change, and draws cohorts and noise from a secret; not those who see
    its models, other clients included. Epsilon is for the sequence of its models; for what it does not cover see
    docs/privacy.md.

    Args:
        method: A method made of the five parts, with ``weighting: uniform`` and a server that averages; its uplink may
            be anything.
        clip: C, the largest Euclidean norm of a change.
        noise: Standard deviation of the noise on the sum, over C.
        replies: The cohort's size; with Poisson cohorts its expected size.
        delta: Of (epsilon, delta); well below 1 / clients.
        secret: A number instead of the operating system's entropy, to repeat a run bit for bit: whoever knows it can
            take the noise away again. For tests and studies.
        seed: Goes with ``secret``: the run's seed, so that runs of several seeds have noise of their own.

    Bytes:
        Those of ``method``.

    Memory:
        Server: 16 bytes for each number of x during its step.

    Raises:
        FedSepError: The method weights clients, or reduces in a way of its own.

    Reference:
        McMahan, Ramage, Talwar, Zhang 2018, arXiv:1710.06963 (DP-FedAvg, with its fixed denominator).
    """
    require_plain(method, "central")
    promised = Guarantee("central", clip, noise, replies, delta, secret=secret, seed=seed)
    return dataclasses.replace(method, server=Central(method.server, promised))
