"""Law: a round's memory on the server does not grow with the cohort: what a reply leaves behind is folded, not kept."""

from collections.abc import Iterator

import pytest
import torch
from catalogue import CATALOGUE, Row, name, rehearsed
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from fedsep import servers, tree
from fedsep.core import Reply, Update

REPLIES, SETTLED = 8, 4


class Alive(TorchDispatchMode):
    """Memory of all tensors that were made while it was on, and are still there."""

    def __init__(self):
        super().__init__()
        self.made = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, tuple | list) else [out]:
            if isinstance(part, Tensor):
                kept = StorageWeakRef(part.untyped_storage())
                self.made[kept.cdata] = (kept, part.untyped_storage().nbytes())
        return out

    def bytes(self) -> int:
        self.made = {at: each for at, each in self.made.items() if not each[0].expired()}
        return sum(size for _, size in self.made.values())


def copied(update: Update) -> Update:
    """With tensors that nobody but the receiver holds."""
    cover = None if update.cover is None else tree.map(Tensor.clone, update.cover)
    return Update(tree.map(Tensor.clone, update.value), update.weight, cover)


def grown(server, x, state, given: list[Update]) -> list[int]:
    """Bytes alive each time that the server asks for the next update."""
    found = []
    with Alive() as alive:

        def updates() -> Iterator[Update]:
            for number in range(REPLIES):
                yield copied(given[number % len(given)])
                found.append(alive.bytes())

        server.step(x, updates(), state)
    return found


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_the_servers_memory_does_not_grow_with_the_cohort(row: Row):
    algorithm, played = rehearsed(row)
    for at in (0, len(played.seats) - 1):
        state, seats = played.states[at], played.seats[at]
        given = [algorithm.read(state, Reply(client, seat.ctx, seat.reply)) for client, seat in seats.items()]
        found = grown(algorithm.server, state.x, state.optimizer, given)
        assert max(found[SETTLED:]) <= max(found[:SETTLED])


def test_a_server_that_keeps_what_comes_is_found():
    """The median is one, and says so; so is one that lists its updates."""
    x = {"w": torch.zeros(5)}
    given = [Update({"w": torch.full((5,), float(n))}) for n in range(3)]
    for reduce in (servers.coordinate_median(), lambda updates: servers.mean(list(updates))):
        found = grown(servers.Optimize(reduce=reduce), x, servers.Optimize().init(x), given)
        assert found[-1] >= REPLIES * 5 * 8
