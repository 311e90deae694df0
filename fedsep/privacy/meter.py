"""What a run has cost so far: a function of the plan and the number of rounds, so that nothing is lost on resume."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fedsep.privacy.accountant import Draw, Rounds, epsilon
from fedsep.privacy.guarantee import Guarantee

if TYPE_CHECKING:
    from fedsep.plan import Plan

NEIGHBOURS: dict[str, str] = {
    "poisson": "fleets that differ in the presence of one client",
    "without_replacement": "fleets of the same size in which one client is another",
    "none": "fleets in which all of one client's changes are 0 or not",
}
"""Between what pairs of fleets epsilon says that a model hardly differs, by how cohorts are drawn."""

UNCOVERED = (
    "It covers the server's models. It does not cover the run's folder (metrics such as train_loss, the ledger, client "
    "memories, checkpoints), lengths and times of messages, rounding of floating-point noise, or how settings were "
    "chosen."
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
    _known: tuple[int, float] = (0, 0.0)

    @property
    def draw(self) -> Draw:
        """How cohorts are drawn, for those from whom the draw is secret."""
        clients = self.plan.fleet.clients
        if self.promised.mechanism == "distributed" or self.plan.cohort.size(clients) == clients:
            return "none"
        return "poisson" if self.plan.cohort.sampling == "poisson" else "without_replacement"

    def epsilon(self, rounds: int) -> float:
        """Of the models of the first ``rounds`` rounds, void ones included, at the promised delta."""
        count = self._most_invitations(rounds) if self.promised.mechanism == "distributed" else rounds
        if count != self._known[0]:
            rate = self.promised.replies / self.plan.fleet.clients
            spent = epsilon(Rounds(self.draw, rate, self.promised.noise, count), self.promised.delta)
            self._known = count, spent
        return self._known[1]

    def facts(self, rounds: int) -> dict[str, Any]:
        """What a summary tells of the guarantee after so many rounds."""
        promised = self.promised
        told = {name: getattr(promised, name) for name in ("mechanism", "clip", "noise", "replies", "delta")}
        return {**told, "epsilon": self.epsilon(rounds), "sampling": self.draw, "neighbours": NEIGHBOURS[self.draw]}

    def notes(self, rounds: int) -> list[str]:
        """What a reader of the report must know."""
        promised, given = self.promised, self.promised.secret is not None
        spent = f"({self.epsilon(rounds):.3g}, {promised.delta:g})"
        told = [
            f"The models are {spent}-differentially private between {NEIGHBOURS[self.draw]}, by {promised.mechanism} "
            f"noise of {promised.noise:g} times the clipping norm {promised.clip:g}. {UNCOVERED}"
        ]
        if given:
            told.append("The secret of the noise was given: it protects nobody from those who know it.")
        if promised.mechanism == "distributed":
            told.append("That holds towards those who see sums of replies only: secure aggregation is not part of it.")
        return told

    def _most_invitations(self, rounds: int) -> int:
        """Rounds that the client that was invited most often was invited to."""
        for round in range(self._counted, rounds):
            self._invited.update(self.plan.cohort.members(self.plan.seed, round, self.plan.fleet.clients))
        self._counted = max(rounds, self._counted)
        return max(self._invited.values(), default=0)


def meter_of(plan: Plan) -> Meter | None:
    """The meter of a plan whose method promises something; None for others."""
    promised: Guarantee | None = getattr(plan.algorithm, "privacy", None)
    return None if promised is None else Meter(plan, promised)
