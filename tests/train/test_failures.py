"""What ends a run early, what does not, and what is refused before it begins."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
import torch
from train.toys import FedAvg, Fleet, Lossy, Sparse, coin, run

from fedsep import tree
from fedsep.core import FedSepError, Shard
from fedsep.train import Checkpoint, Cohort, Evaluate, RunFailed, Stop


def test_too_few_replies_void_the_round():
    """Rounds 3 and 4 have one reply: nothing of them is kept, but the clock moves."""
    lost = Lossy(lambda round, client: round in (3, 4) and client != 1)
    result = run(FedAvg(), engine=lost, cohort=Cohort(), stop=Stop(min_replies=2, patience=3), rounds=6)
    assert [row["replies"] for row in result.metrics] == [7, 7, 7, 1, 1, 7]
    assert [row["server_count"] for row in result.metrics] == [7, 7, 7, 0, 0, 7]


def test_a_void_round_is_in_the_ledger_and_not_accepted(tmp_path):
    lost = Lossy(lambda round, client: round == 3 and client != 1)
    result = run(Sparse(), tmp_path, engine=lost, cohort=Cohort(), stop=Stop(min_replies=2), rounds=6)
    rows = [json.loads(line) for line in (result.folder / "ledger.jsonl").read_text().splitlines()]
    refused = [(row["round"], row["client"]) for row in rows if row.get("accepted") is False]
    assert refused == [(4, 1)]


def test_patience_ends_and_quotes_the_failures(tmp_path):
    lost = Lossy(lambda round, client: round >= 5)
    with pytest.raises(RunFailed, match=r"round 7: 0 of 4 .*min_replies=1, for the 2\. time in a row") as caught:
        run(FedAvg(), tmp_path, engine=lost, stop=Stop(patience=2))
    assert "network: lost" in str(caught.value)
    assert "and 1 more" in str(caught.value)
    assert f"fedsep resume {tmp_path / 'run' / 'seed0'}" in str(caught.value)
    summary = json.loads((tmp_path / "run" / "seed0" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert summary["rounds"] == 6
    assert "min_replies" in summary["reason"]
    result = run(FedAvg(), tmp_path, engine=Lossy(lambda round, client: False), stop=Stop(patience=2), resume=True)
    assert result.summary["rounds"] == 9  # the network is back


def test_a_round_to_which_nobody_was_invited_is_no_failure():
    """Poisson cohorts may be empty: that tries nobody's patience, and it does not restore it."""
    poisson = Cohort(per_round=1, sampling="poisson")
    cohorts = [poisson.members(0, round, 7) for round in range(12)]
    assert any(not a and not b for a, b in itertools.pairwise(cohorts))
    settings = {"cohort": poisson, "rounds": 12, "stop": Stop(patience=1)}
    assert [row["replies"] for row in run(FedAvg(), **settings).metrics] == [len(each) for each in cohorts]
    invited = [round for round, each in enumerate(cohorts, 1) if each]
    with pytest.raises(RunFailed, match=rf"round {invited[2]}: 0 of {len(cohorts[invited[2] - 1])} .*the 3\. time"):
        run(FedAvg(), engine=Lossy(lambda round, client: True), **{**settings, "stop": Stop(patience=3)})


def test_non_finite_loss_stops_with_its_cause(tmp_path):
    class Diverging(FedAvg):
        def update(self, payload, client, shard, ctx):
            payload, client, info = super().update(payload, client, shard, ctx)
            return payload, client, {"loss": info["loss"] / (ctx.round < 4)}

    with pytest.raises(RunFailed, match=r"round 5: the training loss of client \d is inf.*lower lr.*round 4 is whole"):
        run(Diverging(), tmp_path)
    summary = json.loads((tmp_path / "run" / "seed0" / "summary.json").read_text())
    assert run(FedAvg(), rounds=4).summary["metrics"] == summary["metrics"]


def test_a_reply_that_is_not_finite_is_a_failure():
    class Spoiled(FedAvg):
        def update(self, payload, client, shard, ctx):
            payload, client, info = super().update(payload, client, shard, ctx)
            bad = float(shard.train.y[0]) == float(Fleet().shard(3).train.y[0])
            return (tree.scale(payload, float("nan")) if bad else payload), client, info

    spoiled = run(Spoiled(), cohort=Cohort())
    without = run(FedAvg(), cohort=Cohort(), engine=Lossy(lambda round, client: client == 3))
    assert torch.equal(spoiled.params["w"], without.params["w"])
    assert spoiled.summary["failures"] == 9
    assert spoiled.summary["total_bytes"]["up"] == 7 * 9 * 40  # it crossed all the same


def test_parameters_of_the_server_that_are_not_finite_stop():
    class Exploding(FedAvg):
        def aggregate(self, state, replies):
            state, info = super().aggregate(state, replies)
            return state._replace(x=tree.scale(state.x, float("inf") if state.clock == 4 else 1.0)), info

    with pytest.raises(RunFailed, match=r"round \d: the server's parameters are not finite .*\(w"):
        run(Exploding())


def test_infinity_in_the_state_is_no_error_while_the_model_is_finite():
    class Best(FedAvg):
        def init(self, params):
            return super().init(params)._replace(history=[torch.tensor(float("inf"))])

    assert run(Best()).summary["status"] == "done"


def test_an_error_in_a_client_is_a_failure_of_it():
    class Fragile(FedAvg):
        def update(self, payload, client, shard, ctx):
            if ctx.round == 2:
                raise ValueError("out of memory")
            return super().update(payload, client, shard, ctx)

    result = run(Fragile())
    assert [row["failures"] for row in result.metrics] == [0, 0, 4, 0, 0, 0, 0, 0, 0]


def test_an_error_of_the_server_is_raised_as_it_is_and_nothing_is_lost(tmp_path):
    class Buggy(FedAvg):
        def aggregate(self, state, replies):
            if state.clock == 5:
                raise ZeroDivisionError("a bug")
            return super().aggregate(state, replies)

    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(Buggy(), tmp_path)
    summary = json.loads((tmp_path / "run" / "seed0" / "summary.json").read_text())
    assert (summary["status"], summary["rounds"]) == ("failed", 5)


def test_wall_clock_limit_saves_and_stops(tmp_path):
    result = run(FedAvg(pause=0.01), tmp_path, stop=Stop(seconds=0.05), checkpoint=Checkpoint(every=None))
    assert result.summary["status"] == "interrupted"
    assert 0 < result.summary["rounds"] < 9
    whole = run(FedAvg(pause=0.01), tmp_path, checkpoint=Checkpoint(every=None), resume=True)
    assert torch.equal(whole.params["w"], run(FedAvg()).params["w"])


def test_checkpoints_by_time(tmp_path):
    run(FedAvg(pause=0.004), tmp_path, rounds=8, checkpoint=Checkpoint(every=None, seconds=0.001))
    names = sorted(path.name for path in (tmp_path / "run" / "seed0" / "checkpoint").iterdir())
    assert names == ["round-00000007", "round-00000008"]


def test_every_mistake_is_told_at_once():
    with pytest.raises(FedSepError) as caught:
        run(
            FedAvg(),
            rounds=0,
            seed=-1,
            name="a/b",
            cohort=Cohort(per_round=8, capabilities=(0.5, 1.5, float("nan")), draw="sometimes"),
            stop=Stop(min_replies=8, patience=0),
            checkpoint=Checkpoint(every=0),
            evaluate=Evaluate(every=0, rounds=(0,)),
            states="tape",
        )
    message = str(caught.value)
    for part in (
        "rounds must be >= 1 (got 0)", "seed must be >= 0 (got -1)", "name must be", "cohort.per_round must be at most",
        "cohort.capabilities must be > 0 and <= 1 (got 1.5)", "(got nan)",
        "cohort.draw must be one of fixed, ordered, dynamic",
        "stop.min_replies must be at most", "stop.patience must be >= 1", "checkpoint.every must be >= 1",
        "evaluate.every must be >= 1", "evaluate.rounds must be >= 1", "states must be memory or disk (got 'tape')",
    ):  # fmt: skip
        assert part in message
    assert "fit." not in message


def test_evaluating_clients_needs_their_models():
    with pytest.raises(FedSepError, match="local_models"):
        run(Sparse(), evaluate=Evaluate(clients=True))


def test_no_client_can_be_evaluated():
    class NoTest(Fleet):
        def shard(self, client):
            return Shard(super().shard(client).train)

    with pytest.raises(RunFailed, match=r"round 2: no client could be evaluated .*no test examples"):
        run(FedAvg(), fleet=NoTest(), evaluate=Evaluate(every=2, clients=True))


def test_a_state_that_cannot_be_saved_is_refused_at_once(tmp_path):
    class Strange(FedAvg):
        def init(self, params):
            return super().init(params)._replace(history=[{1, 2}])

    with pytest.raises(FedSepError, match=r"got set at \[2\]\[0\]"):
        run(Strange(), tmp_path)


def test_drops_change_nothing_for_the_clients_that_were_heard():
    """An engine's order of failures does not matter to the sum."""
    lossy = run(FedAvg(), engine=Lossy(coin), stop=Stop(patience=9))
    asleep = run(FedAvg(), engine=replace(Lossy(coin), asleep=True), stop=Stop(patience=9))
    assert torch.equal(lossy.params["w"], asleep.params["w"])
