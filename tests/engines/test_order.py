"""Costly clients are begun first, so that the last ones are cheap; outcomes come in the cohort's order all the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from engines.toys import FedAvg, Fleet, Task, differences, invite
from hypothesis import given
from hypothesis import strategies as some

from fedsep.core import Failure, FedSepError
from fedsep.engines import sequential, workers
from fedsep.engines.spread import costly_first


@dataclass(frozen=True)
class Sized(Fleet):
    """A fleet that knows how many examples its clients have."""

    sizes: tuple[int, ...] = ()


def cohort(*capabilities):
    invited = [(invite(0, client), capability) for client, capability in enumerate(capabilities)]
    return [each._replace(ctx=each.ctx._replace(capability=capability)) for each, capability in invited]


@pytest.mark.parametrize(("capabilities", "sizes", "ahead", "expected"), [
    ((1.0, 1.0, 1.0), (), 8, [0, 1, 2]),
    ((0.25, 1.0, 0.5, 1.0), (), 8, [1, 3, 2, 0]),
    ((1.0, 1.0, 1.0), (10, 30, 20), 8, [1, 2, 0]),
    ((1.0, 0.5, 0.5), (10, 50, 39), 8, [1, 0, 2]),  # 10, 12.5 and 9.75
    ((0.5, 1.0, 0.25, 0.5, 1.0), (), 2, [0, 1, 2, 4, 3]),  # blocks of 1, 2 and 2: the last is full
    ((), (), 4, []),
])  # fmt: skip
def test_the_order(capabilities, sizes, ahead, expected):
    fleet = Sized(sizes=sizes) if sizes else Fleet()
    assert costly_first(cohort(*capabilities), fleet, ahead) == expected


@given(some.lists(some.sampled_from([1.0, 0.5, 0.25]), max_size=40), some.integers(1, 9))
def test_every_client_is_begun_once_and_few_before_their_turn(capabilities, ahead):
    order = costly_first(cohort(*capabilities), Fleet(), ahead)
    assert sorted(order) == list(range(len(capabilities)))
    assert all(abs(turn - place) < ahead for turn, place in enumerate(order))


class Noting(FedAvg):
    """Writes down which clients are begun; one of them fails before it is sent anything."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def broadcast(self, state: Any, ctx: Any) -> Any:
        if ctx.capability == 0.125:
            raise FedSepError("not this one")
        return super().broadcast(state, ctx)

    def update(self, payload: Any, memory: Any, shard: Any, ctx: Any) -> Any:
        with (self.folder / "begun").open("a") as file:
            file.write(f"{ctx.capability:g} ")
        return super().update(payload, memory, shard, ctx)


def test_workers_begin_costly_clients_first_and_tell_outcomes_in_order(tmp_path):
    invited = cohort(0.25, 0.125, 1.0, 0.5, 0.125, 0.75)
    found = []
    for engine in (workers(processes=1), sequential()):
        session = engine.open(Noting(tmp_path), Task(), Fleet(), lambda *_: None)
        found.append(list(session.round(Task().init(), invited)))
        session.close()
    ours, theirs = found
    assert (tmp_path / "begun").read_text().split() == ["0.25", "1", "0.75", "0.5", "0.25", "1", "0.5", "0.75"]
    assert [isinstance(each, Failure) for each in ours] == [False, True, False, False, True, False]
    assert [each.client if isinstance(each, Failure) else each.reply.client for each in ours] == list(range(6))
    assert not differences(ours, theirs)


def test_a_round_of_unequal_clients_may_be_left_early():
    invited = cohort(0.25, 1.0, 0.5, 1.0, 0.25, 0.5, 1.0)
    session = workers(processes=2).open(FedAvg(), Task(), Fleet(), lambda *_: None)
    expected = list(session.round(Task().init(), invited))
    broken = session.round(Task().init(), invited)
    next(broken)
    broken.close()
    assert not differences(expected, list(session.round(Task().init(), invited)))
    session.close()
