"""Changes in two terms, of a part of the model and of all of it: each is reduced by itself, the model moves by both.

Reducing both with their own covers makes a coordinate of the first term the mean over those who hold it, and of the
second the mean over all who replied. They are added before the server's rule, so that momentum and adaptive rates see
their sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fedsep import tree
from fedsep.core import Tree, Update
from fedsep.servers.optimize import Optimize, Reduced, Rule
from fedsep.servers.reduce import Reduce


@dataclass(frozen=True)
class BothTerms:
    """reduce(first terms) + reduce(second terms), of updates that have both by name.

    Attributes:
        reduce: Reduces each of them.
    """

    reduce: Reduce

    def __call__(self, updates: Iterable[Update]) -> Tree | None:
        """The sum; None if there were no updates."""
        change = self.reduce(updates)
        return None if change is None else tree.add(change["first"], change["second"])


def by_both_terms(server: Optimize) -> Optimize:
    """The server for updates that have two terms, where they had one."""
    rule = server.rule
    rules = {name: _by_both(each) for name, each in rule.items()} if isinstance(rule, Mapping) else _by_both(rule)
    return Optimize(rules, BothTerms(server.reduce))


def _by_both(rule: Rule) -> Rule:
    """A rule that says itself how changes are reduced must reduce both terms."""
    return replace(rule, reduce=BothTerms(rule.reduce)) if isinstance(rule, Reduced) else rule
