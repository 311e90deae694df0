"""A pure function gives the same twice, changes nothing that it was given, and draws from no hidden generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import Tree
from fedsep.testing.broken import LawBroken, require_same

UNCHANGED = "a function leaves its arguments as they were"
TWICE = "equal arguments give equal results, bit for bit"
HIDDEN = "randomness comes from ctx.key or a seed of the part's own, never from torch's global generator"


def copied(given: Tree) -> Tree:
    """A tree of copies: what is done to the original does not show in it."""
    return tree.map(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, given)


def pure(subject: str, function: Callable[..., Any], *arguments: Tree) -> Any:
    """``function(*arguments)``, called twice and watched.

    Raises:
        LawBroken: An argument or the first result was changed, the results differ, or the global random
            generator moved.
    """
    before = copied(arguments)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        generator = torch.get_rng_state()
        first = function(*arguments)
        if not torch.equal(generator, torch.get_rng_state()):
            raise LawBroken(HIDDEN, subject, "the generator as it was", "a generator that has drawn numbers")
        kept = copied(first)
        torch.manual_seed(2)
        second = function(*arguments)
    require_same(UNCHANGED, subject, before, arguments)
    require_same(TWICE, subject, kept, second)
    require_same("a result stays as it was when the function is called again", subject, kept, first)
    return first
