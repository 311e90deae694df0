"""``torchrun`` gives the bits of ``sequential`` on any number of ranks; to lose one stops the run, and costs no bit."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from engines.ranks import in_ranks, variables
from engines.test_equal import METHODS
from engines.test_failures import Holey, Mistaken, outcomes
from engines.toys import FedAvg, Fleet, Remembering, Task, differences, invite, play
from train import toys

from fedsep import tree
from fedsep.cli import invoke
from fedsep.core import FedSepError
from fedsep.engines import faulty, sequential, torchrun
from fedsep.engines.faults import Faults
from fedsep.engines.together import followed
from fedsep.errors import Interrupted, LostRank, RunFailed

ROOT = Path(__file__).resolve().parents[2]


def both(rank, algorithm, fleet, lead, engine=None):
    """What rank 0 does, and the work of the others for it."""
    engine = engine or torchrun()
    try:
        return followed(engine, algorithm, Task(), fleet) if rank else lead(engine)
    except RunFailed:
        if not rank:  # to the others nothing was told of what came of it: this is no run of ``fit``
            raise
        return None


def unlike(expected, found):
    return {name: there for name in expected if (there := differences(expected[name], found[name], name))}


@pytest.mark.parametrize("count", [2, 3])
def test_every_method_gives_the_bits_of_sequential(tmp_path, count):
    fleet = Fleet()
    expected = {name: play(sequential(), method(), fleet, rounds=2) for name, method in METHODS.items()}

    def act(rank):
        found = {}
        for name, make in METHODS.items():
            method = make()
            found[name] = both(rank, method, fleet, lambda engine, m=method: play(engine, m, fleet, rounds=2))
        return rank or unlike(expected, found)

    assert in_ranks(act, tmp_path, count) == ({}, [0] * count)
    assert len(expected["odd"]["replies"]) == 2 * fleet.clients


def test_failures_are_those_of_sequential(tmp_path):
    expected = outcomes(sequential(), Mistaken())

    def act(rank):
        return both(rank, Mistaken(), Holey(clients=8), lambda engine: outcomes(engine, Mistaken()))

    found, _ = in_ranks(act, tmp_path)
    assert not differences(expected, found)


def test_fit_gives_every_rank_the_run_and_rank_0_writes_it(tmp_path):
    """Memory of clients with faults, a state that grows, evaluation of clients."""
    faults = Faults(drop=0.1, crash=0.1, late=0.1, stale=0.1, duplicate=0.1)  # corrupt ones: test_faults.py

    def act(rank):
        for name, (method, changes) in toys.METHODS.items():
            engine = faulty(torchrun(), faults)
            run = toys.run(method, tmp_path / "ranks" / name, **{**changes, "engine": engine})
            (tmp_path / f"{name} {rank}").write_text(json.dumps(run.metrics))

    told, codes = in_ranks(act, tmp_path)
    assert (told, codes) == (None, [0, 0])
    for name, (method, changes) in toys.METHODS.items():
        whole = toys.run(method, tmp_path / "whole", name=name, **{**changes, "engine": faulty(sequential(), faults)})
        [folder] = (tmp_path / "ranks" / name).glob("*/seed0")
        ledger = (folder / "ledger.jsonl").read_text()
        assert all(f'"stage": "{kind}"' in ledger for kind, rate in faults.rates.items() if rate)
        wanted, found = (_nameless(toys.contents(each)) for each in (whole.folder, folder))
        assert found == wanted
        assert (tmp_path / f"{name} 0").read_text() == (tmp_path / f"{name} 1").read_text()


def _nameless(contents):
    summary = json.loads(contents["summary"])
    return {**contents, "summary": {key: part for key, part in summary.items() if key != "method"}}


@dataclass(frozen=True)
class Mortal(toys.Sparse):
    """Ends the process of another rank than 0 in its so-manieth client's part."""

    lives: int = 12
    log: tuple[int, ...] = ()

    def update(self, payload, client, shard, ctx):
        if os.environ.get("RANK", "0") != "0":
            _parts.append(1)
            if len(_parts) > self.lives:
                os._exit(9)
        return super().update(payload, client, shard, ctx)


_parts: list[int] = []


def test_a_lost_rank_stops_the_run_which_goes_on_with_one_rank_to_the_same_bits(tmp_path, monkeypatch):
    out = tmp_path / "lost"
    told, codes = in_ranks(lambda rank: toys.run(Mortal(), out, engine=torchrun()), tmp_path)
    assert isinstance(told, LostRank)
    assert str(told).startswith("rank 1 of 2 is gone (its connection is closed); fewer ranks can go on; its checkpoint")
    assert str(told).endswith(f"is whole: fedsep resume {out / 'run/seed0'}")
    assert codes == [0, 9]
    summary = json.loads((out / "run/seed0/summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert 0 < summary["rounds"] < toys.SETTINGS["rounds"]
    for name, value in variables(0, 1).items():
        monkeypatch.setenv(name, value)
    resumed = toys.run(Mortal(), out, engine=torchrun(), resume=True)
    whole = toys.run(Mortal(), tmp_path / "whole")
    assert toys.contents(resumed.folder) == toys.contents(whole.folder)


class Ended(Mortal):
    """Before its own end it ends rank 0, as torchrun does, which may see that rank 1 is gone before rank 0 does."""

    def update(self, payload, client, shard, ctx):
        if os.environ["RANK"] != "0" and len(_parts) == self.lives:
            os.kill(int(Path("rank 0").read_text()), signal.SIGTERM)
            time.sleep(0.3)  # less than rank 0 waits to learn of it
        return super().update(payload, client, shard, ctx)


def test_a_rank_that_torchrun_ends_for_a_lost_one_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")

    def act(rank):
        if rank == 0:
            Path("rank 0").write_text(str(os.getpid()))
        try:
            return toys.run(Ended(), tmp_path / "ended", engine=torchrun())
        except Interrupted as interrupted:
            return str(interrupted)

    told, codes = in_ranks(act, tmp_path)
    said = (
        r"interrupted after round \d \(torchrun ended this process\); rank 1 of 2 is gone \(its connection is closed\)"
    )
    assert re.match(said, told)
    assert codes == [0, 9]


class Slow(FedAvg):
    def update(self, payload, client, shard, ctx):
        time.sleep(3 * (os.environ["RANK"] != "0"))
        return super().update(payload, client, shard, ctx)


def test_a_rank_that_does_not_answer_counts_as_lost(tmp_path):
    def lead(engine):
        session = engine.open(Slow(), Task(), Fleet(), lambda *_: None)
        return list(session.round(Task().init(), [invite(0, c) for c in range(3)]))

    told, _ = in_ranks(lambda rank: both(rank, Slow(), Fleet(), lead, torchrun(timeout=0.5)), tmp_path)
    assert isinstance(told, LostRank)
    assert str(told) == "rank 1 has not answered for 0.5 s; fewer ranks can go on"


class Sleepy(Remembering):
    """Still at work on another rank than 0 when nobody asks any more."""

    def update(self, payload, client, shard, ctx):
        time.sleep(0.3 * (os.environ.get("RANK", "0") != "0"))
        return super().update(payload, client, shard, ctx)


def test_a_round_that_is_not_read_to_its_end_leaves_nothing_behind(tmp_path):
    cohort, start = [invite(0, client) for client in range(7)], Task().init()
    other = tree.scale(start, 2.0)
    reference = sequential().open(Remembering(), Task(), Fleet(), lambda *_: None)
    first, second = list(reference.round(start, cohort)), list(reference.round(other, cohort))

    def lead(engine):
        session = engine.open(Sleepy(), Task(), Fleet(), lambda *_: None)
        begun = session.round(start, cohort)
        found = [next(begun) for _ in range(1)]
        begun.close()
        again = list(session.round(other, cohort))
        session.close()
        return differences(first[:1], found) + differences(second, again)

    told, _ = in_ranks(lambda rank: both(rank, Sleepy(), Fleet(), lead), tmp_path)
    assert told == []


def test_a_rank_with_other_data_is_refused(tmp_path):
    def act(rank):
        return toys.run(toys.FedAvg(), fleet=toys.Fleet(clients=7 + rank), engine=torchrun())

    told, _ = in_ranks(act, tmp_path)
    assert isinstance(told, FedSepError)
    assert str(told) == "rank 1: has something else than rank 0: clients: 7 there, 8 here"


def test_without_torchrun_it_says_what_to_type(tmp_path):
    with pytest.raises(FedSepError, match="type `torchrun --nproc-per-node 2 -m fedsep run RECIPE --engine torchrun`"):
        toys.run(toys.FedAvg(), tmp_path, engine=torchrun())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FedSepError, match="timeout must be > 0"):
        torchrun(timeout=0)


RECIPE = """
rounds: 60
data: {use: fedsep.data.digits, clients: 6, validation: 20}
model: {use: fedsep.models.mlp}
methods:
  - {use: fedsep.algorithms.topk_ef, k: 20, steps: 8, batch_size: 8}
cohort: {per_round: 4}
evaluate: {every: 20}
checkpoint: {every: 2}
engine: {use: fedsep.engines.torchrun, faults: {drop: 0.2}}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fedsep.report.write_report", lambda *_: "report.html")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    torch.set_default_dtype(torch.float32)
    return tmp_path


def test_the_command_line_under_torchrun(recipe, monkeypatch, capsys):
    """The one test that starts torchrun: rank 1 is killed, and one rank goes on."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "fedsep"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen([*command, "run", "recipe.yaml", "--out", "lost"], env=environment, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    folder = recipe / "lost/topk_ef/seed0"
    began = time.monotonic()
    while not (folder / "checkpoint/round-00000004").exists():
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() - began < 60
        time.sleep(0.01)
    os.kill(_rank_1(run.pid), 9)
    said = run.communicate(timeout=60)[0]
    assert run.returncode == 1
    assert said.count("digits: 1,418 training") == 1
    assert "rank 1 of 2 is gone (its connection is closed); fewer ranks can go on" in said
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    capsys.readouterr()
    assert invoke(["resume", "lost"]) == 2
    assert "--engine workers" in capsys.readouterr().err
    for name, value in variables(0, 1).items():
        monkeypatch.setenv(name, value)
    assert invoke(["resume", "lost", "--quiet"]) == 0
    whole = ["--engine", "{use: fedsep.engines.sequential, faults: {drop: 0.2}}", "--quiet"]
    assert invoke(["run", "recipe.yaml", "--out", "whole", *whole]) == 0
    assert toys.contents(folder) == toys.contents(recipe / "whole/topk_ef/seed0")


def _rank_1(agent):
    for status in Path("/proc").glob("[0-9]*/stat"):
        if status.read_text().rpartition(")")[2].split()[1] == str(agent):
            environment = (status.parent / "environ").read_bytes().split(b"\0")
            if b"RANK=1" in environment:
                return int(status.parent.name)
    raise AssertionError("no rank 1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--engine", "sequential"], "torchrun started 2 processes, of which fedsep.engines.sequential would use one"),
        (["--engine", "torchrun", "--jobs", "2"], "--jobs: under torchrun all processes work on one run at a time"),
    ],
)
def test_what_does_not_suit_torchrun_is_refused_before_anything_is_written(recipe, monkeypatch, capsys, words, said):
    from fedsep.cli import entry

    for name, value in variables(0, 2).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FedSepError) as refused:
        entry._carried_out(["run", "recipe.yaml", *words])  # without the other rank
    assert said in str(refused.value)
    assert [path.name for path in recipe.iterdir()] == ["recipe.yaml"]


def test_variables_that_cannot_be_right(monkeypatch):
    for name, value in {**variables(0, 2), "RANK": "first"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FedSepError, match="RANK, WORLD_SIZE and LOCAL_RANK must be whole numbers"):
        torchrun().follow(toys.FedAvg(), toys.Task(), toys.Fleet())
