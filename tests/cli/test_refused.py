"""What is refused before any work: one message for a user's mistake, and exit code 2."""

from __future__ import annotations

import pytest

from fedsep.cli.device import crowded, own

pytestmark = pytest.mark.usefixtures("here", "page")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "tny.yaml"],
         "tny.yaml: there is no such file, and no shipped recipe of this name (did you mean tiny.yaml?)"),
        (["run", "."],
         ".: this folder holds no recipe.yaml, and no shipped recipe has its name; fedsep ls recipes shows them"),
        (["run", "tiny.yaml", "--set", "methods.fedavg.lrr=1"],
         "--set methods.fedavg.lrr=1: methods.fedavg.lrr: fedsep.algorithms.fedavg has no such argument "
         "(got 1; did you mean lr?)"),
        (["run", "tiny.yaml", "--set", "methods.fedavg.lr=.inf", "--set", "methods.fedavg.momentum=.nan"],
         "--set methods.fedavg.lr=.inf: methods.fedavg.lr: must be a finite number > 0 (got inf)\n"
         "--set methods.fedavg.momentum=.nan: methods.fedavg.momentum: must be a finite number >= 0 and < 1 (got nan)"),
        (["run", "tiny.yaml", "--set", "rounds", "--set", "a..b=1"],
         "--set: must be PATH=VALUE, as in methods.fedavg.lr=0.05 (got 'rounds')\n"
         "--set: must be PATH=VALUE, as in methods.fedavg.lr=0.05 (got 'a..b=1')"),
        (["run", "tiny.yaml", "--engine", "wrkers"],
         "--engine wrkers: engine.use: there is no fedsep.engines.wrkers (did you mean fedsep.engines.workers?)"),
        (["run", "tiny.yaml", "--device", "tpu"], "--device: must be cpu, cuda, cuda:N or mps (got 'tpu')"),
        (["run", "tiny.yaml", "--seeds", "0;1"],
         "--seeds: must be whole numbers with commas between them, as in 0,1,2 (got '0;1')"),
        (["run", "tiny.yaml", "--seed", "1", "--seeds", "2"], "give --seed or --seeds, not both"),
        (["run", "tiny.yaml", "--data-dir", "nowhere"], "--data-dir: there is no folder nowhere"),
        (["run", "tiny.yaml", "--out", "tiny.yaml"], "--out: tiny.yaml cannot be written (File exists)"),
        (["ls", "metods"],
         "ls: there are methods, datasets, partitions, models, tasks, codecs, learners, schedules, servers, "
         "reductions, wires, privacy, engines, recipes (got 'metods'; did you mean methods?)"),
        (["show", "fedavgg"], "there is nothing called fedavgg (did you mean fedavg?)"),
        (["show", "fedsep.models.cn"], "there is no fedsep.models.cn (did you mean fedsep.models.cnn?)"),
        (["show", "sgd"], "sgd may be fedsep.learners.sgd or fedsep.servers.sgd: give the whole path"),
        (["sweep", "tiny.yaml", "--grid", "methods.fedavg.lr"],
         "--grid: must be PATH=VALUE,VALUE,..., as in methods.fedavg.lr=0.03,0.1 (got 'methods.fedavg.lr')"),
        (["sweep", "tiny.yaml", "--grid", "methods.fedprox.lr=1"],
         "--grid methods.fedprox.lr=1: methods has fedavg, fedsep_linear, but not fedprox"),
        (["sweep", "tiny.yaml", "--grid", "methods.fedavg.lr=1", "--grid", "methods.0.lr=2"],
         "--grid: methods.fedavg.lr: is given twice: put all its values into one --grid"),
        (["sweep", "tiny.yaml", "--grid", "rounds=1,x"],
         "--grid rounds=x: rounds: must be a whole number >= 1 (got 'x')"),
        (["sweep", "tiny.yaml", "--grid", "rounds=1", "--set", "data.validation=0"],
         "tiny.yaml: a sweep chooses on validation data, and this recipe holds none out: "
         "add validation: N to its data block"),
        (["sweep", "tiny.yaml", "--grid", "rounds=1", "--select", "train"],
         "--select: must be validation (got 'train')"),
        (["compare", "nowhere"], "nowhere: no such folder"),
    ],
)  # fmt: skip
def test_bad_input_is_one_message_and_2(command, words, message):
    code, out, err = command(*words)
    assert (code, out, err) == (2, "", message + "\n")


@pytest.mark.parametrize(
    ("device", "built", "count", "lacking"),
    [
        ("cuda", False, 0, "was built without CUDA"),
        ("cuda", True, 0, "torch sees no CUDA devices"),
        ("cuda:2", True, 1, "torch sees 1 CUDA device"),
        ("mps", False, 0, "this is no Apple GPU, or torch was built without it"),
    ],
)
def test_a_device_that_is_not_there_is_refused(command, here, monkeypatch, device, built, count, lacking):
    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: built)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    code, _, err = command("run", "tiny.yaml", "--device", device)
    assert code == 2
    assert err.startswith(f"--device: {device} cannot be used here: ")
    assert err.endswith(f"{lacking} (cpu always can)\n")
    assert not (here / "runs").exists()


def test_processes_that_torchrun_started_have_a_gpu_each_or_are_refused(command, here, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    code, _, err = command("run", "tiny.yaml", "--device", "cuda")
    assert code == 2
    assert err == (
        "--device: torchrun started 3 processes on this machine, and torch sees 2 GPUs here: one process has one GPU, "
        "so start no more (--nproc-per-node 2)\n"
    )
    code, _, err = command("run", "tiny.yaml", "--device", "cuda:1")
    assert code == 2
    assert err.startswith(
        "--device: 3 processes on this machine cannot share cuda:1: with cuda, each has a GPU of its own"
    )
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("name", "processes", "devices"),
    [("cpu", 8, 2), ("cuda", 2, 2), ("cuda", 1, 2), ("cuda:1", 1, 2), ("cuda", 3, 0), ("mps", 2, 0)],
)
def test_processes_that_have_a_device_each_are_not(name, processes, devices):
    assert crowded(name, processes, devices) == ""


def test_a_process_has_the_gpu_of_its_number_on_its_machine(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [own(name) for name in ("cuda", "cuda:0", "cpu", "mps")] == ["cuda:1", "cuda:0", "cpu", "mps"]
    monkeypatch.delenv("LOCAL_RANK")
    assert own("cuda") == "cuda"


def test_usage_errors_are_2(command):
    code, _, err = command("run", "--outt", "x")
    assert code == 2
    assert "No such option" in err  # the rest is typer's or click's wording, by version
    assert "--outt" in err


def test_check_tells_the_mistakes_of_all_methods_at_once(command):
    """One cannot be bound; the factories of others refuse what only they can judge; a fourth is right."""
    with open("three.yaml", "w") as file:
        file.write(
            """
rounds: 2
data: {use: fedsep.data.digits, clients: 3}
model: {use: fedsep.models.logistic}
methods:
  - {use: fedsep.algorithms.eden, bits: 9}
  - {use: fedsep.algorithms.fedsep_linear, p: 100000}
  - {use: fedsep.algorithms.fedsep_lasso, p: 20, beta: 2}
  - {use: fedsep.algorithms.topk_ef, k: 100000}
  - {use: fedsep.algorithms.fedavg}
"""
        )
    code, _, said = command("check", "three.yaml")
    assert code == 2
    for method in ("eden.bits", "fedsep_linear.p", "fedsep_lasso: beta=2", "topk_ef.k"):
        assert f"three.yaml: methods.{method}" in said
    assert len(said.splitlines()) == 4
