"""Client memory in two phases: what was accepted plus what is remembered is what accepted rounds produced."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from train.toys import Fleet, Lossy, Sparse, Spy, coin, run

from fedsep import random
from fedsep.core import FedSepError
from fedsep.store import InMemory, OnDisk
from fedsep.train import Cohort, Stop

PATIENT = Stop(min_replies=3, patience=99)  # rounds with one or two replies are void, those with none too


def memories(engine, states, **changes):
    """A run of the sparse method, its final memories by client, and what the server got."""
    spy, states_at = Spy(engine), []

    class Watched(Sparse):
        def model(self, state):
            states_at.append(state)
            return super().model(state)

        def aggregate(self, state, replies):
            state, info = super().aggregate(state, replies)
            return state, info

    seen = {}

    def note(event):
        seen[event.round] = event

    result = run(Watched(), engine=spy, states=states, stop=PATIENT, watch=note, rounds=25, **changes)
    return result, spy.recalls[0], states_at[-1]


def last_accepted(loss, rounds, cohort, seed=0, clients=7, min_replies=3):
    """Each client's last accepted round, and how many it had, counted by hand."""
    last, turns = dict.fromkeys(range(clients), -1), dict.fromkeys(range(clients), 0)
    for round in range(rounds):
        heard = [client for client in cohort.members(seed, round, clients) if not loss(round, client)]
        for client in heard if len(heard) >= min_replies else []:
            last[client], turns[client] = round, turns[client] + 1
    return last, turns


@pytest.mark.parametrize("states", ["memory", "disk"])
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_nothing_is_lost_or_counted_twice_under_drops(states, shift, tmp_path):
    def loss(round, client):
        return coin(round, client + 100 * shift)

    out = tmp_path if states == "disk" else None
    result, recall, state = memories(Lossy(loss), states, cohort=Cohort(), out=out)
    last, turns = last_accepted(loss, 25, Cohort())
    assert sum(row["replies"] < 3 for row in result.metrics) > 0  # some rounds were void
    assert len(set(turns.values())) > 1
    for client, round in last.items():
        memory = recall(client, round)
        assert float(memory["turns"]) == turns[client]
        got = state.received[client] + memory["error"]
        torch.testing.assert_close(got, memory["produced"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("states", ["memory", "disk"])
def test_a_client_that_was_dropped_is_one_that_was_never_there(states, tmp_path):
    def loss(round, client):
        return coin(round, client, 0.5)

    awake = memories(Lossy(loss), states, out=tmp_path / "awake")
    asleep = memories(replace(Lossy(loss), asleep=True), states, out=tmp_path / "asleep")
    assert torch.equal(awake[0].params["w"], asleep[0].params["w"])
    last, _ = last_accepted(loss, 25, Cohort(per_round=4), min_replies=3)
    for client, round in last.items():
        if round >= 0:
            one, other = awake[1](client, round), asleep[1](client, round)
            assert all(torch.equal(one[name], other[name]) for name in one)


@st.composite
def histories(draw):
    """Rounds of one client: does it take part, and is the round accepted?"""
    return draw(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=20))


@given(history=histories(), on_disk=st.booleans())
def test_recall_gives_the_last_accepted_version(history, on_disk, tmp_path_factory):
    """Against the definition: a dict of everything ever put."""
    store = OnDisk(tmp_path_factory.mktemp("store")) if on_disk else InMemory()
    everything, seen = {}, -1
    for round, (takes_part, accepted, saves) in enumerate(history):
        if takes_part:
            everything[round] = torch.tensor(float(round))
            store.put(3, round, {"at": everything[round]}, seen)
            seen = round if accepted else seen
        if saves:
            store.checkpointed(round + 1)
        memory = store.recall(3, seen)
        assert memory is None if seen < 0 else torch.equal(memory["at"], everything[seen])


@given(history=histories())
def test_files_serve_the_two_latest_checkpoints(history, tmp_path_factory):
    """A run that is killed at any moment finds what it needs, also if its latest checkpoint is damaged."""
    folder, seen = tmp_path_factory.mktemp("store"), -1
    store = OnDisk(folder)
    saved = [(0, -1, store.snapshot(torch.tensor([-1])))]
    for round, (takes_part, accepted, saves) in enumerate(history):
        if takes_part:
            store.put(0, round, {"at": torch.tensor(float(round))}, seen)
            seen = round if accepted else seen
        if saves:
            store.checkpointed(round + 1)
            saved.append((round + 1, seen, store.snapshot(torch.tensor([seen]))))
    for round, wanted, snapshot in reversed(saved[-2:]):
        resumed = OnDisk(folder)
        resumed.restore(snapshot, torch.tensor([wanted]), round)
        memory = resumed.recall(0, wanted)
        assert memory is None if wanted < 0 else float(memory["at"]) == wanted


def test_at_most_two_versions_stay_in_memory():
    store = InMemory()
    for round in range(10):
        store.put(0, round, torch.tensor(round), seen=3 if round > 3 else round - 1)
    assert set(store.versions[0]) == {3, 9}


def test_files_that_no_checkpoint_needs_are_removed(tmp_path):
    store, seen = OnDisk(tmp_path), -1
    for round in range(40):
        store.put(5, round, torch.tensor(float(round)), seen)
        seen = round if round % 3 else seen
        if round % 10 == 9:
            store.checkpointed(round + 1)
        # The latest and the last accepted; of each of the two latest checkpoints what it needs, and what was
        # replaced in the round before it.
        assert len(list(tmp_path.glob("*/*"))) <= 6


def test_a_memory_without_tensors_costs_no_file(tmp_path):
    store = OnDisk(tmp_path)
    for client in range(50):
        store.put(client, 0, ((), {"wire": ()}), -1)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["blank.safetensors"]
    assert store.recall(7, 0) == ((), {"wire": ()})
    store.put(7, 1, ((), {"wire": (1,)}), 0)  # another one without tensors is not mistaken for it
    store.put(8, 1, torch.ones(1), 0)
    assert store.recall(7, 1) == ((), {"wire": (1,)})
    assert store.recall(7, 0) == ((), {"wire": ()})
    assert torch.equal(store.recall(8, 1), torch.ones(1))


def test_files_lie_in_folders_of_a_thousand(tmp_path):
    store = OnDisk(tmp_path)
    store.put(12_345, 6, torch.ones(1), -1)
    assert (tmp_path / "12" / "12345.6.safetensors").exists()


@pytest.mark.parametrize("make", [lambda path: InMemory(), OnDisk])
def test_a_memory_that_is_gone_is_named(make, tmp_path):
    with pytest.raises(FedSepError, match="the memory that client 3 had after round 5 is gone"):
        make(tmp_path).recall(3, 4)


def test_a_damaged_file_is_named(tmp_path):
    store = OnDisk(tmp_path)
    store.put(3, 4, torch.ones(1), -1)
    (tmp_path / "0" / "3.4.safetensors").write_bytes(b"nonsense")
    with pytest.raises(FedSepError, match=r"3\.4\.safetensors: not a tree"):
        store.recall(3, 4)


def test_reports_last_until_the_next_one():
    """A client that does not report in a round is still known by what it reported before."""

    class Rarely(Sparse):
        def broadcast(self, state, ctx):
            told = torch.tensor(-1.0) if ctx.report is None else ctx.report["turns"]
            known.setdefault(ctx.round, []).append(float(told))
            return {"x": state.x, "told": told}

        def update(self, payload, client, shard, ctx):
            sent, memory, info = super().update(
                {**payload, "told": client["turns"] if ctx.seen >= 0 else torch.tensor(-1.0)}, client, shard, ctx
            )
            return (sent if ctx.round % 3 == 0 else {"value": sent["value"]}), memory, info

    known: dict[int, list[float]] = {}
    run(Rarely(), cohort=Cohort(), rounds=7)
    assert [set(known[round]) for round in range(7)] == [{-1.0}, {1.0}, {1.0}, {1.0}, {4.0}, {4.0}, {4.0}]


def test_ten_thousand_clients_cost_files_not_memory(tmp_path):
    result = run(Sparse(), tmp_path, fleet=Fleet(clients=10_000), states="disk", cohort=Cohort(per_round=20), rounds=4)
    assert result.summary["clients"] == 10_000
    assert len(list((result.folder / "clients").glob("*/*"))) <= 80


def test_keys_of_a_client_do_not_depend_on_who_else_takes_part():
    key = random.fold(random.fold(random.key(5), 2), 3)
    seen = torch.full((7,), -1)
    for members in ([3], [1, 3, 6]):
        invitations = Cohort().invitations(5, 2, members, seen, lambda client: None)
        mine = next(ctx for client, ctx in invitations if client == 3)
        assert torch.equal(mine.key, key)
        assert mine.key.untyped_storage().nbytes() == 8
