"""``fedsep bench``: every engine on the user's own recipe, and which cannot run, and why."""

from __future__ import annotations

import json
import os
import sys

import pytest
import torch

from fedsep.cli import bench_apart, bench_one, invoke, plain
from fedsep.cli.bench_apart import measured_apart
from fedsep.cli.plain import why_not
from fedsep.recipes import Sources, build, read
from fedsep.train import fit

RECIPE = """
rounds: 500
data: {use: fedsep.data.digits, clients: 4, validation: 20}
model: {use: fedsep.models.logistic}
methods:
  - {use: fedsep.algorithms.fedavg, steps: 1, batch_size: 8}
  - {use: fedsep.algorithms.topk_ef, k: 20, steps: 1, batch_size: 8}
engine: {use: fedsep.engines.workers, processes: 2, faults: {drop: 0.5}}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def inside(monkeypatch):
    """Measures in this process: to start one takes longer than to measure."""
    started = []

    def run(words):
        started.append(words)
        bench_one.main(*words[-2:])
        return bench_apart.Watched(123_000_000, (123_000_000,), 0, "")

    monkeypatch.setattr(bench_apart, "watch", run)
    return started


@pytest.fixture
def command(capsys):
    def run(*words):
        code = invoke(["bench", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_every_engine_side_by_side(command, here, inside):
    code, out, err = command("tiny.yaml", "--rounds", "2", "--method", "fedavg")
    assert code == 0
    rows = {words[0]: words for line in out.splitlines() if (words := line.split())}
    assert rows["sequential"][-1] == "yes"
    assert rows["workers"][-1] == "yes"
    assert rows["vectorised"][-1] in ("yes", "no")
    assert rows["torchrun"][-2:] == ["cannot", "run"]
    assert "torchrun: fedsep.engines.torchrun works in processes that torchrun starts" in out
    assert rows["plain"][1] == "loop"
    assert "123 MB" in out
    assert "of a plain loop" in out
    assert "fedavg: 2 rounds of 4 clients" in out
    assert "auto picks " in out
    assert "fedavg · vectorised · 5 of 6" in err
    assert [path.name for path in here.iterdir()] == ["tiny.yaml"]
    [launched] = [words for words in inside if "torch.distributed.run" in words]
    assert launched[:4] == [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def test_the_figures_are_written_where_that_is_asked_for(command, here, inside):
    code, out, _ = command("tiny.yaml", "--rounds", "1", "--engines", "workers", "--out", "b.json", "--json", "--quiet")
    assert code == 0
    written = json.loads((here / "b.json").read_text())
    assert json.loads(out) == written["rows"]
    assert written["environment"]["torch"]
    found = {(row["method"], row["engine"]): row for row in written["rows"]}
    assert list(found) == [
        ("fedavg", "plain"), ("fedavg", "sequential"), ("fedavg", "workers"), ("topk_ef", "sequential"),
        ("topk_ef", "workers"),
    ]  # fmt: skip
    row = found["topk_ef", "workers"]
    assert row["equal"] is True
    assert row["of_plain"] is None
    assert row["of_sequential"] == pytest.approx(
        row["rounds_per_second"] / found["topk_ef", "sequential"]["rounds_per_second"]
    )
    assert len(row["seconds"]) == 1


def test_another_result_is_not_equal(command, here, inside, monkeypatch):
    digests = iter("ab")
    monkeypatch.setattr(bench_one, "_digest", lambda *_: next(digests))
    _, out, _ = command("tiny.yaml", "--rounds", "1", "--method", "topk_ef", "--engines", "workers")
    assert [line.split()[-1] for line in out.splitlines() if line.startswith((" sequential", " workers"))] == [
        "yes", "no"]  # fmt: skip


def test_a_measurement_in_a_process_of_its_own(here):
    found = measured_apart(read("tiny.yaml"), "fedavg", "fedsep.engines.sequential", Sources(), 2, "cpu")
    assert len(found["seconds"]) == 2
    assert found["memory"] > 50e6 or not os.path.exists("/proc/self/smaps_rollup")


def test_a_process_that_dies_is_a_reason(here, monkeypatch):
    monkeypatch.setattr(bench_apart, "_program", lambda *_: [sys.executable, "-c", "print('out of luck'); exit(3)"])
    found = measured_apart(read("tiny.yaml"), "fedavg", "fedsep.engines.sequential", Sources(), 2, "cpu")
    assert found == {"error": "its process ended with exit code 3: out of luck"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "fedagv"], "--method: tiny.yaml has no 'fedagv'; did you mean fedavg? (it has fedavg, topk_ef)"),
        (["--engines", "worker"], "--engines: there is no fedsep.engines.worker; did you mean workers?"),
        (["--rounds", "0"], "Invalid value for '--rounds'"),
        (["--device", "tpu"], "--device: must be cpu, cuda, cuda:N or mps"),
    ],
)
def test_mistakes(command, words, said):
    code, _, err = command("tiny.yaml", *words)
    assert code == 2
    assert said in err


def test_the_plain_loop_learns_what_fedavg_learns(here, monkeypatch):
    """From the same start, with all data in every step, both are gradient descent: one round agrees."""
    text = RECIPE.replace("steps: 1, batch_size: 8}", "steps: 3, batch_size: null, weighting: samples, lr: 0.5}", 1)
    (here / "full.yaml").write_text(text)
    recipe = read("full.yaml")
    experiment = build(recipe, 0)
    run = fit(experiment.algorithms["fedavg"], experiment.task, experiment.federation, rounds=2)
    kept, averaged = [], plain._averaged
    monkeypatch.setattr(plain, "_averaged", lambda *arguments: kept.append(averaged(*arguments)) or kept[-1])
    assert len(plain.plain_loop(experiment, "fedavg", 2)) == 2
    whole = torch.cat([part.reshape(-1) for part in run.params.values()])
    torch.testing.assert_close(kept[-1], whole, rtol=1e-6, atol=1e-8)


def test_where_a_plain_loop_would_do_something_else(here):
    recipe = read("tiny.yaml")
    assert why_not(recipe, "fedavg") == ""
    assert why_not(recipe, "topk_ef") == "a plain loop is FedAvg; topk_ef is fedsep.algorithms.topk_ef"
    (here / "more.yaml").write_text(RECIPE.replace("fedavg, steps", "fedavg, clip: 1.0, steps"))
    assert why_not(read("more.yaml"), "fedavg") == "a plain loop has no clip"
