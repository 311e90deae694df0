"""``--jobs``: several runs at a time, each in a process of its own, with the bits of one after the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread

import pytest

from fedsep.cli import invoke
from fedsep.cli.carry_out import How, Todo
from fedsep.cli.hand import Setting, serve
from fedsep.cli.plan import plan
from fedsep.recipes import Sources, read
from fedsep.recipes.text import parse

ROOT = Path(__file__).resolve().parents[2]

RECIPE = """
rounds: 3
data: {use: fedsep.data.digits, clients: 3, validation: 20}
model: {use: fedsep.models.logistic}
methods:
  - {use: fedsep.algorithms.fedavg, steps: 1, batch_size: 8}
  - {use: fedsep.algorithms.fedsep_linear, p: 20, steps: 1, batch_size: 8}
engine: {use: fedsep.engines.workers, processes: 2}
evaluate: {every: 1}
checkpoint: {every: 1}
"""

MINE = """
import multiprocessing, os
from fedsep import algorithms
from fedsep.core import FedSepError

def fedavg(task, *, ends: str):
    if multiprocessing.parent_process() is not None:
        if ends == "killed":
            os.kill(os.getpid(), 9)
        if ends == "refused":
            raise FedSepError("not in a process")
    return algorithms.fedavg(task, lr=1e308 if ends == "failed" else 0.1, steps=1, batch_size=8)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder with a recipe in it; the report, which takes seconds to draw, is left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fedsep.report.write_report", lambda paths, to: Path(to) / "report.html")
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path


def numbers(folder):
    """All that a run computed: its model, its bytes, its scores, without times."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    scores = [{name: value for name, value in row.items() if not name.startswith("wall_")} for row in rows]
    return (folder / "model.safetensors").read_bytes(), (folder / "ledger.jsonl").read_bytes(), scores


def runs_of(out):
    return {str(path.relative_to(out)): numbers(path) for path in sorted(out.glob("*/seed*"))}


def test_a_recipe_runs_with_the_same_bits(here, capsys):
    assert invoke(["run", "tiny.yaml", "--seeds", "0,1", "--out", "one", "-q"]) == 0
    assert invoke(["run", "tiny.yaml", "--seeds", "0,1", "--out", "two", "--jobs", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(runs_of(here / "one")) == 4
    assert runs_of(here / "one") == runs_of(here / "two")
    assert {json.loads(line)["run"] for line in out.splitlines()} == {
        f"two/{method}/seed{seed}" for method in ("fedavg", "fedsep_linear") for seed in (0, 1)
    }
    assert err.count("digits: 1,418 training") == 1
    assert "two/fedavg/seed1 · round 3/3" in err
    assert [
        parse((here / out / "fedavg/seed0/recipe.yaml").read_text(), "recipe")["engine"]["use"]
        for out in ("one", "two")
    ] == ["fedsep.engines.workers", "fedsep.engines.sequential"]


def test_what_ends_badly_does_not_stop_the_others(here, capsys, monkeypatch):
    monkeypatch.syspath_prepend(here)
    (here / "mine.py").write_text(MINE)
    block = "{{use: mine.fedavg, name: {0}, ends: {0}}}"
    methods = ", ".join(block.format(name) for name in ("failed", "killed", "well", "better"))
    words = ["--allow", "mine", "--jobs", "2"]
    assert invoke(["run", "tiny.yaml", "--set", f"methods=[{methods}]", "--out", "r", *words]) == 1
    err = capsys.readouterr().err
    assert "r/failed/seed0: round 1: " in err
    assert "r/killed/seed0: worker process died (signal 9, SIGKILL" in err
    assert json.loads((here / "r/failed/seed0/summary.json").read_text())["status"] == "failed"
    assert not (here / "r/killed").exists()
    assert all((here / f"r/{name}/seed0/model.safetensors").exists() for name in ("well", "better"))


def test_a_mistake_ends_them_all(here, capsys, monkeypatch):
    monkeypatch.syspath_prepend(here)
    (here / "mine.py").write_text(MINE)
    methods = "methods=[{use: mine.fedavg, name: a, ends: refused}, {use: mine.fedavg, name: b, ends: refused}]"
    assert invoke(["run", "tiny.yaml", "--set", methods, "--allow", "mine", "--jobs", "2"]) == 2
    err = capsys.readouterr().err
    assert err.splitlines()[-1].endswith((": methods.a: not in a process", ": methods.b: not in a process"))


def test_an_error_of_the_program_comes_with_its_traceback(here, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("the roof is on fire")

    monkeypatch.setattr("fedsep.train.fit", broken)
    monkeypatch.setattr("warnings.showwarning", warnings.showwarning)  # which the process sets for itself
    recipe = read(here / "tiny.yaml")
    ours, theirs = Pipe()
    process = Thread(target=serve, args=(theirs, Setting.here(), How(Sources())))
    process.start()
    ours.send(Todo(recipe, plan(recipe, here / "r")[0]))
    described, refused = ours.recv(), ours.recv()
    ours.close()
    process.join()
    theirs.close()
    assert described.text.startswith("digits: ")
    assert refused.text == "RuntimeError: the roof is on fire"
    assert "in broken" in refused.trace


def start(*words):
    """The program, heeding Ctrl-C, which a shell in the background has its children ignore."""
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from fedsep.cli import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", program, *words], env=environment, stderr=subprocess.PIPE, text=True)


LONG = ["run", "tiny.yaml", "--set", "rounds=200000", "--set", "checkpoint.every=100000", "--out", "r", "--jobs", "2"]


def both_are_running(process):
    seen = set()
    assert process.stderr is not None
    for line in process.stderr:
        seen |= {name for name in ("fedavg", "fedsep_linear") if f"r/{name}/seed0 · round" in line}
        if len(seen) == 2:
            return
    raise AssertionError(seen)


def test_ctrl_c_saves_every_run_and_all_go_on(here, capsys):
    with start(*LONG) as process:
        both_are_running(process)
        process.send_signal(signal.SIGINT)
        left = process.stderr.read()
    assert process.returncode == 130, left
    for name in ("fedavg", "fedsep_linear"):
        assert f"r/{name}/seed0: interrupted after round" in left
        assert f"is whole: fedsep resume r/{name}/seed0" in left
        summary = json.loads((here / f"r/{name}/seed0/summary.json").read_text())
        assert (summary["status"], summary["rounds"] > 0) == ("interrupted", True)
    assert left.splitlines()[-1] == "fedsep resume r goes on with all that is left"
    assert "Traceback" not in left


@pytest.mark.slow
def test_runs_whose_starter_is_killed_are_interrupted_not_failed(here):
    with start(*LONG) as process:
        both_are_running(process)
        process.kill()
    files = [here / f"r/{name}/seed0/summary.json" for name in ("fedavg", "fedsep_linear")]
    until = time.monotonic() + 60
    while not all(file.exists() for file in files):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert [json.loads(file.read_text())["status"] for file in files] == ["interrupted"] * 2


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("fedsep.cli.run", ["run", "tiny.yaml"]),
        ("fedsep.cli.sweep", ["sweep", "tiny.yaml", "--grid", "methods.fedavg.lr=0.1,0.5"]),
        ("fedsep.cli.cells", ["paper", "ablation", "--scale", "smoke"]),
    ],
)
def test_commands_hand_over_all_their_runs_and_how_many_at_a_time(here, monkeypatch, module, words):
    given = []

    def carry_out(screen, todo, how, *_, **__):
        given.append((len(todo), how.jobs, {one.recipe.engine.use for one in todo}))
        raise KeyboardInterrupt

    monkeypatch.setattr(f"{module}.carry_out", carry_out)
    assert invoke([*words, "-j", "3"]) == 130
    assert [(jobs, engines) for _, jobs, engines in given] == [(3, {"fedsep.engines.sequential"})]
    assert given[0][0] >= 2
    given.clear()
    assert invoke([*words, "-j", "3", "--engine", "workers", "--out", "other"]) == 130
    assert given[0][2] == {"fedsep.engines.workers"}


def test_no_job_at_all_is_a_mistake(capsys):
    assert invoke(["run", "tiny.yaml", "--jobs", "0"]) == 2
    assert "--jobs" in capsys.readouterr().err
