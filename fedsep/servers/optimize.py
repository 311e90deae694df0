"""The server's step: one reduction, then an optimiser's rule on each named part of x."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fedsep.core import Tree, Update
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
class Optimize:
    """x <- rule(x, reduce(changes)).

    Attributes:
        rule: A rule for all of x, or rules for named parts of it. With names, an update's value has the
            same names, and parts without a rule (anchors, counters) are left alone.
        reduce: ``mean`` or ``coverage_mean``.
    """

    rule: Rule | Mapping[str, Rule] = field(default_factory=SGDRule)
    reduce: Reduce = mean

    def init(self, x: Tree) -> Any:
        """The state of the rule, or of each part's rule."""
        if isinstance(self.rule, Mapping):
            return {name: rule.init(x[name]) for name, rule in self.rule.items()}
        return self.rule.init(x)

    def step(self, x: Tree, updates: Iterable[Update], state: Any) -> tuple[Tree, Any]:
        """x and the state after the round; both as they were if nobody replied."""
        change = self.reduce(updates)
        if change is None:
            return x, state
        if not isinstance(self.rule, Mapping):
            return self.rule.step(x, change, state)
        moved = {name: rule.step(x[name], change[name], state[name]) for name, rule in self.rule.items()}
        parts = {name: part for name, (part, _) in moved.items()}
        return {**x, **parts}, {name: after for name, (_, after) in moved.items()}
