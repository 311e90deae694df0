"""What a run has cost so far: a function of the plan and the number of rounds, so that nothing is lost on resume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fedsep.evaluation import has_central_data
from fedsep.privacy.accountant import Draw, Rounds, epsilon
from fedsep.privacy.guarantee import Guarantee

if TYPE_CHECKING:
    from fedsep.plan import Plan

NEIGHBOURS: dict[str, str] = {
    "poisson": "fleets that differ in the presence of one client",
    "without_replacement": "fleets of the same size in which one client is another",
    "none": "fleets in which all of one client's changes are 0 or not",
    "examples": "fleets that differ in the presence of one example",
}
"""Between what pairs of fleets epsilon says that a model hardly differs, by what is drawn."""

UNCOVERED = (
    "It covers the server's models. It does not cover the run's folder (metrics such as train_loss, the ledger, client "
    "memories, checkpoints), the constants by which inputs are normalised, where they are measured on clients' data, "
    "lengths and times of messages, rounding of floating-point noise, or how settings were chosen."
)

AT_SITES = (
    "There are no central data: test and validation metrics are means over the clients' own examples, without noise, "
    "and are not covered either."
)


@dataclass
class Meter:
    """Epsilon round by round.

    Attributes:
        plan: The run's.
        promised: What its method promises.
    """

    plan: Plan
    promised: Guarantee
    _counted: int = 0
    _invited: Counter[int] = field(default_factory=Counter[int])
    _sizes: dict[int, int] = field(default_factory=dict[int, int])
    _known: tuple[tuple[Rounds, ...], float] = ((), 0.0)

    @property
    def draw(self) -> Draw:
        """How cohorts, or minibatches, are drawn, for those from whom the draw is secret."""
        clients = self.plan.fleet.clients
        if self.promised.mechanism == "dp_sgd":
            return "poisson"
        if self.promised.mechanism == "distributed" or self.plan.cohort.size(clients) == clients:
            return "none"
        return "poisson" if self.plan.cohort.sampling == "poisson" else "without_replacement"

    @property
    def neighbours(self) -> str:
        """Between what fleets the guarantee is."""
        return NEIGHBOURS["examples" if self.promised.mechanism == "dp_sgd" else self.draw]

    def epsilon(self, rounds: int) -> float:
        """Of the models of the first ``rounds`` rounds, void ones included, at the promised delta."""
        costs = self._costs(rounds)
        if costs != self._known[0]:
            self._known = costs, max((epsilon(each, self.promised.delta) for each in costs), default=0.0)
        return self._known[1]

    def facts(self, rounds: int) -> dict[str, Any]:
        """What a summary tells of the guarantee after so many rounds."""
        promised = self.promised
        told = {name: getattr(promised, name) for name in ("mechanism", "clip", "noise", "replies", "delta")}
        return {**told, "epsilon": self.epsilon(rounds), "sampling": self.draw, "neighbours": self.neighbours}

    def notes(self, rounds: int) -> list[str]:
        """What a reader of the report must know."""
        promised, given = self.promised, self.promised.secret is not None
        spent = f"({self.epsilon(rounds):.3g}, {promised.delta:g})"
        told = [
            f"The models are {spent}-differentially private between {self.neighbours}, by {promised.mechanism} "
            f"noise of {promised.noise:g} times the clipping norm {promised.clip:g}. {UNCOVERED}"
        ]
        if given:
            told.append("The secret of the noise was given: it protects nobody from those who know it.")
        if not has_central_data(self.plan.fleet):
            told.append(AT_SITES)
        if promised.mechanism == "dp_sgd":
            told.append("Clients trust nobody: single replies are private as well. Who takes part, and when, is not.")
        if promised.mechanism == "distributed":
            told.append("That holds towards those who see sums of replies only: secure aggregation is not part of it.")
        return told

    def _costs(self, rounds: int) -> tuple[Rounds, ...]:
        """What there is to pay for; the dearest of several counts."""
        promised = self.promised
        if promised.mechanism == "central":
            return (Rounds(self.draw, promised.replies / self.plan.fleet.clients, promised.noise, rounds),)
        invited = self._invitations(rounds)
        if promised.mechanism == "distributed":
            return (Rounds("none", 1.0, promised.noise, max(invited.values(), default=0)),)
        return tuple(
            Rounds("poisson", promised.replies / size, promised.noise, promised.steps * times)
            for size, times in self._dearest(invited)
        )

    def _invitations(self, rounds: int) -> Counter[int]:
        """How often each client was invited, by the run's seed."""
        for round in range(self._counted, rounds):
            self._invited.update(self.plan.cohort.members(self.plan.seed, round, self.plan.fleet.clients))
        self._counted = max(rounds, self._counted)
        return self._invited

    def _dearest(self, invited: Counter[int]) -> Iterator[tuple[int, int]]:
        """Numbers of examples and of invitations that no client beats in both: fewer examples, more invitations."""
        most: dict[int, int] = {}
        for client, times in invited.items():
            size = self._size(client)
            most[size] = max(times, most.get(size, 0))
        record = 0
        for size, times in sorted(most.items()):
            if times > record:
                record = times
                yield size, times

    def _size(self, client: int) -> int:
        if client not in self._sizes:
            self._sizes[client] = self.plan.fleet.shard(client).train.size
        return self._sizes[client]


def meter_of(plan: Plan) -> Meter | None:
    """The meter of a plan whose method promises something; None for others."""
    promised: Guarantee | None = getattr(plan.algorithm, "privacy", None)
    return None if promised is None else Meter(plan, promised)
