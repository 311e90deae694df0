import json
import math
import statistics

import pytest
from report.synthetic import write_run

from fedsep.report import cells, compare, find_runs, read_run
from fedsep.report.wording import bytes_text, seconds_text, with_spread


def rows_of(path, **options):
    return compare([read_run(folder) for folder in find_runs(path)], **options)


def test_figures_are_mean_and_sample_standard_deviation_over_seeds(tmp_path):
    folders = [write_run(tmp_path, "fedavg", seed, rounds=20) for seed in range(3)]
    told = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    (row,) = rows_of(tmp_path)
    last = [one["metrics"]["accuracy"]["last"] for one in told]
    assert row["last"]["mean"] == pytest.approx(statistics.fmean(last))
    assert row["last"]["std"] == pytest.approx(statistics.stdev(last))
    assert (row["seeds"], row["counted"], row["status"], row["metric"]) == ([0, 1, 2], 3, {"done": 3}, "accuracy")
    assert row["bytes_up"]["mean"] == row["bytes_down"]["mean"] == 96_936
    assert row["payload_bytes"]["mean"] == 2 * 96_936 * 10 * 20
    assert row["header_bytes"]["mean"] == 32 * 2 * 10 * 20


def test_an_unfinished_run_is_computed_as_its_summary_would_be(tmp_path):
    write_run(tmp_path / "done", rounds=20, failures=2)
    write_run(tmp_path / "going", rounds=20, failures=2, status=None)
    (done,), (going,) = rows_of(tmp_path / "done"), rows_of(tmp_path / "going")
    for name in ("last", "best", "mean_last", "selected", "bytes_up", "bytes_down", "payload_bytes", "seconds"):
        assert going[name]["mean"] == pytest.approx(done[name]["mean"]), name
    assert going["status"] == {"unfinished": 1}


def test_runs_that_are_not_done_do_not_count_beside_those_that_are(tmp_path):
    write_run(tmp_path, seed=0, rounds=20)
    write_run(tmp_path, seed=1, rounds=5, planned=20, status="failed")
    (row,) = rows_of(tmp_path)
    assert (row["runs"], row["counted"], row["rounds"]["mean"]) == (2, 1, 20)
    assert row["last"]["std"] is None


def test_levels_tell_the_first_evaluation_that_reaches_them(tmp_path):
    folder = write_run(tmp_path, rounds=20)
    rows = [{"round": at, "test_accuracy": at / 20, "bytes_up": 10 * at, "bytes_down": 30 * at} for at in range(1, 21)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (row,) = rows_of(tmp_path, levels=[0.5, 0.975, 1.1])
    half, high, never = row["levels"]
    assert (half["rounds"]["mean"], half["bytes"]["mean"], half["reached"]) == (10, 400, 1)
    assert high["rounds"]["mean"] == 20
    assert never["reached"] == 0
    assert cells([row])[0]["to 0.5"] == "10 rounds, 400 B"
    assert cells([row])[0]["to 1.1"] == "not reached"


def test_an_error_metric_is_reached_from_above(tmp_path):
    write_run(tmp_path, rounds=40, metric="mse", final=0.9)
    (row,) = rows_of(tmp_path)
    assert (row["metric"], row["higher_is_better"]) == ("mse", False)
    assert row["best"]["mean"] <= row["levels"][0]["level"] == 0.2


def test_chosen_levels_are_reached_by_every_seed_of_the_method_that_sets_them(tmp_path):
    for seed in range(3):
        write_run(tmp_path, "good", seed, rounds=60, final=0.96)
        write_run(tmp_path, "poor", seed, rounds=60, final=0.7)
    good, poor = rows_of(tmp_path)
    easy, hard = good["levels"]
    assert easy["level"] < hard["level"]
    assert good["levels"][1]["reached"] == 3
    assert [level["reached"] for level in poor["levels"]] == [3, 0]


def test_values_that_are_not_finite_are_left_out_and_the_figure_says_so(tmp_path):
    for seed in range(3):
        folder = write_run(tmp_path, seed=seed, rounds=20)
        if seed == 2:
            told = json.loads((folder / "summary.json").read_text())
            told["metrics"]["accuracy"]["last"] = math.nan
            (folder / "summary.json").write_text(json.dumps(told))
    (row,) = rows_of(tmp_path)
    assert row["last"]["n"] == 2
    assert math.isfinite(row["last"]["mean"])
    assert cells([row])[0]["last"].endswith("(2 of 3)")


def test_a_run_without_evaluation_has_no_figures_but_bytes(tmp_path):
    write_run(tmp_path, rounds=3, every=0, status=None)
    (row,) = rows_of(tmp_path)
    assert (row["metric"], row["last"]["n"], row["levels"]) == (None, 0, [])
    assert row["bytes_up"]["mean"] == 96_936
    assert "last" not in cells([row])[0]


def test_cells_name_the_metric_only_where_metrics_differ(tmp_path):
    write_run(tmp_path, "a", rounds=10)
    assert "metric" not in cells(rows_of(tmp_path))[0]
    write_run(tmp_path, "b", rounds=10, metric="mse")
    assert [cell["metric"] for cell in cells(rows_of(tmp_path))] == ["accuracy", "mse"]


def test_rows_are_json(tmp_path):
    write_run(tmp_path, rounds=5)
    assert json.loads(json.dumps(rows_of(tmp_path)))[0]["method"] == "fedavg"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0 B"), (2000, "2,000 B"), (1234.5, "1,234.5 B"), (96_936, "96.9 kB"), (999_600, "1.00 MB")],
)
def test_bytes_are_readable(value, text):
    assert bytes_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.42, "0.42 s"), (58.26, "58.3 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (99.7, "1 min 40 s")],
)
def test_seconds_are_readable(value, text):
    assert seconds_text(value) == text


def test_a_spread_has_the_means_decimals_and_its_unit_once():
    assert with_spread("20.1 s", "0.18 s") == "20.1 ± 0.2 s"
    assert with_spread("0.9755", "8.6e-05") == "0.9755 ± 8.6e-05"
    assert with_spread("4.00 MB", "2,000 B") == "4.00 MB ± 2,000 B"
    assert with_spread("3 min 20 s", "2.00 s") == "3 min 20 s ± 2.00 s"
