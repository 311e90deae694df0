"""The loop: what it gives back, what it writes, and what it refuses."""

from __future__ import annotations

import csv
import json

import pytest
import torch
import yaml
from safetensors.torch import load_file
from train.toys import FedAvg, Fleet, Lossy, Sparse, Task, run

from fedsep.core import HEADER_BYTES
from fedsep.train import Cohort, Evaluate


def test_equals_the_method_written_as_a_plain_loop():
    method, fleet, cohort = FedAvg(), Fleet(), Cohort(per_round=4)
    state = method.init(Task().init())
    seen = torch.full((fleet.clients,), -1)
    for round in range(6):
        members = cohort.members(3, round, fleet.clients)
        invitations = cohort.invitations(3, round, members, seen, lambda client: None)
        replies = []
        for client, ctx in invitations:
            payload, _, _ = method.update(method.broadcast(state, ctx), (), fleet.shard(client), ctx)
            replies.append(type("Reply", (), {"payload": payload}))
        state, _ = method.aggregate(state, replies)
    result = run(method, rounds=6, seed=3, cohort=cohort)
    assert all(torch.equal(result.params[name], state.x[name]) for name in state.x)


def test_learns_and_summarises():
    result = run(FedAvg(), rounds=40, evaluate=Evaluate(every=5, last=2), cohort=Cohort())
    series = [row["test_mse"] for row in result.metrics if "test_mse" in row]
    assert len(series) == 8
    figures = result.summary["metrics"]["mse"]
    assert figures["last"] == series[-1] < 0.5
    assert figures["best"] == min(series)
    assert figures["mean_last"] == pytest.approx(sum(series[-2:]) / 2)
    assert result.summary["metrics"]["fit"]["best"] == max(r["test_fit"] for r in result.metrics if "test_fit" in r)
    chosen = min((r for r in result.metrics if "validation_mse" in r), key=lambda r: r["validation_mse"])
    assert figures["selected"] == chosen["test_mse"]
    assert result.summary["status"] == "done"
    assert result.summary["parameters"] == 5


def test_nothing_is_written_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(FedAvg(), states="disk")
    assert result.folder is None
    assert not list(tmp_path.iterdir())


def test_folder_holds_what_is_promised(tmp_path):
    result = run(FedAvg(), out=tmp_path, name="fedavg", seed=2, recipe={"seed": 2, "data": {"sizes": (1, 2)}})
    folder = tmp_path / "fedavg" / "seed2"
    assert result.folder == folder
    visible = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert visible == {
        "recipe.yaml", "environment.json", "partition.npz", "metrics.jsonl", "metrics.csv", "ledger.jsonl",
        "checkpoint", "model.safetensors", "summary.json",
    }  # fmt: skip
    assert yaml.safe_load((folder / "recipe.yaml").read_text()) == {"seed": 2, "data": {"sizes": [1, 2]}}
    assert json.loads((folder / "summary.json").read_text()) == result.summary
    environment = json.loads((folder / "environment.json").read_text())
    names = "fedsep python torch platform machine started command seed engine threads"
    assert set(environment) == set(names.split())
    model = load_file(folder / "model.safetensors")
    assert all(torch.equal(model[name], result.params[name]) for name in result.params)


def test_metrics_have_a_row_a_round_and_the_table_says_the_same(tmp_path):
    result = run(FedAvg(), out=tmp_path)
    rows = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert rows == result.metrics
    assert [row["round"] for row in rows] == list(range(1, 10))
    assert [row["round"] for row in rows if "test_mse" in row] == [2, 4, 6, 8, 9]
    with (result.folder / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["train_loss"]) for row in table] == [row["train_loss"] for row in rows]
    assert table[0]["test_mse"] == ""
    assert float(table[1]["test_mse"]) == rows[1]["test_mse"]


def test_ledger_is_what_crossed(tmp_path):
    lost = Lossy(lambda round, client: client == 2)
    result = run(Sparse(), out=tmp_path, engine=lost, cohort=Cohort())
    rows = [json.loads(line) for line in (result.folder / "ledger.jsonl").read_text().splitlines()]
    up = [row for row in rows if row["direction"] == "up"]
    assert len(up) == 9 * 6
    assert all(row["parts"] == {"value": 32, "report": 8} and row["accepted"] for row in up)
    assert all(row["payload"] == 40 and row["header"] == HEADER_BYTES and row["serialised"] is None for row in up)
    failed = [row for row in rows if "failure" in row]
    assert {row["client"] for row in failed} == {2}
    assert failed[0]["failure"] == {"stage": "network", "reason": "lost"}
    down = [row for row in rows if row["direction"] == "down" and "failure" not in row]
    last = result.metrics[-1]
    assert last["bytes_up"] == sum(row["payload"] for row in up) == result.summary["total_bytes"]["up"]
    assert last["bytes_down"] == sum(row["payload"] for row in down)
    assert last["header_bytes"] == HEADER_BYTES * (len(up) + len(down))
    assert result.summary["bytes"] == {"up": 40, "down": 40}
    assert result.summary["failures"] == 9
    order = [(row["round"], row["client"], row["direction"] == "up") for row in rows]
    assert order == sorted(order)


def test_clients_are_evaluated_before_and_after(tmp_path):
    result = run(FedAvg(), out=tmp_path, evaluate=Evaluate(every=3, clients=True))
    rows = [json.loads(line) for line in (result.folder / "clients.jsonl").read_text().splitlines()]
    assert [row["client"] for row in rows] == 3 * list(range(7))
    last = [row for row in rows if row["round"] == 9]
    after = [row["after"]["mse"] for row in last]
    assert result.metrics[-1]["client_mse_after"] == pytest.approx(sum(after) / 7)
    assert result.metrics[-1]["client_mse_after"] < result.metrics[-1]["client_mse_before"]
    assert result.summary["metrics"]["client_mse_after"]["last"] == result.metrics[-1]["client_mse_after"]
    assert run(FedAvg()).metrics[-1]["test_mse"] == result.metrics[-1]["test_mse"]  # looking changes nothing


def test_watch_is_told_every_round():
    events = []
    result = run(FedAvg(), watch=events.append)
    assert [event.round for event in events] == list(range(1, 10))
    assert [event.metrics for event in events] == result.metrics
    assert events[-1].bytes_up == result.summary["total_bytes"]["up"]


def test_same_seed_same_bits_other_seed_others():
    first, again, other = run(FedAvg(), seed=1), run(FedAvg(), seed=1), run(FedAvg(), seed=2)
    assert torch.equal(first.params["w"], again.params["w"])
    assert not torch.equal(first.params["w"], other.params["w"])


def test_replies_are_streamed():
    class Counting(FedAvg):
        alive = 0

        def aggregate(self, state, replies):
            assert iter(replies) is replies or replies == []
            return super().aggregate(state, replies)

    run(Counting())


def test_a_server_may_stop_reading(tmp_path):
    class Hasty(Sparse):
        def aggregate(self, state, replies):
            return super().aggregate(state, [reply for reply, _ in zip(replies, range(2), strict=False)])

    result = run(Hasty(), out=tmp_path, cohort=Cohort())
    assert all(row["replies"] == 7 for row in result.metrics)
