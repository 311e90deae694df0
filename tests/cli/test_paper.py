"""``fedsep paper`` from end to end at the scale ``smoke``, interrupted and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fedsep.cli import invoke, probe
from fedsep.cli.estimate import Durations
from fedsep.cli.plan import Job
from fedsep.cli.probe import Probes
from fedsep.paper.lines import LINES


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(folder, figure):
    command = [sys.executable, "-m", "fedsep", "paper", figure, "--scale", "smoke"]
    # a shell that runs tests in the background lets its children ignore Ctrl-C
    heed = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    )


def finished(folder):
    found = {path: path.stat().st_mtime_ns for path in Path(folder).rglob("summary.json")}
    return {path: at for path, at in found.items() if json.loads(path.read_text())["status"] == "done"}


def wait_until(condition, process, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow  # by default the ablations, below, are interrupted and gone on with
def test_figure_2_is_killed_gone_on_with_and_drawn(here, capsys):
    out = here / "runs/paper/fig2_smoke"
    killed = start(here, "fig2")
    wait_until(lambda: (out / "iid/any_p").is_dir() and len(finished(out / "iid/any_p")) > 0, killed)
    killed.kill()
    killed.communicate(timeout=60)
    before = finished(here)
    whole = start(here, "fig2")
    told, err = whole.communicate(timeout=600)
    assert whole.returncode == 0, err
    assert before.items() <= finished(here).items()
    assert "runs left, about" in err
    shown = {line.name for line in LINES}
    assert {path.name for path in out.glob("*/p50/*") if path.is_dir()} | {"fedavg"} >= shown - {"fedsep_lasso_srht"}
    picture = (out / "fig2.svg").read_text()
    assert all(f">{line.label}<" in picture for line in LINES if line.name != "fedsep_lasso_srht")
    assert "FedSep quantised (ours)" in told
    assert {path.name for path in out.glob("fig2*")} == {"fig2.csv", "fig2.html", "fig2.svg", "fig2_training.svg"}
    tuned = json.loads((out / "k2/tuning/sweep.json").read_text())
    assert tuned["select"] == "validation"
    assert tuned["recipe"].endswith("paper/fig2.yaml")
    for folder in out.glob("k2/p10/fedavg*/seed0"):
        assert "lr: " in (folder / "recipe.yaml").read_text()

    pictures = {path: path.read_bytes() for path in out.glob("fig2*")}
    all_done = finished(here)
    assert invoke(["paper", "fig2", "--scale", "smoke"]) == 0
    assert "of which 0 are to be done" in capsys.readouterr().err
    assert finished(here) == all_done
    assert {path: path.read_bytes() for path in out.glob("fig2*")} == pictures


def test_a_dry_run_tells_bytes_and_time_and_writes_nothing(here, capsys):
    assert invoke(["paper", "fig3", "--scale", "smoke", "--dry-run"]) == 0
    out = capsys.readouterr().out
    rows = {tuple(line.split()[:2]): line for line in out.splitlines() if "runs/paper/fig3_smoke" in line}
    assert "9,680 B" in rows["runs/paper/fig3_smoke/iid/any_p", "fedavg"]  # 1,210 numbers in double precision
    assert "17 B" not in rows["runs/paper/fig3_smoke/iid/any_p", "fedavg"]
    assert rows["runs/paper/fig3_smoke/k2/p50", "fedsep_linear"].split()[4:8] == ["400", "B", "400", "B"]
    assert (
        "for what is left, tuning included. Times rest on 2 rounds of one client of every method at p = 50: a larger p"
        in out
    )
    assert list(here.iterdir()) == []


def test_ablations_are_interrupted_and_gone_on_with(here, capsys):
    stopped = start(here, "ablation")
    wait_until(lambda: len(finished(here)) >= 2, stopped)
    stopped.send_signal(signal.SIGINT)
    _, err = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, err
    assert "fedsep paper ablation --scale smoke --out runs/paper/ablation_smoke goes on with the figure" in err
    before = finished(here)
    assert 2 <= len(before) < 12

    torch.set_default_dtype(torch.float32)  # as in the process: it may have been in the middle of a run
    assert invoke(["paper", "ablation", "--scale", "smoke"]) == 0
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if "of 5 learning steps" in line]
    assert [line.split("steps")[1].split()[0] for line in rows] == ["1", "2", "5"]
    assert out.count("(recipe)") == 6
    folder = here / "runs/paper/ablation_smoke"
    written = {path.name for path in folder.iterdir() if path.is_file()}
    assert written == {"ablation.csv", "ablation.html", "ablation.svg"}
    assert len(finished(here)) == 12
    assert before.items() <= finished(here).items()
    private = (folder / "sketch/private/fedsep_lasso/seed0/recipe.yaml").read_text()
    assert "private: true" in private
    assert "decodes: 5" in (folder / "decodes/5/fedsep_lasso/seed0/recipe.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fig4"], "paper: there are fig2, fig3, ablation, table1 (got 'fig4'; did you mean fig"),
        (["abblation"], "did you mean ablation?"),
        (["fig2", "--scale", "smal"], "--scale: there are smoke, small, paper (got 'smal'; did you mean small?)"),
        (["fig2", "--scale", "xx"], "--scale: there are smoke, small, paper (got 'xx')"),
        (["fig2", "--engine", "wrkers"], "fedsep.engines.wrkers"),
        (["fig2", "--data-dir", "nowhere"], "--data-dir: there is no folder nowhere"),
    ],
)
def test_bad_input(here, capsys, words, told):
    assert invoke(["paper", *words]) == 2
    assert told in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_a_folder_of_other_runs_is_refused(here, capsys):
    folder = here / "there/beta/0.01/fedsep_lasso/seed0"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("rounds: 7\n")
    assert invoke(["paper", "ablation", "--scale", "smoke", "--out", "there"]) == 2
    assert "holds a run of another recipe" in (err := capsys.readouterr().err)
    assert "rounds: 7 there, 1 here" in err
    assert [path for path in here.rglob("*") if path.is_file()] == [folder / "recipe.yaml"]


def test_estimates_use_what_is_nearest():
    durations = Durations({("p = 10", "a"): [1.0, 3.0], ("p = 10", "b"): [10.0]})
    assert durations.tell(("p = 10", "a")) == 2.0
    assert durations.tell(("p = 50", "b")) == 10.0
    assert durations.tell(("p = 50", "c")) == pytest.approx(14 / 3)
    assert durations.left([("p = 10", "a"), ("p = 50", "b")]) == 12.0
    assert Durations().left([("p = 10", "a")]) is None


def test_a_dry_run_times_a_method_at_one_p_and_believes_finished_runs_more(here, monkeypatch):
    timed, whole = [], probe._pace
    monkeypatch.setattr(probe, "_pace", lambda *arguments: timed.append(arguments[2:]) or whole(*arguments))
    assert invoke(["paper", "fig3", "--scale", "smoke", "--dry-run", "-q"]) == 0
    assert sorted(timed) == sorted((line.name, 50 if line.follows_p else None) for line in LINES if line.where(50))
    one = SimpleNamespace(kind=lambda job: ("p = 10", job.method), recipe=None)
    known = Probes(done=Durations({("p = 10", "a"): [1.0, 3.0]}))
    assert known.of(one, Job("a", 0, Path("a"))) == 2.0
    assert known.rest_on().startswith(
        "Times rest on 2 finished runs, and for what has none like it, on 2 rounds of one client"
    )


def test_durations_are_those_of_training_and_evaluation(tmp_path):
    folder = tmp_path / "m/seed0"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"round": 1, "wall_seconds": 2.5, "wall_evaluation_seconds": 0.5}\n')
    durations = Durations()
    durations.see(("k", "m"), Job("m", 0, folder))
    assert durations.tell(("k", "m")) == 3.0
