"""``workers`` gives the bits of ``sequential``, whatever is sent and however many workers there are."""

from __future__ import annotations

import copy

import pytest
import torch
from engines.toys import FedAvg, Fleet, Odd, Remembering, Reporting, Silent, Task, differences, invite, play

from fedsep import tree
from fedsep.engines import sequential, workers

METHODS = {"fedavg": FedAvg, "remembering": Remembering, "reporting": Reporting, "silent": Silent, "odd": Odd}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_method_gives_the_same_bits(method, dtype):
    torch.set_default_dtype(dtype)
    algorithm, fleet = METHODS[method](), Fleet()
    expected = play(sequential(), algorithm, fleet)
    assert len(expected["replies"]) == 3 * fleet.clients
    for processes in (1, 2, 3) if method == "remembering" else (2,):
        assert not differences(expected, play(workers(processes=processes), algorithm, fleet))


def test_more_workers_than_clients():
    algorithm, fleet = Remembering(), Fleet(clients=2, rows=499)
    assert not differences(play(sequential(), algorithm, fleet), play(workers(processes=4), algorithm, fleet))


def test_many_clients_in_large_chunks():
    algorithm, fleet = Silent(), Fleet(clients=80, rows=1)
    expected = play(sequential(), algorithm, fleet, rounds=2)
    assert not differences(expected, play(workers(processes=2), algorithm, fleet, rounds=2))


@pytest.mark.parametrize("rows", [1, 500, 501, 4321])
def test_predictions_do_not_depend_on_how_rows_are_split(rows):
    torch.set_default_dtype(torch.float32)
    task, fleet = Task(), Fleet(rows=rows)
    vector, unravel = tree.ravel(task.init())
    unaligned = unravel(torch.cat([vector.new_zeros(1), vector])[1:])
    reference = sequential().open(FedAvg(), task, fleet, recall)
    expected = reference.predict(unaligned, "test")
    for processes in (1, 3):
        session = workers(processes=processes).open(FedAvg(), task, fleet, recall)
        assert not differences(expected, session.predict(unaligned, "test"))
        session.close()
    reference.close()
    assert expected.shape == (rows, 4)


class Anchored(FedAvg):
    """Every client makes the same memory."""

    def enroll(self, payload, ctx):
        return {"anchor": torch.ones(1000)}


def test_a_memory_that_all_clients_share_is_one_object():
    session = workers(processes=1).open(Anchored(), Task(), Fleet(), recall)
    outcomes = list(session.round(Task().init(), [invite(0, client) for client in range(7)]))
    session.close()
    assert len({id(memory["anchor"]) for _, memory in outcomes}) == 1
    assert len({id(reply.payload["c.weight"]) for reply, _ in outcomes}) == 7


def test_what_is_handed_out_is_its_holders_own():
    session = workers(processes=2).open(Remembering(), Task(), Fleet(), recall)
    cohort = [invite(0, client) for client in range(7)]
    first = list(session.round(Task().init(), cohort))
    kept = copy.deepcopy(first)
    for round in range(1, 4):
        list(session.round(tree.scale(Task().init(), float(round)), cohort))
    session.close()
    assert not differences(kept, first)


def recall(client, seen):
    return None
