"""Law: ``flower`` plays the round of ``sequential`` bit for bit.

Sites are in this process, with real Flower messages between them and the server, and memories on their disks.
"""

import pytest
import torch
from catalogue import CATALOGUE, Row, name, shards

from fedsep import engines, random
from fedsep.core import Ctx, Failure, Invitation, Samples, Shard

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'fedsep[flower]'")


class Fleet:
    """Four clients of different sizes, and the data to be evaluated on."""

    clients = 4
    validation = None

    def __init__(self, task):
        self.parts = [Shard(Samples(*shard.train[:2])) for shard in shards(task, self.clients)]
        self.test = self.parts[0].train

    def shard(self, client):
        return self.parts[client]


def rounds(engine, algorithm, task, fleet, count=2):
    """What every client replies in every round, and the server's model at the end."""
    memories = {}
    session = engine.open(algorithm, task, fleet, lambda client, seen: memories.get((client, seen)))
    state, told, reports = algorithm.init(task.init()), [], {}
    for number in range(count):
        key = random.fold(random.key(3), number)
        cohort = [
            Invitation(c, Ctx(number, 1.0, random.fold(key, c), number - 1, reports.get(c)))
            for c in range(fleet.clients)
        ]
        outcomes = list(session.round(state, cohort))
        assert not any(isinstance(outcome, Failure) for outcome in outcomes), outcomes
        for reply, memory in outcomes:
            memories[reply.client, number] = memory
            if isinstance(reply.payload, dict) and "report" in reply.payload:
                reports[reply.client] = reply.payload["report"]
            told.append((reply.client, reply.samples, reply.sent, reply.info, reply.payload))
        state, _ = algorithm.aggregate(state, [reply for reply, _ in outcomes])
    outputs = session.predict(algorithm.model(state), "test")
    session.close()
    return told, algorithm.model(state), outputs


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_two_rounds_are_those_of_sequential(row: Row, tmp_path):
    task = row.base or row.task
    algorithm, fleet = row.build(), Fleet(task)
    expected = rounds(engines.sequential(), algorithm, row.task, fleet)
    got = rounds(engines.flower(nodes=3, folder=tmp_path), algorithm, row.task, fleet)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
