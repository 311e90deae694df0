"""The byte frontier against run folders whose figures are written by hand."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest
from report.synthetic import write_run

from fedsep.cli import invoke
from fedsep.core import FedSepError
from fedsep.report import find_runs, read_run
from fedsep.report.frontier import frontier, pareto
from fedsep.report.frontier_page import leader_cells, reach_cells, write_frontier
from fedsep.report.sheet import Panel, sheet


def by_hand(results, method, seed, values, up, down, *, clients=4, every=10, settings=None, **more):
    """A run that is evaluated every ``every`` rounds, at which it has these values."""
    rounds = every * len(values)
    folder = write_run(results, method, seed, rounds=rounds, every=every, up=up, down=down, clients=clients,
                       settings=settings, **more)  # fmt: skip
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("test_accuracy", None)
        if row["round"] % every == 0:
            row["test_accuracy"] = values[row["round"] // every - 1]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def load(folder, targets=(0.9, 0.95)):
    return frontier((read_run(run) for run in find_runs(folder)), targets)


def test_bytes_are_of_one_client_and_means_are_over_seeds(tmp_path):
    by_hand(tmp_path, "fedavg", 0, [0.5, 0.90, 0.80, 0.96], 100, 60)
    by_hand(tmp_path, "fedavg", 1, [0.7, 0.80, 0.92, 0.94], 100, 60)
    [setting] = load(tmp_path).settings
    assert (setting.label, setting.family, setting.seeds) == ("fedavg", "fedavg", (0, 1))
    assert (setting.round_payload, setting.round_header) == (160, 64)
    assert [point.round for point in setting.points] == [10, 20, 30, 40]
    assert [point.value for point in setting.points] == pytest.approx([0.6, 0.85, 0.86, 0.95])
    assert [(point.payload, point.header) for point in setting.points] == [
        (160 * at, 64 * at) for at in (10, 20, 30, 40)]  # fmt: skip
    ninety, more = setting.reaches
    assert (ninety.payload["mean"], ninety.whole["mean"], ninety.rounds["mean"]) == (160 * 25, 224 * 25, 25)
    assert (ninety.by_all, more.by_all) == (True, False)
    assert (more.payload["mean"], more.payload["n"], more.of) == (160 * 40, 1, 2)


def test_a_line_is_the_running_best_and_leaves_out_what_is_not_finite(tmp_path):
    by_hand(tmp_path, "fedavg", 0, [0.6, float("nan"), 0.5, 0.6, 0.7], 10, 10)
    [setting] = load(tmp_path).settings
    assert [(point.round, point.value) for point in setting.points] == [(10, 0.6), (50, 0.7)]


def test_partial_participation_shares_bytes_out(tmp_path):
    folder = by_hand(tmp_path, "fedavg", 0, [0.9], 100, 100, clients=4)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"clients": 40}))
    [setting] = load(tmp_path).settings
    assert setting.points[0].payload == 200 * 10 / 10


@pytest.fixture
def three(tmp_path):
    """Two settings of one method, and one of another that is better at the end."""
    by_hand(tmp_path / "a", "topk", 0, [0.80, 0.91, 0.93], 500, 500, settings={"k": 50})
    by_hand(tmp_path / "b", "topk", 0, [0.60, 0.80, 0.92], 50, 50, settings={"k": 5})
    by_hand(tmp_path / "c", "fedavg", 0, [0.70, 0.96, 0.97], 5000, 5000)
    return tmp_path


def test_pareto_set_by_hand(three):
    found = load(three)
    assert found.families == ["topk", "fedavg"]
    assert [setting.label for setting in found.settings] == ["topk · k=50", "topk · k=5", "fedavg"]
    assert [(led.setting.label, led.point.payload, led.point.value) for led in pareto(found.settings, "accuracy")] == [
        ("topk · k=5", 1_000, 0.60),
        ("topk · k=5", 2_000, 0.80),
        ("topk · k=5", 3_000, 0.92),
        ("topk · k=50", 30_000, 0.93),
        ("fedavg", 200_000, 0.96),
        ("fedavg", 300_000, 0.97),
    ]
    assert [(cell["method"], cell["from"], cell["to"], cell["value"]) for cell in leader_cells(found)] == [
        ("topk · k=5", "1,000 B", "30.0 kB", "0.6000 to 0.9200"),
        ("topk · k=50", "30.0 kB", "200 kB", "0.9300"),
        ("fedavg", "200 kB", "the end", "0.9600 to 0.9700"),
    ]
    headed = pareto(found.settings, "accuracy", header=True)
    assert headed[0].point.whole == 1_000 + 64 * 10


def test_fewest_bytes_are_marked_only_where_every_seed_arrives(three):
    by_hand(three / "b2", "topk", 1, [0.60, 0.80, 0.85], 50, 50, settings={"k": 5})
    cells = {cell["method"]: cell for cell in reach_cells(load(three))}
    assert cells["topk · k=5"]["to 0.9"] == "3,000 B (4,920 B) (1 of 2)"
    assert cells["topk · k=50"]["to 0.9"] == "20.0 kB (21.3 kB) *"
    assert cells["topk · k=50"]["to 0.95"] == "–"
    assert cells["fedavg"]["to 0.95"] == "200 kB (201 kB) *"


def test_a_run_of_an_older_version_did_as_later_options_do_by_default(tmp_path):
    write_run(tmp_path / "a", clients=4, cohort={"per_round": 2})
    write_run(tmp_path / "b", clients=4, cohort={"per_round": 2, "sampling": "fixed", "draw": "fixed"})
    assert frontier([read_run(run) for run in find_runs([tmp_path])]).settings
    write_run(tmp_path / "c", clients=4, cohort={"per_round": 2, "sampling": "poisson"})
    with pytest.raises(FedSepError, match=r"cohort\.sampling"):
        frontier([read_run(run) for run in find_runs([tmp_path])])


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"data": {"use": "fedsep.data.mnist", "clients": 4}}, "data.partition"),
        ({"model": {"use": "fedsep.models.mlp"}}, "model.use"),
        ({"metric": "auc"}, "metric"),
    ],
)
def test_tasks_are_not_mixed(tmp_path, other, told):
    write_run(tmp_path / "a", clients=4)
    write_run(tmp_path / "b", clients=4, **other)
    with pytest.raises(FedSepError, match=rf"are not of one task \({told}.*one task at a time"):
        load(tmp_path)


def test_seeds_and_places_do_not_make_another_task(tmp_path):
    split = {"use": "fedsep.data.iid"}
    for seed in (0, 1):
        data = {"use": "fedsep.data.mnist", "clients": 4, "partition": split, "seed": seed, "data_dir": f"/{seed}"}
        write_run(tmp_path, seed=seed, clients=4, data=data)
    assert sorted(seed for setting in load(tmp_path).settings for seed in setting.seeds) == [0, 1]


def test_runs_without_evaluations_do_not_count(three):
    write_run(three / "d", "early", every=0, clients=4)
    assert load(three).families == ["topk", "fedavg"]
    with pytest.raises(FedSepError, match="none of these runs has been evaluated"):
        load(three / "d")


def test_records_hold_a_table_instead_of_lines(three):
    wanted = load(three)
    for file in three.rglob("metrics.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in rows)]
        file.with_suffix(".csv").write_text("\n".join(lines) + "\n")
        file.unlink()
    assert load(three).settings == wanted.settings
    broken = next(three.rglob("metrics.csv"))
    broken.write_text("round,test_accuracy\n1,oops\n")
    with pytest.raises(FedSepError, match=re.escape(f"{broken}: not readable as a table of numbers")):
        load(three)


def test_page_and_picture(three):
    page, picture = write_frontier(load(three), three)
    html, svg = page.read_text(), picture.read_text()
    assert (page.name, picture.name) == ("frontier.html", "frontier.svg")
    assert "topk · k=5" in html
    assert "http" not in html.replace("http-equiv", "")
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = " ".join(element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "Accuracy against bytes: mnist" in words
    assert "constant header of 32" in words
    assert svg.count("<path") > 12
    write_frontier(load(three), three)
    assert (page.read_text(), picture.read_text()) == (html, svg)


def test_sheet_places_panels_row_by_row():
    panels = [Panel(name, f'<svg viewBox="0 0 100 50" id="{name}"/>') for name in "abc"]
    root = ElementTree.fromstring(sheet("T < t", panels, [(0, "one"), (9, "two")], "said"))
    places = {e.get("id"): (float(e.get("x")), float(e.get("y"))) for e in root if e.get("id")}
    assert places["a"][1] == places["b"][1] < places["c"][1]
    assert places["a"][0] == places["c"][0] < places["b"][0]
    assert root.get("aria-label") == "T < t"


def test_command(three, capsys):
    assert invoke(["frontier", str(three), "--targets", "0.95,.9"]) == 0
    out = capsys.readouterr().out
    assert "to 0.9 " in out.replace("to 0.95", "")
    assert "20.0 kB (21.3 kB)" in out
    assert (three / "frontier.svg").is_file()

    assert invoke(["frontier", str(three), "--json", "--to", str(three / "x/y.html")]) == 0
    out = capsys.readouterr().out
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["method"] for record in records] == ["topk · k=50", "topk · k=5", "fedavg"]
    assert [target["target"] for target in records[0]["targets"]] == [0.95, 0.97, 0.98]
    assert [point["pareto"] for point in records[0]["points"]] == [False, False, True]
    assert (three / "x/y.svg").is_file()


@pytest.mark.parametrize("text", ["", "a", ".9,", "nan"])
def test_bad_targets(three, capsys, text):
    assert invoke(["frontier", str(three), "--targets", text]) == 2
    assert "--targets: must be numbers with commas between them" in capsys.readouterr().err


def test_a_folder_without_runs(tmp_path, capsys):
    assert invoke(["frontier", str(tmp_path)]) == 2
    assert "no run in this folder" in capsys.readouterr().err


def retold(folder, old, new):
    """The run with a line of its recipe changed."""
    recipe = (folder / "recipe.yaml").read_text()
    assert old in recipe
    (folder / "recipe.yaml").write_text(recipe.replace(old, new))


def test_seeds_that_were_run_on_different_engines_are_one_setting(tmp_path):
    for seed, engine in enumerate(("workers", "vectorised")):
        folder = by_hand(tmp_path, "fedavg", seed, [0.9], 1, 1)
        retold(folder, "evaluate:", f"engine: {{use: fedsep.engines.{engine}}}\nevaluate:")
    [setting] = load(tmp_path).settings
    assert setting.seeds == (0, 1)


def test_a_method_has_one_colour_whatever_its_settings_are_called(tmp_path):
    for name, k in (("few", 5), ("many", 50)):
        folder = by_hand(tmp_path, name, 0, [0.9], k, k)
        retold(folder, f"fedsep.algorithms.{name}", "fedsep.algorithms.topk_ef")
    found = load(tmp_path)
    assert [setting.label for setting in found.settings] == ["few", "many"]
    assert found.families == ["topk_ef"]


def test_where_names_are_told_apart_each_has_a_colour(tmp_path):
    for name in ("few", "many"):
        folder = by_hand(tmp_path, name, 0, [0.9], 5, 5)
        retold(folder, f"fedsep.algorithms.{name}", "fedsep.algorithms.topk_ef")
    found = frontier((read_run(run) for run in find_runs(tmp_path)), by_name=True)
    assert found.families == ["few", "many"]
