"""A run that was interrupted and resumed equals one that was not, bit for bit."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
from train.toys import CLIENTS, METHODS, At, FedAvg, Fleet, Lossy, Sparse, contents, interrupt, run

from fedsep.core import FedSepError
from fedsep.engines import sequential, workers
from fedsep.folder import RunFolder
from fedsep.train import Checkpoint, Interrupted, RunFailed, Stop


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("states", ["memory", "disk"])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("cuts", [(1,), (4, 5), (8,), (2, 3, 7)])
def test_interrupted_and_resumed(whole, tmp_path, name, states, cuts):
    method, changes = METHODS[name]
    for at in cuts:
        with pytest.raises(Interrupted, match=f"checkpoint of round {at} is whole: fedsep resume") as caught:
            run(method, tmp_path, states=states, resume=True, watch=At(at, interrupt), **changes)
        assert caught.value.round == at
        folder = caught.value.folder
        summary = json.loads((folder / "summary.json").read_text())
        assert (summary["status"], summary["rounds"]) == ("interrupted", at)
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == at
        assert len((folder / "metrics.csv").read_text().splitlines()) == at + 1
    run(method, tmp_path, states=states, resume=True, **changes)
    assert contents(folder) == whole[name, states]


@pytest.mark.parametrize("states", ["memory", "disk"])
def test_where_memories_live_changes_nothing(whole, states):
    for name in METHODS:
        assert whole[name, states] == whole[name, "memory"]


@pytest.mark.parametrize("states", ["memory", "disk"])
@pytest.mark.parametrize("client", [0, 2, 3])
def test_in_the_middle_of_a_round(whole, tmp_path, states, client):
    class Touchy(Sparse):
        calls = 0

        def update(self, payload, memory, shard, ctx):
            Touchy.calls += ctx.round == 5
            if Touchy.calls == client + 1:
                raise KeyboardInterrupt
            return super().update(payload, memory, shard, ctx)

    with pytest.raises(Interrupted, match="round 5 is whole"):
        run(Touchy(), tmp_path, states=states, **METHODS["sparse"][1])
    Touchy.calls = 100
    result = run(Touchy(), tmp_path, states=states, resume=True, **METHODS["sparse"][1])
    assert contents(result.folder) == whole["sparse", states]


@pytest.mark.parametrize("log", ["ledger.jsonl", "metrics.jsonl"])
def test_in_the_middle_of_logging(whole, tmp_path, log, monkeypatch):
    append = RunFolder.append

    def touchy(self, name, rows):
        rows = list(rows)
        append(self, name, rows)
        if name == log and rows[0]["round"] == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "append", touchy)
    with pytest.raises(Interrupted, match="round 4 is whole") as caught:
        run(FedAvg(), tmp_path, evaluate=CLIENTS)
    monkeypatch.undo()
    for name in ("ledger.jsonl", "metrics.jsonl"):
        lines = (caught.value.folder / name).read_text().splitlines()
        assert {json.loads(line)["round"] for line in lines} == {1, 2, 3, 4}
    assert contents(run(FedAvg(), tmp_path, resume=True, evaluate=CLIENTS).folder) == whole["fedavg", "memory"]


def test_sigterm(whole, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="round 3 is whole"):
        run(FedAvg(), tmp_path, watch=At(3, terminate), evaluate=CLIENTS)
    assert signal.getsignal(signal.SIGTERM) == before
    assert contents(run(FedAvg(), tmp_path, resume=True, evaluate=CLIENTS).folder) == whole["fedavg", "memory"]


def test_other_engine_goes_on(whole, tmp_path):
    with pytest.raises(Interrupted):
        run(FedAvg(), tmp_path, watch=At(3, interrupt), evaluate=CLIENTS)
    result = run(FedAvg(), tmp_path, resume=True, engine=workers(processes=2), evaluate=CLIENTS)
    assert contents(result.folder) == whole["fedavg", "memory"]


def test_more_rounds_go_on(whole, tmp_path):
    run(FedAvg(), tmp_path, rounds=4, evaluate=CLIENTS)
    assert contents(run(FedAvg(), tmp_path, resume=True, evaluate=CLIENTS).folder) == whole["fedavg", "memory"]


def test_a_finished_run_is_not_run_again(tmp_path):
    first = run(FedAvg(), tmp_path)
    seen = []
    again = run(FedAvg(), tmp_path, resume=True, watch=seen.append)
    assert not seen
    assert again.summary == first.summary
    assert again.metrics == first.metrics
    assert torch.equal(again.params["w"], first.params["w"])


def test_nothing_to_resume_starts(whole, tmp_path):
    assert contents(run(FedAvg(), tmp_path, resume=True, evaluate=CLIENTS).folder) == whole["fedavg", "memory"]


def test_interrupted_without_a_folder():
    with pytest.raises(Interrupted, match="nothing was written"):
        run(FedAvg(), watch=At(3, interrupt))


def test_the_resumption_is_recorded(tmp_path):
    with pytest.raises(Interrupted):
        run(FedAvg(), tmp_path, watch=At(3, interrupt))
    folder = run(FedAvg(), tmp_path, resume=True).folder
    resumed = json.loads((folder / "environment.json").read_text())["resumed"]
    assert [entry["round"] for entry in resumed] == [3]


class TestAnotherRun:
    @pytest.fixture
    def out(self, tmp_path):
        run(FedAvg(), tmp_path, rounds=3, recipe={"seed": 0, "rounds": 3, "model": {"width": 32}})
        return tmp_path

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"method": FedAvg(lr=0.5)}, "method.lr: \"0.02\" there, \"0.5\" here"),
            ({"method": Sparse()}, "method.is"),
            ({"fleet": Fleet(name="circles")}, "data.name: \"lines\" there, \"circles\" here"),
            ({"fleet": Fleet(clients=8)}, "data.clients: 7 there, 8 here"),
            ({"states": "disk"}, "states: \"memory\" there, \"disk\" here"),
            ({"recipe": {"model": {"width": 64}}}, "recipe.model.width: 32 there, 64 here"),
        ],
    )  # fmt: skip
    def test_is_refused_and_left_alone(self, out, changes, message):
        before = sorted(path for path in out.rglob("*"))
        recipe = {"recipe": {"seed": 0, "rounds": 3, "model": {"width": 32}}}
        with pytest.raises(FedSepError, match="the checkpoint of another run") as caught:
            run(changes.pop("method", FedAvg()), out, resume=True, **{**recipe, **changes})
        assert message in str(caught.value)
        assert sorted(path for path in out.rglob("*")) == before

    def test_fewer_rounds_than_there_are(self, out):
        with pytest.raises(FedSepError, match="has 3 rounds already, more than the 2 of this run"):
            run(FedAvg(), out, resume=True, rounds=2, recipe={"seed": 0, "rounds": 2, "model": {"width": 32}})


@pytest.mark.parametrize(("method", "later"), [
    ("fedsep_mask", {"terms": "first", "damping": 1.0, "bound": 1.0, "common": 0.0}), ("kept_random", {"common": 0.0}),
])  # fmt: skip
def test_a_run_of_an_earlier_version_goes_on_where_what_came_later_changes_nothing(tmp_path, method, later):
    before = {"method": {"use": f"fedsep.algorithms.{method}"}}
    now = {"method": {**before["method"], **later}}
    run(FedAvg(), tmp_path, rounds=3, recipe=before)
    for changed in {"damping", "common"} & later.keys():
        other = {"method": {**now["method"], changed: 0.5}}
        with pytest.raises(FedSepError, match=rf'recipe.method.{changed}: "{later[changed]}" there, "0\.5" here'):
            run(FedAvg(), tmp_path, resume=True, rounds=4, recipe=other)
    assert len(run(FedAvg(), tmp_path, resume=True, rounds=4, recipe=now).metrics) == 4


def test_void_rounds_in_a_row_are_counted_across_a_resumption(tmp_path):
    lost = Lossy(lambda round, client: round >= 3)
    with pytest.raises(Interrupted):
        run(FedAvg(), tmp_path, engine=lost, stop=Stop(patience=3), watch=At(5, interrupt))
    with pytest.raises(RunFailed, match=r"round 6: .* for the 3\. time in a row"):
        run(FedAvg(), tmp_path, engine=lost, stop=Stop(patience=3), resume=True)


def test_checkpoints_at_every_round_or_none_give_the_same(whole, tmp_path):
    for every in (1, None):
        out = tmp_path / str(every)
        assert (
            contents(run(FedAvg(), out, checkpoint=Checkpoint(every=every), evaluate=CLIENTS).folder)
            == (whole["fedavg", "memory"])
        )


def test_an_interruption_while_the_final_model_is_sent_says_that_the_run_is_done(tmp_path):
    class Sending:
        def __init__(self, session):
            self.session = session

        def __getattr__(self, name):
            return getattr(self.session, name)

        def deliver(self, params, record):
            raise KeyboardInterrupt

    class Remote:
        def open(self, *what):
            return Sending(sequential().open(*what))

    with pytest.raises(Interrupted, match="the run is done, but sites may lack its final model: --resume") as caught:
        run(FedAvg(), tmp_path, rounds=2, engine=Remote())
    assert caught.value.round == 2
    assert json.loads((caught.value.folder / "summary.json").read_text())["status"] == "done"
