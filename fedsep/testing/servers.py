"""The laws of servers: a change is added, in whatever order, and nothing happens when nobody replies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from fedsep import tree
from fedsep.core import Server, Tree, Update
from fedsep.testing.broken import LawBroken, name_of, named_leaves, require_alike, require_close, require_same
from fedsep.testing.draws import random_like
from fedsep.testing.purity import copied, pure

NOBODY = "without updates, x and the state stay as they were"
ORDER = "the order of the updates means nothing"
EQUAL = "equal changes act as one of them"
WEIGHTS = "only the ratios of the weights count"
ADDS = "the server adds: its first step goes along the change (<x' - x, change> > 0)"
STREAM = "updates are folded as they come: a generator does"
REST = "parts of x that no change names stay as they were"


def check_server(server: Server[Any], x: Tree, *, like: Tree | None = None, clients: int = 4, seed: int = 0) -> None:
    """Every law of servers.

    Args:
        server: The server.
        x: The communication parameter.
        like: What a client's change is like; x by default. It may name some parts of x only.
        clients: How many replies a round has.
        seed: Of the changes.

    Raises:
        LawBroken: A law does not hold; the message says which, what was expected and what came.
    """
    like = x if like is None else like
    updates = [Update(random_like(like, seed + n), 1.0 + n % 3) for n in range(clients)]
    state = pure(f"{name_of(server)}.init", server.init, x)
    after, _ = pure(f"{name_of(server)}.step", server.step, x, updates, state)
    require_alike("x keeps its names, shapes and dtypes", f"{name_of(server)}.step", x, after)
    nobody(server, x, updates)
    streams(server, x, updates)
    order(server, x, updates)
    equal(server, x, updates[0])
    weights(server, x, updates)
    adds(server, x, updates[0].value)
    rest(server, x, updates)


def nobody(server: Server[Any], x: Tree, updates: list[Update]) -> None:
    """No updates change nothing, also after a round."""
    for before, state in ((x, server.init(x)), server.step(x, updates, server.init(x))):
        kept = copied((before, state))
        require_same(NOBODY, name_of(server), kept, server.step(before, iter(()), state))


def streams(server: Server[Any], x: Tree, updates: list[Update]) -> None:
    """The step from a generator is the step from a list, and the updates are left as they were."""
    kept = copied([update.value for update in updates])
    listed = server.step(x, updates, server.init(x))

    def one_by_one() -> Iterator[Update]:
        yield from updates

    require_same(STREAM, name_of(server), listed, server.step(x, one_by_one(), server.init(x)))
    require_same("updates are left as they were", name_of(server), kept, [update.value for update in updates])


def order(server: Server[Any], x: Tree, updates: list[Update]) -> None:
    """Two rounds with the updates in one order, and in the other: equal up to rounding."""
    _agree(ORDER, server, _two_rounds(server, x, updates), _two_rounds(server, x, updates[::-1]))


def equal(server: Server[Any], x: Tree, update: Update) -> None:
    """Five times one update is that update."""
    _agree(EQUAL, server, _two_rounds(server, x, [update]), _two_rounds(server, x, [update] * 5))


def weights(server: Server[Any], x: Tree, updates: list[Update]) -> None:
    """All weights times ten change nothing; one client's weight alone does."""
    tenfold = [update._replace(weight=10 * update.weight) for update in updates]
    _agree(WEIGHTS, server, _two_rounds(server, x, updates), _two_rounds(server, x, tenfold))


def adds(server: Server[Any], x: Tree, change: Tree) -> None:
    """From a fresh state x moves along the change."""
    moved = tree.sub(server.step(x, [Update(change)], server.init(x))[0], x)
    steps, wanted = named_leaves(moved), named_leaves(change)
    along = sum(float((steps[place] * part).sum()) for place, part in wanted.items())
    if not along > 0:
        raise LawBroken(ADDS, name_of(server), "<x' - x, change> > 0", f"{along:.6g}")


def rest(server: Server[Any], x: Tree, updates: list[Update]) -> None:
    """Leaves of x that are in no change."""
    changed = named_leaves(updates[0].value)
    after = named_leaves(server.step(x, updates, server.init(x))[0])
    untouched = {place: leaf for place, leaf in named_leaves(x).items() if place not in changed}
    require_same(REST, name_of(server), untouched, {place: after[place] for place in untouched})


def _two_rounds(server: Server[Any], x: Tree, updates: list[Update]) -> Tree:
    x, state = server.step(x, updates, server.init(x))
    return server.step(x, updates, state)[0]


def _agree(law: str, server: Server[Any], expected: Tree, got: Tree) -> None:
    require_close(law, name_of(server), expected, got, 1e-9 if torch.get_default_dtype() == torch.float64 else 1e-4)
