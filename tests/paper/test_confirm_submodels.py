"""The winner against its rivals: runs of the table are used, the others are made, differences are paired."""

import dataclasses
import json

import pytest

from fedsep.core import FedSepError
from fedsep.paper.table1.rows import OURS, ROWS
from fedsep.paper.table1.scales import SCALES

SMOKE = dataclasses.replace(SCALES["smoke"].settings[0], variants=False)


@pytest.fixture
def confirm(monkeypatch, tmp_path):
    from benchmarks import confirm_submodels as module

    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("SCALE", SCALES["smoke"]),
        ("SETTINGS", {SMOKE.name: SMOKE}),
        ("SEEDS", (0, 1)),
        ("RIVALS", ("heterofl", "full_size_only")),
        ("RUNS", tmp_path / "table"),
        ("MORE", tmp_path / "more"),
        ("RECORD", tmp_path / "confirmed.json"),
    ):
        monkeypatch.setattr(module, name, value)
    return module


def test_ours_is_one_row_and_says_so():
    from benchmarks import confirm_submodels, heterogeneity

    assert [row.name for row in ROWS if "(ours)" in row.label] == [OURS]
    assert next(row for row in ROWS if row.name == OURS).main
    assert confirm_submodels.OURS is heterogeneity.OURS is OURS
    assert heterogeneity.DRAWN[0] == OURS


def test_students_interval(confirm):
    found = confirm.interval([0.1, 0.2, 0.3, 0.4, 0.5])
    assert found["mean"] == pytest.approx(0.3)
    half = 2.776445 * (0.025**0.5) / 5**0.5  # the .975 quantile with 4 degrees of freedom
    assert (found["low"], found["high"]) == pytest.approx((0.3 - half, 0.3 + half), rel=1e-6)


def test_runs_of_the_table_are_used_and_differences_are_of_one_seed(confirm, tmp_path, capsys):
    from fedsep.cli.carry_out import How
    from fedsep.cli.options import Talk
    from fedsep.recipes import Sources

    assert confirm.confirmed_table() == "Not run yet."
    arguments = [SMOKE.name], "importance", How(Sources()), Talk(quiet=True)
    assert confirm.confirm(*arguments) == 0
    made = {str(path.parent.relative_to(tmp_path / "more")) for path in (tmp_path / "more").rglob("summary.json")}
    rows = ("importance", "heterofl", "full_size_only")
    assert made == {f"digits_k2/all/{row}/seed{seed}" for row in rows for seed in (0, 1)}

    # The table comes to have a run: it counts, and nothing is run again.
    ours, here = tmp_path / "table/digits_k2/all/heterofl", tmp_path / "more/digits_k2/all/heterofl"
    ours.mkdir(parents=True)
    (here / "seed0").rename(ours / "seed0")
    summary = json.loads((ours / "seed0/summary.json").read_text())
    summary["metrics"]["served_accuracy"]["mean_last"] = 0.125
    (ours / "seed0/summary.json").write_text(json.dumps(summary))
    assert confirm.confirm(*arguments) == 0
    assert not (here / "seed0").exists()
    told = json.loads((tmp_path / "confirmed.json").read_text())["settings"][SMOKE.name]
    assert (told["ours"], told["seeds"]) == ("importance", [0, 1])
    served = {row: own["served"] for row, own in told["each"].items()}
    assert served["heterofl"][0] == 0.125
    pairs = [a - b for a, b in zip(served["importance"], served["heterofl"], strict=True)]
    assert told["ahead"]["heterofl"]["served"] == confirm.interval(pairs)
    assert set(told["ahead"]) == {"heterofl", "full_size_only"}
    text = confirm.confirmed_table()
    assert f"| {SMOKE.words} | HeteroFL, importance-weighted (ours) | 2 | " in text
    assert "with the whole interval above 0: in 0 of 1 settings." in text

    # A run that has failed, or lost replies, is no figure.
    for changed in ({"status": "failed"}, {"failures": 3}):
        (ours / "seed0/summary.json").write_text(json.dumps(summary | changed))
        with pytest.raises(FedSepError, match=r"the run is (failed|done), and \d of its replies failed"):
            confirm._mean_of_last(ours / "seed0", "served")


def test_a_verdict_needs_every_rival_in_the_whole_interval(confirm):
    def one(*lows):
        return {"ahead": {str(at): {"served": {"low": low}} for at, low in enumerate(lows)}}

    found = confirm._verdict({"a": one(0.1, 0.2), "b": one(0.1, -0.1)})
    assert found.endswith("in 1 of 2 settings; 1 not run yet.")


def test_rates_that_are_not_chosen_and_rows_that_are_not_there(confirm, tmp_path):
    tuned = dataclasses.replace(SCALES["smoke"], settings=(dataclasses.replace(SMOKE, tries=(0.1, 0.2)),))
    with pytest.raises(FedSepError, match=r"sweep\.json is missing: learning rates are chosen by python -m benchmarks"):
        confirm.find(tuned, "importance", tmp_path / "table", tmp_path / "more")
    with pytest.raises(FedSepError, match=r"--ours: there are feddf, .* \(got 'importanec'\)"):
        confirm.find(tuned, "importanec", tmp_path / "table", tmp_path / "more")
