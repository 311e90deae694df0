"""Hostile letters: what a site does not take, and that every one has its line in the audit log."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace

import pytest
from catalogue import network, shards

from fedsep import algorithms

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'fedsep[flower]'")

from flwr.app import ConfigRecord, Message, RecordDict

from fedsep.flower.audit import Written
from fedsep.flower.limits import Limits
from fedsep.flower.local import LocalGrid
from fedsep.flower.reception import Reception
from fedsep.flower.records import from_records, serialised, to_records
from fedsep.flower.rules import Rules
from fedsep.flower.site import Site
from fedsep.flower.store import OnSite
from fedsep.flower.versions import facts


class Shards:
    """The data of one client."""

    def shard(self, client):
        return shards(network, 1)[0]


def one_site(folder, **changes):
    """A site with client 0 and its disk, and a letter of its first round."""
    method = algorithms.fedavg(network, steps=1, batch_size=4)
    seat = [0, 1.0, 5, -1, None, None, method.broadcast(method.init(network.init()), None)]
    letter = {"kind": "round", "run": "0" * 16, "round": 0, "checkpoints": [], "seats": [seat]}
    site = Site("a", method, network, Shards(), (0,), OnSite(folder / "clients"), audit=Written(folder / "audit.jsonl"))
    return replace(site, **changes), letter


PLACES = {
    "round that leaves the folder": ({"round": "../../../../escaped"}, {}),
    "round": ({"round": True}, {}),
    "round that is negative": ({"round": -1}, {}),
    "round that is large": ({"round": 1 << 53}, {}),
    "last accepted round": ({}, {3: "../../x"}),
    "client": ({}, {0: True}),
    "client of no kind": ({}, {0: (0,)}),
    "checkpoints": ({"checkpoints": ["a"]}, {}),
    "checkpoints that are none": ({"checkpoints": 7}, {}),
}


@pytest.mark.parametrize("name", PLACES)
def test_numbers_that_are_none_are_refused_before_they_name_files(tmp_path, name):
    changes, places = PLACES[name]
    site, letter = one_site(tmp_path / "site")
    [seat] = letter["seats"]
    seat = [places.get(i, part) for i, part in enumerate(seat)]
    answer = site.answer({**letter, **changes, "seats": [seat]})
    [part] = answer["clients"].values()
    assert re.search(rf"the letter's {' '.join(name.split()[:1])}.* must be", part["failure"]["reason"])
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()] == ["site/audit.jsonl"]
    [line] = map(json.loads, (tmp_path / "site/audit.jsonl").read_text().splitlines())
    assert "must be" in next(iter(line["sent"].values()))["failure"]["reason"]


def lines(folder):
    return [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]


UNREADABLE = {
    "damaged": (RecordDict({"letter": ConfigRecord({"tree": "["})}), "not a letter"),
    "no block": (to_records([1]), "a list where a block of names should be"),
    "of no kind": (to_records({"kind": [1] * 99, "run": "x" * 10**6}), "the letter is of no run"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_refused_and_written_down(tmp_path, name):
    content, why = UNREADABLE[name]
    grid = LocalGrid({1: Reception(Rules(tmp_path), tmp_path / "state")})
    [number] = grid.push_messages([Message(content, 1, "query.fedsep")])
    [reply] = grid.pull_messages([number])
    assert why in from_records(reply.content)["problem"]
    [line] = lines(tmp_path / "state")
    assert why in line["refused"]
    assert line["letter_bytes"] == serialised(content)
    assert len(json.dumps(line)) < 1000


def test_a_site_gives_its_time_for_evaluation_and_for_making_the_model_too(tmp_path, monkeypatch):
    limits = Limits(seconds=0.1)
    site, _ = one_site(tmp_path, limits=limits)
    monkeypatch.setattr("fedsep.flower.site.judged", lambda *_: time.sleep(9))
    monkeypatch.setattr("fedsep.flower.site.measured", lambda *_: time.sleep(9))
    for kind in ("evaluate", "statistics"):
        answer = site.answer({"kind": kind, "model": {}, "examples": 3})
        assert answer["problem"] == "this site gives 0.1 s to the evaluation of a client, and no more"
    monkeypatch.setattr(Rules, "admitted", lambda *_: time.sleep(9))
    hello = {"kind": "hello", "run": "0" * 16, "facts": facts(), "recipe": ""}
    answer = Reception(Rules(tmp_path, limits=limits), tmp_path / "state").answer(hello)
    assert answer["problem"] == "this site gives 0.1 s to the recipe's model and data, and no more"
