"""The server's step: one reduction, then an optimiser's rule on each named part of x."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fedsep.core import FedSepError, Tree, Update
from fedsep.ranges import checked
from fedsep.servers.reduce import Reduce, mean
from fedsep.servers.sgd import SGDRule


class Rule(Protocol):
    """How one part of x moves, given the reduced change; a change is an ascent direction: it is added."""

    def init(self, x: Tree) -> Any:
        """The rule's state before the first round."""
        ...

    def step(self, x: Tree, change: Tree, state: Any) -> tuple[Tree, Any]:
        """x and the state after the round."""
        ...


@dataclass(frozen=True)
class Reduced:
    """See ``reduced``."""

    reduce: Reduce
    rule: Rule = field(default_factory=SGDRule)

    def init(self, x: Tree) -> Any:
        """The rule's state."""
        return self.rule.init(x)

    def step(self, x: Tree, change: Tree, state: Any) -> tuple[Tree, Any]:
        """The rule's step."""
        return self.rule.step(x, change, state)


@checked
def reduced(reduce: Reduce, *, rule: Rule | None = None) -> Reduced:
    """A rule together with how the clients' changes are reduced for it, for the argument ``server`` of methods.

    Args:
        reduce: As ``coordinate_median()``, ``trimmed_mean(trim=1)`` or ``norm_clipping(1.0)``.
        rule: Moves x; plain averaging's ``sgd()`` by default. It takes the place of the method's own rule: a method
            whose default is a rate of its own, such as those with sketches, must be given it here.
    """
    return Reduced(reduce, rule or SGDRule())


@dataclass(frozen=True)
class Optimize:
    """x <- rule(x, reduce(changes)).

    Attributes:
        rule: A rule for all of x, or rules for named parts of it. With names, an update's value has the
            same names, and parts without a rule (anchors, counters) are left alone.
        reduce: ``mean``, ``coverage_mean`` or one of ``fedsep.servers.robust``; rules made by ``reduced`` have their
            own, the same in all parts.

    Raises:
        FedSepError: Rules of several parts would have the changes reduced in different ways.
    """

    rule: Rule | Mapping[str, Rule] = field(default_factory=SGDRule)
    reduce: Reduce = mean

    def __post_init__(self) -> None:
        first, *others = self._reductions()
        if any(reduce != first for reduce in others):
            raise FedSepError("reduce must be one for all parts of x: give every rule the same, or none of them any")

    def init(self, x: Tree) -> Any:
        """The state of the rule, or of each part's rule."""
        if isinstance(self.rule, Mapping):
            return {name: rule.init(x[name]) for name, rule in self.rule.items()}
        return self.rule.init(x)

    def step(self, x: Tree, updates: Iterable[Update], state: Any) -> tuple[Tree, Any]:
        """x and the state after the round; both as they were if nobody replied."""
        change = self._reductions()[0](updates)
        if change is None:
            return x, state
        if not isinstance(self.rule, Mapping):
            return self.rule.step(x, change, state)
        moved = {name: rule.step(x[name], change[name], state[name]) for name, rule in self.rule.items()}
        parts = {name: part for name, (part, _) in moved.items()}
        return {**x, **parts}, {name: after for name, (_, after) in moved.items()}

    def _reductions(self) -> list[Reduce]:
        """How each part's changes are reduced."""
        rules: list[object] = list(self.rule.values()) if isinstance(self.rule, Mapping) else [self.rule]
        return [rule.reduce if isinstance(rule, Reduced) else self.reduce for rule in rules] or [self.reduce]
