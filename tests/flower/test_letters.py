"""Hostile letters: what a site does not take, and that every one has its line in the audit log."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from catalogue import network, shards

from fedsep import algorithms
from fedsep.flower.audit import Written
from fedsep.flower.site import Site
from fedsep.flower.store import OnSite


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
