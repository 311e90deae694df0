"""A wire for each part of a message, of which not all are in every message."""

import torch
from catalogue import UNITS, network, shards

from fedsep import algorithms, wires
from fedsep.testing import play
from fedsep.testing.draws import context
from fedsep.testing.play import everybody


def test_a_part_that_stays_away_keeps_its_memory_and_a_new_one_starts_without():
    wire = wires.by_name(wires.error_feedback(wires.topk(1)))
    both = {"model": {"w": torch.tensor([3.0, 2.0])}, "report": {"s": torch.tensor([5.0, 4.0])}}
    one = {"model": both["model"]}
    memory = wire.init(one)
    for message in (one, both, one, both):
        sent, memory = wire.pack(message, memory, context(0))
        assert set(sent) == set(message)
    # Of a report 5 went first, and 4 + 4 the second time; the model was sent in between.
    assert wire.unpack(sent, both, context(0))["report"]["s"].tolist() == [0.0, 8.0]


def test_reports_that_are_due_every_other_time_go_by_any_wire():
    local = {"lr": 0.1, "steps": 2, "batch_size": 4, "scores": "taylor"}
    method = algorithms.fedsep_mask(network, units=UNITS, uplink=wires.topk(fraction=0.5), **local)
    played = play(method, network.init(), shards(network), everybody(2, 6), capabilities=(1.0, 0.5))
    due = ["report" in seats[0].reply for seats in played.seats]
    assert due == [True, False] * 3
