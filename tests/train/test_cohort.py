"""Who takes part depends on the seed and the round alone."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from train.toys import FedAvg, Fleet, Lossy, Sparse, coin, run

from fedsep.train import Cohort

THREE = (1.0, 0.5, 0.25)


def cohorts(folder):
    rows = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    return [(row["round"], row["client"]) for row in rows if row["direction"] == "down"]


def test_the_same_for_every_method_engine_and_loss(tmp_path):
    one = run(FedAvg(), tmp_path / "a")
    two = run(Sparse(), tmp_path / "b", engine=Lossy(coin), states="disk")
    assert cohorts(one.folder) == cohorts(two.folder)
    assert cohorts(run(FedAvg(), tmp_path / "c", seed=1).folder) != cohorts(one.folder)


@given(seed=st.integers(0, 2**63 - 1), round=st.integers(0, 10**6), clients=st.integers(1, 300), data=st.data())
def test_members_are_distinct_and_sorted(seed, round, clients, data):
    size = data.draw(st.integers(1, clients))
    members = Cohort(per_round=size).members(seed, round, clients)
    assert len(members) == size
    assert members == sorted(set(members))
    assert 0 <= members[0] <= members[-1] < clients


def test_every_client_is_drawn_equally_often():
    counts = Counter(c for round in range(600) for c in Cohort(per_round=5).members(0, round, 20))
    assert len(counts) == 20
    assert all(abs(count - 150) < 5 * 11 for count in counts.values())  # five standard deviations


def test_a_million_clients_cost_no_more_than_the_cohort():
    assert len(Cohort(per_round=10).members(0, 0, 10**9)) == 10


@given(seed=st.integers(0, 10**6), clients=st.integers(1, 60))
def test_fixed_capabilities_are_balanced_and_stay(seed, clients):
    cohort = Cohort(capabilities=THREE)
    first = cohort.capability(seed, 0, range(clients), clients)
    counts = Counter(first)
    assert max(counts[c] for c in THREE) - min(counts[c] for c in THREE) <= 1
    assert cohort.capability(seed, 9, [clients - 1, 0], clients) == [first[-1], first[0]]


def test_fixed_capabilities_follow_no_pattern_of_client_numbers():
    first = Cohort(capabilities=THREE).capability(0, 0, range(300), 300)
    assert first != sorted(first)
    assert first != [THREE[i % 3] for i in range(300)]
    assert first != Cohort(capabilities=THREE).capability(1, 0, range(300), 300)


def test_dynamic_capabilities_are_drawn_anew():
    cohort = Cohort(capabilities=THREE, draw="dynamic")
    drawn = [cohort.capability(0, round, [4], 300)[0] for round in range(600)]
    counts = Counter(drawn)
    assert all(abs(counts[c] - 200) < 5 * 12 for c in THREE)
    assert cohort.capability(0, 7, [2, 4], 300)[1] == drawn[7]  # whoever else is there


def test_a_capability_listed_twice_is_met_twice_as_often():
    counts = Counter(Cohort(capabilities=(1.0, 0.5, 0.5)).capability(0, 0, range(300), 300))
    assert counts == {1.0: 100, 0.5: 200}


@pytest.mark.parametrize("draw", ["fixed", "dynamic"])
def test_invitations_say_what_is_known(draw):
    seen = torch.tensor([4, -1, 2])
    invitations = Cohort(capabilities=(0.5,), draw=draw).invitations(0, 5, [0, 2], seen, lambda client: client * 10)
    assert [(client, ctx.round, ctx.capability, ctx.seen, ctx.report) for client, ctx in invitations] == [
        (0, 5, 0.5, 4, 0),
        (2, 5, 0.5, 2, 20),
    ]


def test_the_fleet_is_not_asked_for_shards_of_others():
    asked = set()

    class Watching(Fleet):
        def shard(self, client):
            asked.add(client)
            return super().shard(client)

    run(FedAvg(), fleet=Watching(clients=500), rounds=3)
    assert len(asked - {1000, 1001}) <= 12


def test_poisson_cohorts_are_draws_of_each_client_on_its_own():
    cohort, rounds, clients = Cohort(per_round=5, sampling="poisson"), 2000, 20
    drawn = [cohort.members(0, round, clients) for round in range(rounds)]
    assert all(each == sorted(set(each)) for each in drawn)
    assert all(0 <= each[0] <= each[-1] < clients for each in drawn if each)
    counts = Counter(client for each in drawn for client in each)
    deviation = (rounds * 0.25 * 0.75) ** 0.5
    assert all(abs(counts[client] - rounds * 0.25) < 5 * deviation for client in range(clients))
    sizes = torch.tensor([len(each) for each in drawn], dtype=torch.float64)
    assert abs(sizes.mean() - 5) < 5 * (3.75 / rounds) ** 0.5
    assert abs(sizes.var() - 3.75) < 0.6  # binomial: 20 x 0.25 x 0.75; a cohort of fixed size has 0
    both = sum(0 in each and 19 in each for each in drawn) / rounds
    assert abs(both - 0.0625) < 5 * (0.0625 * 0.9375 / rounds) ** 0.5


def test_poisson_cohorts_of_large_fleets_cost_no_more_than_their_size_and_of_everybody_are_everybody():
    drawn = Cohort(per_round=100, sampling="poisson").members(0, 0, 10**9)
    assert 50 < len(drawn) < 160
    assert Cohort(sampling="poisson").members(0, 3, 7) == list(range(7))
    assert Cohort(per_round=1, sampling="poisson").members(0, 0, 1) == [0]
