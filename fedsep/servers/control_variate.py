"""The server's step of SCAFFOLD: the model by its rule, the control variate by a sum over all clients there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypedDict

from fedsep import tree
from fedsep.core import FedSepError, Params, Update
from fedsep.servers.optimize import Reduced, Rule
from fedsep.servers.reduce import mean
from fedsep.servers.sgd import SGDRule


class Controlled(TypedDict):
    """x: the model and the control variate, c = mean of all clients' c_m."""

    model: Params
    c: Params


@dataclass(frozen=True)
class Controls:
    """model <- rule(model, mean of dy); c <- c + (1/M) sum of dc over the cohort, without rate or momentum.

    M counts all clients, also those that were not invited: c is then the mean of all c_m at any time.

    Attributes:
        clients: M.
        rule: Moves the model.

    Raises:
        FedSepError: The rule has a reduction of its own, which would make c something other than the mean of all c_m.
    """

    clients: int
    rule: Rule = field(default_factory=SGDRule)

    def __post_init__(self) -> None:
        if isinstance(self.rule, Reduced):
            raise FedSepError("server must be a rule without a reduction of its own: c is the mean of all clients' c_m")

    def init(self, x: Controlled) -> Any:
        """The rule's state."""
        return self.rule.init(x["model"])

    def step(self, x: Controlled, updates: Iterable[Update], state: Any) -> tuple[Controlled, Any]:
        """Both parts; everything as it was if nobody replied.

        Raises:
            FedSepError: More clients replied than there are.
        """
        counted = _Counted(updates)
        change = mean(counted)
        if change is None:
            return x, state
        if counted.count > self.clients:
            raise FedSepError(
                f"clients must be the number of all clients, at least a cohort's (got {self.clients}, "
                f"and {counted.count} replied)"
            )
        model, state = self.rule.step(x["model"], change["model"], state)
        return {"model": model, "c": tree.add(x["c"], change["c"], counted.count / self.clients)}, state


class _Counted:
    """Updates as they pass, all with the same weight, and how many there were."""

    def __init__(self, updates: Iterable[Update]) -> None:
        self.updates, self.count = updates, 0

    def __iter__(self) -> Iterator[Update]:
        for update in self.updates:
            self.count += 1
            yield update._replace(weight=1.0)
