"""Faults on purpose: the same on every engine and after a kill, and each refused for what it is."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from catalogue import CATALOGUE, name, rehearsed
from engines.ranks import in_ranks
from train.toys import FedAvg, Lossy, Sparse, contents, run
from train.victim import killed

from fedsep import models, tasks
from fedsep.algorithms import fedavg, fedsep_quantised, stc, topk_ef
from fedsep.core import Ctx, FedSepError, Reply
from fedsep.data import digits
from fedsep.engines import Faults, faulty, flower, sequential, torchrun, vectorised, workers
from fedsep.engines.engine import Delivered
from fedsep.engines.faults import corrupted
from fedsep.looking import finite
from fedsep.random import key
from fedsep.replies import Refused, require_form
from fedsep.train import Checkpoint, Cohort, Evaluate, fit

ALL = Faults(drop=0.15, crash=0.1, late=0.1, stale=0.1, corrupt=0.15, duplicate=0.1, seed=4)
KINDS = ("drop", "crash", "late", "stale", "corrupt", "duplicate")


@pytest.fixture(scope="module")
def federation():
    return digits(clients=6, validation=20)


def play(federation, factory, engine, out=None, rounds=4, **arguments):
    task = tasks.classification(models.logistic(federation.shape, federation.classes))
    method = factory(task, steps=2, batch_size=8, lr=0.1, **arguments)
    return fit(method, task, federation, rounds=rounds, engine=engine, out=out, evaluate=Evaluate(every=None))


def rows(result):
    return [json.loads(line) for line in (result.folder / "ledger.jsonl").read_text().splitlines()]


def test_rates_are_kept_and_depend_on_seed_round_and_client_alone():
    befallen = Counter(ALL.at(round, client) for round in range(100) for client in range(20))
    for kind, rate in ALL.rates.items():
        assert abs(befallen[kind] / 2000 - rate) < 4 * (rate * (1 - rate) / 2000) ** 0.5
    with_dtype = []
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        with_dtype.append([ALL.at(round, 3) for round in range(100)])
    assert with_dtype[0] == with_dtype[1]
    assert with_dtype[0] != [replace(ALL, seed=3).at(round, 3) for round in range(100)]
    assert {Faults(**{kind: 1.0}).at(round, 0) for kind in KINDS for round in range(20)} == set(KINDS)
    assert {Faults().at(round, 0) for round in range(20)} == {""}


METHODS = {
    "fedavg": (fedavg, {}), "stc": (stc, {"k": 20}), "topk_ef": (topk_ef, {"k": 20}),
    "fedsep_quantised": (fedsep_quantised, {"p": 30, "period": 2}),
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_every_fault_on_every_engine(federation, method, tmp_path):
    factory, arguments = METHODS[method]
    engines = {"sequential": sequential(), "workers": workers(processes=2), "vectorised": vectorised()}
    found = {
        each: play(federation, factory, faulty(engine, ALL), tmp_path / each, **arguments)
        for each, engine in engines.items()
    }
    told = {each: [(r["round"], r["client"], r["direction"], r.get("failure")) for r in rows(result)]
            for each, result in found.items()}  # fmt: skip
    assert told["sequential"] == told["workers"] == told["vectorised"]
    assert contents(found["sequential"].folder) == contents(found["workers"].folder)
    torch.testing.assert_close(found["sequential"].params, found["vectorised"].params)


@pytest.mark.parametrize("method", METHODS)
def test_every_fault_at_sites(federation, method, tmp_path):
    pytest.importorskip("flwr", reason="Flower is not installed: pip install 'fedsep[flower]'")
    factory, arguments = METHODS[method]
    expected = play(federation, factory, faulty(sequential(), ALL), tmp_path / "a", **arguments)
    found = play(federation, factory, faulty(flower(nodes=3), ALL), tmp_path / "b", **arguments)
    assert unserialised(found) == unserialised(expected)
    crossed = [row["serialised"] for row in rows(found) if "failure" not in row]
    assert min(crossed) > 0
    torch.testing.assert_close(found.params, expected.params, rtol=0, atol=0)


def unserialised(result):
    """The ledger without the bytes of Flower's letters."""
    return [{key: part for key, part in row.items() if key != "serialised"} for row in rows(result)]


def test_every_fault_between_ranks(federation, tmp_path):
    """All methods in the two processes: what takes time is to start them."""

    def act(rank):
        for method, (factory, arguments) in METHODS.items():
            play(federation, factory, faulty(torchrun(), ALL), tmp_path / "ranks" / method, **arguments)

    assert in_ranks(act, tmp_path) == (None, [0, 0])
    for method, (factory, arguments) in METHODS.items():
        whole = play(federation, factory, faulty(sequential(), ALL), tmp_path / "whole" / method, **arguments)
        assert contents(tmp_path / "ranks" / method / "run/seed0") == contents(whole.folder)


def test_every_fault_is_in_the_ledger_with_the_bytes_that_crossed(federation, tmp_path):
    result = play(federation, fedavg, faulty(sequential(), ALL), tmp_path)
    d = 8 * 650
    ledger = {}
    for row in rows(result):
        ledger.setdefault((row["round"] - 1, row["client"]), []).append(row)
    stages = {"drop": "drop", "crash": "crash", "late": "late", "stale": "stale", "corrupt": "reply",
              "duplicate": "duplicate"}  # fmt: skip
    seen = Counter()
    for round in range(4):
        for client in range(6):
            kind, own = ALL.at(round, client), ledger[round, client]
            failures = [row["failure"]["stage"] for row in own if "failure" in row]
            assert failures == ([stages[kind]] if kind else [])
            assert own[0]["direction"] == "down"
            assert own[0]["payload"] == d
            ups = [row for row in own if row["direction"] == "up"]
            assert len(ups) == {"drop": 0, "crash": 0, "duplicate": 2}.get(kind, 1)
            assert [row["accepted"] for row in ups] == {"": [True], "duplicate": [True, False]}.get(
                kind, [False] * len(ups)
            )
            assert all(0 <= row["payload"] <= d for row in ups)
            seen[kind] += 1
    assert set(seen) == {"", *KINDS}
    assert sum(row["failures"] for row in result.metrics) == result.summary["failures"] == 24 - seen[""]
    assert [row["replies"] for row in result.metrics] == [
        sum(ALL.at(round, client) in ("", "duplicate") for client in range(6)) for round in range(4)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_with_a_fault_is_as_none_and_a_copy_counts_once(federation, kind):
    """Two-phase memory: error feedback and replicas of the clients whose replies were refused are rolled back."""
    rates = Faults(**{kind: 0.4}, seed=1)
    absent = Lossy(lambda round, client: bool(kind != "duplicate" and rates.at(round, client)), asleep=True)
    for method in ("topk_ef", "fedsep_quantised"):
        factory, arguments = METHODS[method]
        found = play(federation, factory, faulty(sequential(), rates), rounds=6, **arguments)
        wanted = play(federation, factory, absent, rounds=6, **arguments)
        assert found.summary["failures"] > 0
        assert all(torch.equal(found.params[part], wanted.params[part]) for part in wanted.params)


def test_what_was_accepted_and_what_is_remembered_is_what_accepted_rounds_produced():
    faults = replace(ALL, corrupt=0.0)
    result = run(Sparse(), engine=faulty(sequential(), faults), rounds=12)
    assert result.summary["failures"] > 5  # the toy's clients check that the server knows their last accepted turn
    with pytest.raises(FedSepError, match=r"engine\.faults\.corrupt needs a method that says .*\(got Sparse\)"):
        run(Sparse(), engine=faulty(sequential(), ALL))


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_no_corruption_passes_for_a_reply(row):
    algorithm, played = rehearsed(row)
    seat = played.seats[1][0]
    expected, kinds = algorithm.expected(played.states[1], seat.ctx), set()
    for seed in range(25):
        payload = corrupted(seat.reply, key(seed))
        try:
            require_form(payload, expected)
        except Refused as error:
            kinds.add(type(payload) if not isinstance(payload, type(seat.reply)) else str(error)[-20:])
            continue
        assert not finite(payload)
    assert len(kinds) > 1


def test_a_method_that_sends_nothing_can_be_corrupted():
    assert {type(corrupted({}, key(seed))) for seed in range(9)} == {list, str}


@pytest.mark.parametrize("engine", [sequential(), workers(processes=2)], ids=["sequential", "workers"])
def test_a_run_that_is_killed_three_times_meets_the_same_faults(federation, tmp_path, engine):
    def go(out):
        task = tasks.classification(models.logistic(federation.shape, federation.classes))
        method = topk_ef(task, k=20, steps=1, batch_size=8, lr=0.1)
        return fit(method, task, federation, rounds=8, engine=faulty(engine, ALL), out=out, resume=True,
                   cohort=Cohort(per_round=4), evaluate=Evaluate(every=4), checkpoint=Checkpoint(every=2))  # fmt: skip

    assert killed("call", (30, 45, 60), tmp_path / "killed", act=go) == 3
    assert contents(go(tmp_path / "killed").folder) == contents(go(tmp_path / "whole").folder)


def test_a_run_is_not_gone_on_with_under_other_faults(tmp_path):
    def go(seed, rounds):
        engine = faulty(sequential(), Faults(drop=0.3, seed=seed)) if seed else sequential()
        return run(FedAvg(), tmp_path, engine=engine, rounds=rounds, resume=True)

    go(1, 2)
    go(1, 3)
    with pytest.raises(FedSepError, match=r"checkpoint of another run: faults\.seed: 1 there, 2 here"):
        go(2, 4)
    with pytest.raises(FedSepError, match=r"checkpoint of another run: faults: .* there, null here"):
        go(0, 4)


@pytest.mark.parametrize(("wrong", "says"), [
    ({"drop": 1.1}, r"faults\.drop must be >= 0 and <= 1 \(got 1\.1\)"),
    ({"drop": 0.7, "late": 0.7}, r"faults must have rates that add up to at most 1 \(got 1\.4\)"),
    ({"seed": -1, "crash": float("nan")}, r"faults\.crash must be .*; faults\.seed must be >= 0"),
])  # fmt: skip
def test_rates_out_of_range_are_refused(wrong, says):
    with pytest.raises(FedSepError, match=says):
        faulty(sequential(), Faults(**wrong))


@pytest.mark.parametrize(("kind", "crossed"), [("drop", (70, 0)), ("crash", (70, 0)), ("late", (70, 50))])
@pytest.mark.parametrize("told", [True, False])
def test_what_an_engine_says_of_its_letters_is_kept(kind, crossed, told):
    class Engine:
        def open(self, *_):
            return self

        def round(self, state, cohort):
            ctx = Ctx(0, 1.0, key(0))
            yield Delivered(Reply(3, ctx, torch.ones(2), 5, {}, {}, serialised=(70, 50) if told else None), ())

    session = faulty(Engine(), Faults(**{kind: 1.0})).open(None, None, None, None)
    [failure] = session.round(None, [])
    assert failure.serialised == (crossed if told else None)


def test_all_else_is_the_engines():
    result = run(FedAvg(), engine=faulty(sequential(), Faults(drop=0.5)), evaluate=Evaluate(every=3, clients=True))
    assert "client_fit_after" in result.metrics[2]
    assert "test_fit" in result.metrics[2]
