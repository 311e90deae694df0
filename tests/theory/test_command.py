"""``fedsep theory``: resumable, one page, and mistakes are messages."""

import json
import math

import pytest

import fedsep.cli.theory as command
from fedsep.cli import invoke
from fedsep.recipes import find
from fedsep.theory import Check, Finding, Line, Picture
from fedsep.theory.page import theory_page
from fedsep.theory.record import deviation, verdict


def test_experiments_are_run_once_and_give_a_page(tmp_path, capsys):
    assert invoke(["theory", "--only", "drift", "--only", "hypergradient", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "1/2 · drift · seed 0" in said.err
    assert "holds" in said.out
    record = json.loads((tmp_path / "theory.json").read_text())
    assert list(record["experiments"]) == ["drift", "hypergradient"]
    text = (tmp_path / "theory.html").read_text()
    assert text.count("<svg") == 1
    assert "http://" not in text
    assert "https://" not in text
    assert "<script" not in text
    before = (tmp_path / "theory.json").read_bytes()
    assert invoke(["theory", "--only", "drift", "--out", str(tmp_path)]) == 0
    assert "has 1 of 1 already" in capsys.readouterr().err
    assert (tmp_path / "theory.json").read_bytes() == before
    assert theory_page(record) == text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--only", "drft"], "did you mean drift?"),
        (["theory/huge"], "no shipped recipe of this name"),
        (["quickstart"], "quickstart.yaml: theory: is missing"),
        (
            ["--set", "theory.drows=7"],
            "--set theory.drows=7: theory.drows: theory has no such key (got 7; did you mean draws?)",
        ),
        (["--set", "theory.draws=1"], "theory.draws: must be >= 64 (got 1)"),
        (["--set", "theory.horizons=[16, 4]"], "theory.horizons: must be at least two numbers, increasing"),
        (["--set", "theory.seeds=[1, 1]"], "theory.seeds: must be different seeds"),
        (["--set", "rounds=2"], "rounds: is no part of such a recipe (got 2)"),
    ],
)
def test_mistakes_are_messages(tmp_path, capsys, words, told):
    assert invoke(["theory", *words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"scale": "full", "experiments": {}}'])
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, capsys, text):
    (tmp_path / "theory.json").write_text(text)
    assert invoke(["theory", "--only", "drift", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "--overwrite" in said
    assert (tmp_path / "theory.json").read_text() == text


def wrong(scale, seed):
    """A prediction that fails."""
    checks = [
        Check("one", "equals", 1.0, 1.1),
        Check("two", "at most", 1.0, 2.0),
        Check("three", "reported", math.nan, 1.0),
    ]
    return Finding(checks, [Picture("<b>", "x & y", [Line("measured", [1, 2], [1.0, math.nan])])])


def test_a_prediction_that_fails_is_named_and_the_exit_code_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "EXPERIMENTS", (wrong,))
    assert invoke(["theory", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "wrong: does not hold: one" in said.err
    assert "wrong: does not hold: two" in said.err
    assert "three" not in said.err
    assert "2 fail" in said.out
    assert "&lt;b&gt;" in (tmp_path / "theory.html").read_text()
    entry = json.loads((tmp_path / "theory.json").read_text())["experiments"]["wrong"]
    found = verdict(entry)
    assert found["failed"] == ["one", "two"]
    assert found["share"] == 2
    assert found["deviation"] == pytest.approx(0.1 / 1e-9)


def test_checks():
    assert Check("", "equals", 1.0, 1.3, error=0.1).holds
    assert not Check("", "equals", 1.0, 1.5, error=0.1).holds
    assert Check("", "equals", 2.0, 2.1, tolerance=0.06).holds
    assert not Check("", "equals", 2.0, 2.1, tolerance=0.04).holds
    assert Check("", "at most", 1.0, 1.0).holds
    assert not Check("", "at most", 1.0, 1.01).holds
    assert not Check("", "at most", 1.0, math.nan).holds
    assert not Check("", "equals", 1.0, math.inf, error=math.inf).holds
    assert deviation(Check("", "equals", 1.0, math.nan).record()) == math.inf


def test_a_recipe_of_ones_own_says_how_much_is_measured(tmp_path, capsys):
    text = find("theory/smoke").read_text().replace("seeds: [0]", "seeds: [3, 4]").replace("draws: 1024", "draws: 64")
    (tmp_path / "mine.yaml").write_text(text)
    assert invoke(["theory", str(tmp_path / "mine.yaml"), "--only", "drift", "--out", str(tmp_path / "out")]) == 0
    assert "2/2 · drift · seed 4" in capsys.readouterr().err
    record = json.loads((tmp_path / "out/theory.json").read_text())
    assert record["scale"]["draws"] == 64
    assert "draws: 64" in (tmp_path / "out/theory.html").read_text()
    assert invoke(["theory", "--only", "drift", "--out", str(tmp_path / "out")]) == 2
    assert "draws: 64" in capsys.readouterr().err


def test_other_commands_know_such_a_recipe(capsys):
    assert invoke(["check", "theory/full"]) == 0
    assert "conditions: [2, 4, 8, 16]" in capsys.readouterr().out
    assert invoke(["check", "theory/full", "--set", "theory.replicates=0"]) == 2
    assert "theory.replicates: must be >= 2 (got 0)" in capsys.readouterr().err
    assert invoke(["run", "theory/full"]) == 2
    assert "this is a recipe of fedsep theory" in capsys.readouterr().err
