"""``auto`` picks by its rules, says what and why, records it, and a resumed run keeps it."""

from __future__ import annotations

import importlib
import json
import logging

import pytest
from engines.ranks import in_ranks
from train import toys

from fedsep.core import FedSepError
from fedsep.engines import auto, faulty, sequential
from fedsep.engines.auto import Choice, Facts, choose, facts
from fedsep.engines.faults import Faults
from fedsep.train import Stop

MODULE = importlib.import_module("fedsep.engines.auto")  # of the same name, the package has the function

MLP = Facts(
    ranks=1, device="cpu", cores=4, memory=8 << 30, no_fork="", cohort=10, parameters=4_810, model_bytes=19_240,
    convolutional=False, apart="",
)  # fmt: skip
CNN = MLP._replace(parameters=200_000, model_bytes=800_000, convolutional=True)
GPU = CNN._replace(device="cuda", no_fork="CUDA is in use")


@pytest.mark.parametrize(
    ("here", "exact", "engine"),
    [
        (MLP, True, "workers"),
        (CNN._replace(ranks=2), True, "torchrun"),
        (GPU._replace(ranks=8), False, "torchrun"),
        (GPU, True, "sequential"),
        (GPU, False, "vectorised"),
        (GPU._replace(apart="of its own making"), False, "sequential"),
        (GPU._replace(cohort=1), False, "sequential"),
        (MLP._replace(cohort=32), False, "workers"),
        (MLP._replace(cohort=32, cores=1), False, "vectorised"),
        (MLP._replace(cohort=32, cores=1, apart="of its own making"), False, "sequential"),
        (MLP._replace(cohort=32, cores=1, parameters=20_001), False, "sequential"),
        (MLP._replace(cohort=32, cores=1, convolutional=True), False, "sequential"),
        (MLP._replace(cohort=31, cores=1), False, "sequential"),
        (CNN, False, "workers"),
        (CNN._replace(no_fork="no fork here"), True, "sequential"),
        (CNN._replace(cores=1), True, "sequential"),
        (CNN._replace(cohort=1), True, "sequential"),
        (CNN._replace(memory=9 * 800_000), True, "sequential"),
        (CNN._replace(memory=None), True, "workers"),
    ],
)
def test_rules(here, exact, engine):
    picked = choose(here, exact=exact)
    assert picked.engine == engine
    assert picked.reason
    assert Choice(**json.loads(json.dumps(picked.record()))) == picked


@pytest.mark.parametrize(
    ("here", "processes"),
    [(CNN, 4), (CNN._replace(cohort=3), 3), (CNN._replace(memory=10 * 800_000), 2)],
)
def test_as_many_workers_as_there_are_cores_clients_and_memory_for(here, processes):
    assert choose(here).arguments == {"processes": processes}


def test_what_the_choice_depends_on():
    found = facts(toys.FedAvg(), toys.Task().init(), 3)
    assert (found.ranks, found.device, found.cohort, found.parameters, found.convolutional) == (1, "cpu", 3, 5, False)
    assert found.model_bytes == 40
    assert found.apart == "FedAvg is not made of decode, learn and encode"
    assert found.memory is None or found.memory > 1 << 20


def here_are(monkeypatch, **changes):
    monkeypatch.setattr(MODULE, "facts", lambda *_: MLP._replace(**changes))


def told(run):
    return json.loads((run.folder / "environment.json").read_text())


def test_a_run_records_its_engine_and_keeps_it_when_it_is_resumed(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "fedsep")
    here_are(monkeypatch, cores=2, cohort=4)
    stop = Stop(seconds=1e-9)
    first = toys.run(toys.FedAvg(), tmp_path, engine=auto(), stop=stop)
    assert first.summary["rounds"] == 1
    chosen = {"engine": "workers", "reason": "2 cores, 4 clients in a round", "arguments": {"processes": 2}}
    assert told(first)["chosen"] == chosen
    assert told(first)["engine"] == "Workers(processes=2, retries=1)"
    here_are(monkeypatch, cores=1)
    second = toys.run(toys.FedAvg(), tmp_path, engine=auto(), resume=True, stop=stop)
    assert told(second)["resumed"][0]["chosen"] == chosen
    monkeypatch.setattr(MODULE, "unusable", lambda: "no fork here")
    here_are(monkeypatch, no_fork="no fork here")
    last = toys.run(toys.FedAvg(), tmp_path, engine=auto(), resume=True)
    assert told(last)["resumed"][1]["chosen"]["engine"] == "sequential"
    assert caplog.messages == [
        "auto picks workers(processes=2): 2 cores, 4 clients in a round",
        "auto keeps workers(processes=2): 2 cores, 4 clients in a round",
        "auto picks sequential: no fork here",
    ]
    assert toys.contents(last.folder) == toys.contents(toys.run(toys.FedAvg(), tmp_path / "whole").folder)


def test_what_rounds_differently_is_kept(tmp_path, monkeypatch):
    here_are(monkeypatch, cores=1, cohort=40)
    run = toys.run(toys.FedAvg(), tmp_path, engine=auto(exact=False), stop=Stop(seconds=1e-9))
    assert told(run)["chosen"]["engine"] == "vectorised"
    again = toys.run(toys.FedAvg(), tmp_path, engine=auto(), resume=True)
    assert told(again)["resumed"][0]["chosen"]["engine"] == "vectorised"


def test_an_engine_that_was_named_is_not_recorded_as_chosen(tmp_path):
    assert "chosen" not in told(toys.run(toys.FedAvg(), tmp_path, rounds=1))


def test_faults_are_those_of_any_engine(tmp_path):
    drops = Faults(drop=0.4)
    picked = toys.run(toys.Sparse(), tmp_path / "a", engine=faulty(auto(), drops))
    whole = toys.run(toys.Sparse(), tmp_path / "b", engine=faulty(sequential(), drops))
    assert "drop" in (picked.folder / "ledger.jsonl").read_text()
    assert toys.contents(picked.folder) == toys.contents(whole.folder)


def test_under_torchrun_it_is_torchrun(tmp_path):
    told_, codes = in_ranks(lambda rank: toys.run(toys.FedAvg(), tmp_path / "out", engine=auto()).summary, tmp_path)
    assert codes == [0, 0]
    assert told_["status"] == "done"
    chosen = json.loads((tmp_path / "out/run/seed0/environment.json").read_text())["chosen"]
    assert chosen == {"engine": "torchrun", "reason": "torchrun started 2 processes", "arguments": {}}


def test_its_argument_is_checked():
    with pytest.raises(FedSepError, match="exact must be True or False"):
        auto(exact="yes")
