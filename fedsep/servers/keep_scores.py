"""A server that also keeps what clients say of the model's units: an average over clients and rounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fedsep.core import Params, Server, Tree, Update
from fedsep.views.personal import Scored


@dataclass(frozen=True)
class KeepScores:
    """scores <- memory scores + (1 - memory) mean over the round's clients that scored; the model moves by ``server``.

    Each score is averaged over those who gave it, whatever the model's reduction is, and stays where nobody did. Where
    clients change the model in two terms, ``server`` is given both by name (``servers.both_terms``).

    Attributes:
        server: Moves the model.
        memory: Share of the old scores.
    """

    server: Server[Any]
    memory: float

    def init(self, x: Scored) -> Tree:
        """The model's optimiser's state."""
        return self.server.init(x["model"])

    def step(self, x: Scored, updates: Iterable[Update], state: Tree) -> tuple[Scored, Tree]:
        """Both parts, in one pass over the replies; as they were if nobody replied."""
        poll = _Poll(updates)
        model, state = self.server.step(x["model"], poll, state)
        scores = {group: self._renewed(part, *poll.sums[group]) if group in poll.sums else part
                  for group, part in x["scores"].items()}  # fmt: skip
        return {**x, "model": model, "scores": scores}, state

    def _renewed(self, old: Tensor, total: Tensor, weight: Tensor) -> Tensor:
        mean = total / weight.clamp_min(1e-30)
        return torch.where(weight > 0, self.memory * old + (1 - self.memory) * mean, old)


@dataclass
class _Poll:
    """The model's updates as they pass, while sums are kept of the scores: memory does not grow with the cohort."""

    updates: Iterable[Update]
    sums: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict[str, tuple[Tensor, Tensor]])

    def __iter__(self) -> Iterator[Update]:
        for update in self.updates:
            assert update.cover is not None
            for group, heard in update.cover["scores"].items():
                given, weight = update.value["scores"][group] * heard * update.weight, heard * update.weight
                total, by = self.sums.get(group, (0.0, 0.0))
                self.sums[group] = given + total, weight + by
            yield Update(_terms(update.value), update.weight, _terms(update.cover))


def _terms(of: Scored) -> Params | dict[str, Params]:
    """What moves the model: one tree, or both terms by name."""
    return {"first": of["model"], "second": of["second"]} if "second" in of else of["model"]
