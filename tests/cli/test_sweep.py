"""Sweeps choose on validation data, skip what is done, and run a method only for settings that concern it."""

from __future__ import annotations

import json
import shutil

import pytest

from fedsep.cli import invoke
from fedsep.cli.grid import parse_axis, points
from fedsep.recipes import from_tree, read
from fedsep.recipes.text import parse

RECIPE = """
name: tiny
rounds: 2
data: {use: fedsep.data.digits, clients: 3, validation: 100}
model: {use: fedsep.models.logistic}
methods:
  - {use: fedsep.algorithms.fedavg, steps: 1, batch_size: 8}
  - {use: fedsep.algorithms.fedsep_linear, p: 20, steps: 1, batch_size: 8}
evaluate: {every: 1}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    return tmp_path


def test_points():
    recipe = from_tree(parse(RECIPE, "r"), "r.yaml")
    axes = [parse_axis(text, recipe) for text in ("methods.0.lr=1e-2,0.1", "methods.fedsep_linear.p=5,[6]", "rounds=3")]
    found = {point.slug: set(point.methods) for point in points(axes, recipe)}
    assert found == {
        "fedavg.lr=0.01,rounds=3": {"fedavg"},
        "fedavg.lr=0.1,rounds=3": {"fedavg"},
        "fedsep_linear.p=5,rounds=3": {"fedsep_linear"},
        "fedsep_linear.p=[6],rounds=3": {"fedsep_linear"},
    }
    shared = points(
        [parse_axis("data.partition={use: fedsep.data.iid},{use: fedsep.data.classes, k: 2}", recipe)], recipe
    )
    assert [point.methods for point in shared] == [frozenset({"fedavg", "fedsep_linear"})] * 2
    assert len({point.slug for point in shared}) == 2
    assert [point.slug for point in points(axes[:1], recipe)][-1] == "as_it_is"
    long = points([parse_axis(f"name={'a' * 300},{'a' * 299}b", recipe)], recipe)
    assert max(len(point.slug) for point in long) <= 120
    assert len({point.slug for point in long}) == 2


def test_a_sweep_chooses_and_can_be_repeated(here, capsys):
    words = ["sweep", "tiny.yaml", "--grid", "methods.fedavg.lr=1e-6,0.5", "--grid", "methods.fedsep_linear.p=10,1e2"]
    assert invoke([*words, "--seeds", "0,1"]) == 0
    out, err = capsys.readouterr()
    assert "4 settings, 8 runs, of which 8 are to be done" in err
    assert [line.split()[1:3] for line in out.splitlines() if line.startswith(" *")] == [
        ["fedavg", "fedavg.lr=0.5"],
        ["fedsep_linear", "fedsep_linear.p=100.0"],
    ]
    found = json.loads((here / "runs/tiny_sweep/sweep.json").read_text())
    assert found["chosen"]["fedavg"]["settings"] == {"methods.fedavg.lr": 0.5}
    assert found["grid"] == {"methods.fedavg.lr": [1e-6, 0.5], "methods.fedsep_linear.p": [10, 100.0]}
    trial = found["chosen"]["fedavg"]
    summaries = [json.loads((here / folder / "summary.json").read_text()) for folder in trial["runs"]]
    assert len(summaries) == 2
    assert trial["validation"] == sum(s["metrics"]["validation_accuracy"]["best"] for s in summaries) / 2
    assert trial["test"] == sum(s["metrics"]["accuracy"]["selected"] for s in summaries) / 2

    best = read(here / "runs/tiny_sweep/best/fedavg.yaml")
    assert (list(best.methods), best.methods["fedavg"].arguments["lr"], best.seeds) == (["fedavg"], 0.5, (0, 1))

    (here / "runs/tiny_sweep/fedavg.lr=0.5/fedavg/seed1/summary.json").unlink()
    before = (here / "runs/tiny_sweep/sweep.json").read_text()
    assert invoke([*words, "--seeds", "0,1"]) == 0
    assert "4 settings, 8 runs, of which 1 are to be done" in capsys.readouterr().err
    again = json.loads((here / "runs/tiny_sweep/sweep.json").read_text())
    assert again["chosen"]["fedsep_linear"] == json.loads(before)["chosen"]["fedsep_linear"]

    assert invoke(["sweep", "tiny.yaml", "--grid", "methods.fedavg.lr=1e-6,0.5", "--set", "rounds=3"]) == 2
    assert "holds a run of another recipe (rounds: 2 there, 3 here)" in capsys.readouterr().err


def test_nothing_is_chosen_while_a_run_is_not_over(here, capsys, monkeypatch):
    words = ["sweep", "tiny.yaml", "--grid", "methods.fedavg.lr=1e-6,0.5", "--out", "s"]
    assert invoke(words) == 0
    assert (here / "s/best/fedavg.yaml").is_file()
    file = here / "s/fedavg.lr=0.5/fedavg/seed0/summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"status": "interrupted"}))
    monkeypatch.setattr("fedsep.cli.sweep.carry_out", lambda *rest, **more: 0)  # as if it had died once more
    capsys.readouterr()
    assert invoke(words) == 1
    assert "fedavg: nothing is chosen: not all of its runs are over" in capsys.readouterr().err
    assert "fedavg" not in json.loads((here / "s/sweep.json").read_text())["chosen"]
    assert not (here / "s/best/fedavg.yaml").exists()


def test_replies_that_failed_are_told_beside_a_setting(here, capsys):
    words = ["sweep", "tiny.yaml", "--grid", "methods.fedavg.lr=0.5", "--out", "s"]
    assert invoke(words) == 0
    file = here / "s/fedavg.lr=0.5/fedavg/seed0/summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"failures": 3}))
    capsys.readouterr()
    assert invoke(words) == 0
    assert "3 replies failed" in " ".join(capsys.readouterr().out.split())
    [trial] = json.loads((here / "s/sweep.json").read_text())["points"]["fedavg"]
    assert trial["failed_replies"] == 3


def test_diverging_settings_are_not_chosen_nor_tried_again(here, capsys):
    words = ["sweep", "tiny.yaml", "--grid", "methods.fedavg.lr=1e308,0.1", "--out", "s"]
    assert invoke(words) == 0
    assert json.loads((here / "s/sweep.json").read_text())["chosen"]["fedavg"]["settings"] == {"methods.fedavg.lr": 0.1}
    assert "failed" in capsys.readouterr().out
    assert invoke(words) == 0
    assert "of which 0 are to be done" in capsys.readouterr().err
    assert invoke(["sweep", "tiny.yaml", "--grid", "methods.fedavg.lr=1e308", "--out", "t"]) == 1


def test_test_data_are_not_for_choosing(capsys):
    assert invoke(["sweep", "tiny.yaml", "--grid", "rounds=1", "--select", "test"]) == 2
    assert "settings are never chosen on test data" in capsys.readouterr().err


def test_a_point_that_cannot_be_built_is_found_before_any_work(here, capsys):
    assert invoke(["sweep", "tiny.yaml", "--grid", "methods.fedsep_linear.p=10,1000000,2000000"]) == 2
    err = capsys.readouterr().err
    assert [line.partition(": ")[0] for line in err.splitlines()] == [
        "--grid methods.fedsep_linear.p=1000000",
        "--grid methods.fedsep_linear.p=2000000",
    ]
    assert not (here / "runs").exists()


def test_a_sweep_keeps_out_of_a_folder_that_is_not_its_own(here, capsys):
    words = ["sweep", "tiny.yaml", "--grid", "methods.fedavg.lr=0.1", "--set", "rounds=1", "--out", "s", "-q"]
    (here / "s").mkdir()
    (here / "s/thesis.tex").touch()
    for swept in (None, {"recipe": "other.yaml"}):
        if swept:
            (here / "s/sweep.json").write_text(json.dumps(swept))
        assert invoke(words) == 2
        assert capsys.readouterr().err == (
            "s is not empty and holds nothing of this sweep: choose another folder with --out, or sweep into it with "
            "--overwrite\n"
        )
    assert invoke([*words, "--overwrite"]) == 0
    run = here / "s/fedavg.lr=0.1/fedavg/seed0"
    first = (run / "summary.json").stat().st_mtime_ns
    assert invoke(words) == 0
    assert (run / "summary.json").stat().st_mtime_ns == first
    assert invoke([*words, "--overwrite", "--set", "rounds=2"]) == 0
    assert json.loads((run / "summary.json").read_text())["rounds"] == 2
    assert (here / "s/thesis.tex").exists()
    capsys.readouterr()
    shutil.rmtree(here / "s/as_it_is")
    words[3] = "methods.fedavg.lr=0.2"
    assert invoke(words) == 0  # another grid of the same recipe may join
    (here / "s/sweep.json").unlink()  # as after a sweep that was interrupted
    words[3] = "methods.fedavg.lr=0.3"
    assert invoke(words) == 0
    (here / "t").mkdir()
    (here / "t/.hidden").touch()
    words[words.index("s")] = "t"
    assert invoke(words) == 0


def test_a_folder_that_cannot_be_swept_into_is_refused(here, capsys):
    assert invoke(["sweep", "tiny.yaml", "--grid", "rounds=1", "--out", "tiny.yaml"]) == 2
    assert capsys.readouterr().err == "--out: tiny.yaml cannot be written (File exists)\n"


def test_the_help_names_the_folder_that_is_used(capsys):
    assert invoke(["sweep", "--help"]) == 0
    words = "".join(letter for letter in capsys.readouterr().out if not letter.isspace() and letter != "│")
    assert "default:runs/RECIPE_sweep)" in words
