"""Table 1: what is run in which setting, what a client pays, and what is said of the paper's figures."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path

import pytest
import torch

from fedsep import algorithms, models, random, tasks
from fedsep.cli.carry_out import How, Todo, fit_one
from fedsep.cli.plan import plan, standing, state_of
from fedsep.cli.verdict import conclude
from fedsep.cohort import Cohort
from fedsep.core import FedSepError, Samples, Shard
from fedsep.paper.cells import named
from fedsep.paper.table1.costs import bytes_by_level, dump, macs_by_level, parse
from fedsep.paper.table1.grid import cells, chosen, parts, tuning, wider
from fedsep.paper.table1.page import Drawn, picked, tuned
from fedsep.paper.table1.results import Result, accuracy_cells, lost, macs_text, published, record, share, target_text
from fedsep.paper.table1.rows import KINDS, ROWS
from fedsep.paper.table1.scales import SCALES
from fedsep.recipes import Sources, build, find, read
from fedsep.recipes.text import parse as parse_recipe
from fedsep.report.reading import RunData

SMALL = SCALES["small"]
BY_NAME = {row.name: row for row in ROWS}
SETTINGS = {setting.name: setting for setting in SMALL.settings}
VARIANTS = ("zerofl_sent", "zerofl_width", "feddst_width", "flash_width")
"""Rows that are variants of others."""


def blocks():
    return named(parse_recipe(find("paper/table1").read_text(), "table1")["methods"])


def test_the_recipe_holds_every_row_and_is_the_first_setting():
    recipe = read(find("paper/table1"))
    assert list(recipe.methods) == list(BY_NAME)
    assert {row.kind for row in ROWS} == set(KINDS)
    first = next(cell for part, cell in cells(SMALL, blocks(), {}) if part.setting.name == "mnist_k2")
    made = read(find("paper/table1"), changes=first.changes)
    for name, call in made.methods.items():
        own = {key: value for key, value in recipe.methods[name].resolved().items() if key not in ("widths", "until")}
        assert own.items() <= call.resolved().items(), name
    assert made.resolved()["model"] == recipe.resolved()["model"]
    assert made.settings["evaluate"].build({}) == recipe.settings["evaluate"].build({})
    assert all(call.resolved().get("weighting", "uniform") == "uniform" for call in recipe.methods.values())


@pytest.mark.parametrize("name", list(SCALES))
def test_every_cell_is_a_recipe_with_the_same_data_and_clients_in_a_setting(name):
    scale, common = SCALES[name], {}
    for part, cell in cells(scale, blocks(), {}):
        recipe = read(find("paper/table1"), changes=cell.changes)
        assert tuple(recipe.methods) == tuple(row.name for row in part.rows)
        assert recipe.seeds == part.seeds
        options = recipe.options()
        seen = (recipe.data.resolved(), options["cohort"], options["evaluate"], recipe.rounds)
        assert common.setdefault(part.setting.name, seen) == seen
        assert len(options["evaluate"].rounds) <= 15 or name == "paper"
        assert scale.tune_seed not in recipe.seeds
    for _, cell, grid in tuning(scale, blocks()):
        assert read(find("paper/table1"), changes=cell.changes).seeds == (scale.tune_seed,)
        assert all(len(axis.partition("=")[2].split(",")) == 3 for axis in grid)


def test_the_small_scale_is_the_one_that_is_asked_for():
    found = {(part.setting.name, row.name): part.seeds for part in parts(SMALL) for row in part.rows}
    mnist = [name for name in (setting.name for setting in SMALL.settings) if name.startswith("mnist")]
    assert len(mnist) == 5
    everywhere = [row.name for row in ROWS if row.name not in ("full_size_only", *VARIANTS)]
    assert all(found[name, row] == (0, 1, 2) for name in mnist for row in everywhere)
    assert {(name, row) for name, row in found if row in VARIANTS} == {("mnist_k2", row) for row in VARIANTS}
    assert {name for name, row in found if row == "full_size_only"} == {
        "mnist_k2",
        "mnist_k5",
        "mnist_k2_rare",
        "cifar10_k2",
    }
    assert {row.name for row in ROWS if row.main} == {
        "heterofl", "federated_dropout", "fedrolex", "splitmix", "fedsep_mask", "importance",
    }  # fmt: skip
    for row in (row for row in ROWS if row.name not in VARIANTS):
        assert found["cifar10_k2", row.name] == ((0, 1, 2) if row.main else (0,))
        assert found.get(("cifar10_k2_weak", row.name)) == ((0, 1, 2) if row.main else None)


def test_cifar_10_is_calibrated_and_its_rate_falls_as_the_protocol_says():
    assert {setting.calibration for setting in SMALL.settings} == {2000}
    falls = {setting.name: setting.arguments["schedule"]["at"] for setting in SCALES["paper"].settings}
    assert falls == {
        "cifar10_k2": [1200], "cifar10_k5": [800, 1200], "cifar100_k20": [1000, 1500], "cifar100_k50": [1000, 1500],
        "cifar10_k4": [800, 1200], "cifar10_k8": [800, 1200], "cifar100_k5": [1000, 1500], "cifar100_k10": [1000, 1500],
    }  # fmt: skip
    for setting in SCALES["paper"].settings:
        assert f"{setting.data}_k{setting.k}" == setting.name
        assert setting.words.startswith(f"CIFAR-{setting.data.removeprefix('cifar')}, {setting.k} classes")


def test_every_capability_is_a_level_and_runs_that_were_made_without_levels_are_used(tmp_path):
    folder = next(cell for part, cell in cells(SCALES["smoke"], blocks(), {}))
    recipe = read(find("paper/table1"), changes=folder.changes)
    assert recipe.options()["evaluate"].levels == (1.0, 0.5, 0.25)
    assert all(read(find("paper/table1"), changes=cell.changes).options()["evaluate"].levels is None
               for _, cell, _ in tuning(SMALL, blocks()))  # fmt: skip
    job = plan(recipe, tmp_path)[0]
    job.folder.mkdir(parents=True)
    (job.folder / "summary.json").write_text('{"status": "done"}')

    def lies_there(**evaluate):
        made = recipe.single(job.method, job.seed)
        text = json.dumps({**made, "evaluate": {**made["evaluate"], **evaluate}})
        (job.folder / "recipe.yaml").write_text(text)

    lies_there(levels=None)
    assert state_of(job, recipe) == "done"
    assert standing(job, recipe)[0] == "other"
    lies_there()
    assert state_of(job, recipe) == standing(job, recipe)[0] == "done"
    lies_there(levels=[1.0])
    with pytest.raises(FedSepError, match=r"evaluate\.levels"):
        state_of(job, recipe)
    lies_there(levels=None, average=0.9)
    with pytest.raises(FedSepError, match=r"evaluate\.average"):
        state_of(job, recipe)


def test_arguments_follow_the_fleet():
    weak = SETTINGS["mnist_k2_weak"]
    assert BY_NAME["largest"].at(weak) == {"width": 0.5}
    assert BY_NAME["smallest"].at(weak) == {"width": 0.0625}
    zoo = BY_NAME["feddf"].at(weak)["zoo"]
    assert {level: block["widths"] for level, block in zoo.items()} == {
        "0.5": [8, 16, 16], "0.25": [4, 8, 8], "0.125": [2, 4, 4], "0.0625": [1, 2, 2]}  # fmt: skip
    heads = {block["widths"][-1] for block in BY_NAME["fedet"].at(weak)["zoo"].values()}
    assert heads == {32}
    nets = [models.resnet((3, 8, 8), 10, width=block["width"], features=block["features"], blocks=[1, 1])
            for block in BY_NAME["fedet"].at(SETTINGS["cifar10_k2"])["zoo"].values()]  # fmt: skip
    assert {tuple(net.head.weight.shape) for net in nets} == {(10, 32)}
    rare = SETTINGS["mnist_k2_rare"]
    assert (rare.draw, rare.partition["among"]) == ("ordered", 0.6)


def test_every_row_is_tuned_in_every_setting_of_mnist_with_one_budget():
    sweeps = tuning(SMALL, blocks())
    assert [part.setting.name for part, _, _ in sweeps] == [name for name in SETTINGS if name.startswith("mnist")]
    for part, cell, grid in sweeps:
        recipe = read(find("paper/table1"), changes=cell.changes)
        here = [row.name for row in ROWS if row.where(part.setting)]
        assert grid == [f"methods.{name}.lr=0.1,0.3,0.6" for name in here]
        assert (list(recipe.methods), recipe.rounds) == (here, 50)
        assert recipe.options()["cohort"].capabilities == part.setting.capabilities


def test_one_further_rate_is_tried_where_the_best_is_at_the_end_of_the_grid():
    part = tuning(SMALL, blocks())[0][0]
    best = {"heterofl": 0.1, "fedrolex": 0.3, "largest": 0.6}
    grid = wider(part, {name: {f"methods.{name}.lr": rate} for name, rate in best.items()})
    found = dict(line.removeprefix("methods.").split(".lr=") for line in grid)
    assert list(found) == [row.name for row in part.rows]
    assert {name: rates for name, rates in found.items() if rates != "0.1,0.3,0.6"} == {
        "heterofl": "0.1,0.3,0.6,0.03", "largest": "0.1,0.3,0.6,1",
    }  # fmt: skip
    assert {part.setting.beyond for part, _, _ in tuning(SMALL, blocks())} == {(0.03, 1.0)}
    assert SETTINGS["cifar10_k2"].further(0.1) == ()


def test_variants_differ_from_their_rows_in_what_they_are_named_for():
    sent = {"variant": "top_k_diff", "average": "sent"}
    assert {key: blocks()["zerofl"][key] for key in ("variant", "average", "extra", "scale")} == {
        "variant": "diff_on_top_k", "average": "all", "extra": 0.1, "scale": "params",
    }  # fmt: skip
    for name in VARIANTS:
        of = name.partition("_")[0]
        assert blocks()[name] == {
            **blocks()[of],
            "name": name,
            **(sent if name == "zerofl_sent" else {"scale": "width"}),
        }


def test_a_setting_takes_its_own_learning_rates():
    def found(part, rate):
        return {"chosen": {row.name: {"settings": {f"methods.{row.name}.lr": rate}} for row in part.rows}}

    own = {"mnist_k2": 0.6, "mnist_k2_weak": 0.1}
    swept = [part for part, _, _ in tuning(SMALL, blocks())]
    rates = chosen([(part, found(part, own.get(part.setting.name, 0.3))) for part in swept])
    for part, cell in cells(SMALL, blocks(), rates):
        recipe = read(find("paper/table1"), changes=cell.changes)
        lr = {call.resolved()["lr"] for call in recipe.methods.values()}
        assert lr == {own.get(part.setting.name, 0.3 if part.setting.data == "mnist" else 0.1)}
    with pytest.raises(FedSepError, match="no learning rate of feddf could be chosen in mnist_k2: each failed"):
        chosen([(swept[0], {"chosen": {}})])


def test_the_page_says_what_was_tuned_and_every_setting_its_rates():
    shown = [result("heterofl", name) for name in ("mnist_k2", "mnist_k2_weak", "cifar10_k2")]
    rates = {("mnist_k2", "heterofl"): 0.3, ("mnist_k2", "feddf"): 0.6, ("mnist_k2_weak", "heterofl"): 0.1}
    drawn = Drawn(SMALL, shown, rates)
    assert tuned(drawn) == (
        "Learning rates were chosen among 0.1, 0.3, 0.6 on validation accuracy of the served model, for each row and "
        "in each setting by itself, with 50 rounds of seed 100. Where the lowest of them is the best, 0.03 was tried, "
        "too; where the highest, 1. Nothing was tuned for: CIFAR-10 at 16 x 16, 2 classes a "
        "client, all five capabilities, ResNet of base width 8."
    )
    told = [picked(drawn, SETTINGS[name]) for name in ("mnist_k2", "mnist_k2_weak", "cifar10_k2")]
    assert told == ["Learning rates: FedDF 0.6, HeteroFL 0.3.", "Learning rates: HeteroFL 0.1.",
                    "Learning rates: those of the recipe; nothing was tuned."]  # fmt: skip
    assert tuned(Drawn(SMALL, shown, {})) == "Nothing was tuned."


def test_published_figures_are_the_papers():
    """Of each row, the four columns of the paper's table."""
    text = """FedDF 73.81 31.87 76.55 37.87; DS-FL 65.27 29.12 68.44 33.56; Fed-ET 78.66 35.78 81.13 41.58;
    HeteroFL 63.90 52.38 73.19 57.44; Federated_Dropout 46.64 45.07 76.20 46.40; ZeroFL 64.61 51.39 83.31 53.62;
    FedDST 67.65 54.21 84.57 54.97; Flash 67.08 54.92 84.61 55.04; FedRolex 69.44 56.57 84.45 58.73;
    smallest 38.82 12.69 46.86 19.70; largest 75.74 60.89 84.48 62.51"""
    for line in text.split(";"):
        label, *figures = line.split()
        row = next(row for row in ROWS if row.label == label.replace("_", " "))
        columns = ("cifar10 2", "cifar100 20", "cifar10 5", "cifar100 50")
        assert [row.published[column][0] for column in columns] == [float(each) for each in figures]


def result(row, setting, rows=(), **more):
    run = RunData(Path("x"), row, 0, "done", "", "accuracy", tuple(rows), more)
    return Result(BY_NAME[row], SETTINGS[setting], (run,), {}, {})


def test_what_the_paper_says_is_marked_where_the_protocol_is_another():
    assert published(result("heterofl", "mnist_k5")) == "73.19 ± 1.71 (CIFAR-10)"
    assert published(result("heterofl", "cifar10_k2")) == "63.90 ± 2.74 (other protocol)"
    big = Result(BY_NAME["heterofl"], SCALES["paper"].settings[0], (), {}, {})
    assert published(big) == "63.90 ± 2.74"
    assert published(dataclasses.replace(big, row=BY_NAME["feddf"])) == "73.81 ± 0.42 (other protocol)"
    wide = dataclasses.replace(big, setting=SCALES["wide"].settings[0])
    assert published(wide) == "63.90 ± 2.74 (other protocol)"
    assert published(result("fjord", "cifar10_k2")) == "–"
    by_name = {setting.name: setting for setting in SCALES["paper"].settings}
    told = {name: published(Result(BY_NAME["heterofl"], of, (), {}, {})) for name, of in by_name.items()}
    assert told["cifar100_k20"] == "52.38 ± 0.80"
    assert {told[name] for name in ("cifar10_k4", "cifar10_k8", "cifar100_k5", "cifar100_k10")} == {"–"}


def test_rounds_to_the_target_and_per_cent():
    rows = [
        {"round": at, "test_served_accuracy": value, "served_width": 0.5}
        for at, value in ((10, 0.7), (20, 0.91), (30, 0.8))
    ]
    found = result(
        "heterofl", "mnist_k2", rows, metrics={"served_accuracy": {"last": 0.8, "best": 0.91, "mean_last": 0.80333}}
    )
    assert found.to_target == [20.0]
    told = accuracy_cells(found)
    assert (told["served: best"], told["served: mean of last"], told["served width"]) == ("91.00", "80.33", "0.5")
    assert target_text(result("heterofl", "mnist_k5", rows)) == "not reached"
    assert [share(level) for level in (1.0, 0.5, 0.0625, 0.3)] == ["1", "1/2", "1/16", "0.3"]
    assert [macs_text(value) for value in (None, 12.0, 34_560, 1.2345e9)] == ["–", "12", "34.6 k", "1.23 G"]


def test_the_density_that_was_served_is_told():
    from benchmarks.heterogeneity import _served_at

    assert blocks()["zerofl"]["served"] == [1.0, 0.25, 0.1]
    rows = [{"round": 10, "served_width": 1.0, "served_density": 0.25}]
    found, other = result("zerofl", "mnist_k2", rows), result("heterofl", "mnist_k2", [{"served_width": 0.5}])
    assert accuracy_cells(found)["served density"] == "0.25"
    assert (_served_at(record(found)), _served_at(record(other))) == ("1 (1/4 of the weights)", "1/2")
    assert _served_at({"served_width": []}) == "–"


def test_homogeneous_rows_have_no_quarter_of_their_own():
    rows = [{"round": 10, "client_held_accuracy": 0.9}]
    metrics = {"client_held_accuracy": {"last": 0.9, "best": 0.9, "mean_last": 0.9}}
    told = {row: accuracy_cells(result(row, "mnist_k2", rows, metrics=metrics)) for row in ("largest", "heterofl")}
    assert {row: each["own classes at 1/4"] for row, each in told.items()} == {"largest": "–", "heterofl": "90.00"}


def test_rows_that_are_run_alone_come_beside_those_that_are_kept(tmp_path, monkeypatch):
    from benchmarks import heterogeneity as page

    monkeypatch.setattr(page, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(page, "RECORD", tmp_path / "records")
    run = tmp_path / "runs/mnist_k2/all/heterofl/seed0"
    run.mkdir(parents=True)
    (run / "environment.json").write_text("{}")
    for rows in ({"largest": 1, "heterofl": 2}, {"heterofl": 3, "feddf": 4}):
        told = [{"setting": "mnist_k2", "row": name, "figure": figure} for name, figure in rows.items()]
        (tmp_path / "runs/table1.json").write_text(json.dumps([*told, {"setting": "mnist_k5", "row": "heterofl"}]))
        page.keep(["mnist_k2", "mnist_k2_weak"], beside=True)
    assert {name: row["figure"] for name, row in page.kept("mnist_k2").items()} == {"feddf": 4, "heterofl": 3,
                                                                                   "largest": 1}  # fmt: skip
    assert not page.kept("mnist_k5")
    assert sorted(file.name for file in (tmp_path / "records").iterdir()) == [
        "mnist_k2.json", "mnist_k2_environment.json"]  # fmt: skip
    page.keep(["mnist_k2"])
    assert set(page.kept("mnist_k2")) == {"feddf", "heterofl"}


def test_the_page_of_results_draws_and_tells_what_is_recorded(tmp_path, monkeypatch):
    from benchmarks import heterogeneity as page

    curves = {model: {"round": [10.0, 20.0], "mean": [0.5, 0.75], "std": [0.0, 0.125]}
              for model in ("served", "averaged, served")}  # fmt: skip
    runs = {name: Result(BY_NAME[name], SETTINGS["mnist_k2"], (), {}, {}) for name in ("heterofl", "largest", "feddf")}
    own = {"mean": 0.9, "std": 0.01, "n": 2}
    rows = [{**record(each), "seeds": [0, 1], "curves": curves, "own_classes": own} for each in runs.values()]
    for name in ("RECORD", "IMAGES"):
        monkeypatch.setattr(page, name, tmp_path)
    (tmp_path / "mnist_k2.json").write_text(json.dumps(rows))
    text = page.setting_table("mnist_k2")
    assert text.startswith("![Served accuracy by round: MNIST, 2 classes")
    assert "](../images/heterogeneity_mnist_k2.svg)\n\n| method |" in text
    lines = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in text.splitlines()[4:]}
    assert (lines["HeteroFL"][6], lines["largest"][6]) == ("90.00 ± 1.00", "–")
    page.draw_settings()
    [svg] = tmp_path.glob("*.svg")
    drawn = svg.read_text()
    assert svg.name == "heterogeneity_mnist_k2.svg"
    assert "HeteroFL" in drawn
    assert "FedDF" not in drawn  # as many rows as there are colours
    assert "prefers-color-scheme:dark" in drawn
    (tmp_path / "mnist_k2.json").write_text(json.dumps([{**row, "curves": None} for row in rows]).replace(
        '"curves": null, ', ""))  # fmt: skip
    assert page.setting_table("mnist_k2").startswith("| method |")  # a record that was made before curves were kept


def test_bytes_by_capability_follow_from_ledger_cohort_and_seed(tmp_path):
    cohort = Cohort(per_round=2, capabilities=(1.0, 0.5), draw="ordered")
    lines = [
        (1, 0, "down", 100),
        (1, 0, "up", 40),
        (1, 3, "down", 10),
        (2, 1, "down", 60),
        (2, 3, "down", 12),
        (2, 3, "up", 8),
    ]
    text = "".join(
        json.dumps(dict(zip(("round", "client", "direction", "payload"), line, strict=True))) + "\n" for line in lines
    )
    (tmp_path / "ledger.jsonl").write_text(text)
    run = RunData(tmp_path, "m", 0, "done", "", None, ())
    assert bytes_by_level([run], cohort, 4) == {1.0: 100.0, 0.5: 15.0}


def test_multiply_adds_are_those_of_the_layers():
    """A linear layer n -> m: n m forward, n m for the weights' gradient; none for the inputs' in the first layer."""
    module = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    task = tasks.classification(module, shape=(6,))
    method = algorithms.heterofl(task, epochs=2, batch_size=5)
    own = Shard(Samples(random.normal(random.key(1), 10, 6), torch.arange(10) % 3))
    found = macs_by_level(method, method.init(task.init()), own, (1.0, 0.5))
    assert found == {level: 2 * 10 * (2 * 6 * n + 3 * 3 * n) for level, n in ((1.0, 8), (0.5, 4))}
    assert parse(dump({"m": found})) == {"m": found}
    idle = algorithms.exclude(task, epochs=1, batch_size=5)
    assert macs_by_level(idle, idle.init(task.init()), own, (0.5,)) == {0.5: 0.0}


def test_smoke_runs_every_row_and_goes_on(tmp_path, capsys, monkeypatch):
    from fedsep.cli import invoke

    monkeypatch.chdir(tmp_path)
    assert invoke(["paper", "table1", "--scale", "smoke"]) == 0
    out = tmp_path / "runs/paper/table1_smoke"
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "digits, 2 classes a client, three capabilities" in shown
    rows = json.loads((out / "table1.json").read_text())
    assert [row["row"] for row in rows] == list(BY_NAME)
    assert [row["row"] for row in rows if row["failed_replies"]] == []
    by_name = {row["row"]: row for row in rows}
    assert by_name["full_size_only"]["bytes"]["0.5"] == by_name["full_size_only"]["macs"]["0.5"] == 0
    assert (
        by_name["heterofl"]["bytes"]["0.25"] < by_name["heterofl"]["bytes"]["0.5"] < by_name["largest"]["bytes"]["0.5"]
    )
    assert by_name["fedrolex"]["own_classes"]["n"] == 1
    assert by_name["fedrolex"]["each"]["served"] == [by_name["fedrolex"]["accuracy"]["served"]["mean of last"]["mean"]]
    for model, row in itertools.product(("served", "averaged, served"), rows):
        curve = row["curves"][model]
        assert (curve["round"], curve["std"]) == ([2.0], [0.0])
        assert curve["mean"] == [row["accuracy"][model]["last"]["mean"]]
    levels = [f"test_level_{level}_accuracy" for level in ("1", "0.5", "0.25")]
    last = json.loads((out / "digits_k2/all/heterofl/seed0/metrics.jsonl").read_text().splitlines()[-1])
    assert [last[name] for name in levels if name in last] == [last[name] for name in levels]
    assert last[levels[0]] == last["test_accuracy"]
    text = (out / "table1.md").read_text()
    assert all(f"| {row.label} |" in text for row in ROWS)
    assert "published, other protocol where noted" in text
    page = (out / "table1.html").read_text()
    assert "46.64 ± 3.05 (CIFAR-10)" in page
    assert "<svg" in page

    before = {path: path.stat().st_mtime_ns for path in out.rglob("summary.json")}
    assert len(before) == len(ROWS)
    assert invoke(["paper", "table1", "--scale", "smoke", "-q"]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("summary.json")} == before
    assert (out / "table1.md").read_text() == text


def test_a_row_whose_replies_failed_says_so(tmp_path):
    rows = [{"round": 1, "replies": 9, "failures": 1}, {"round": 2, "replies": 8, "failures": 2}]
    failure = {"stage": "reply", "reason": "the reply is not what the method sends"}
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "ledger.jsonl").write_text(json.dumps({"round": 1, "client": 7, "failure": failure}) + "\n")
    whole, lossy = (RunData(tmp_path, "m", 0, "done", "", None, of) for of in ((), tuple(rows)))
    found = [Result(BY_NAME["splitmix"], SMALL.settings[0], (run,), {}, {}) for run in (whole, lossy)]
    assert [each.failed_replies for each in found] == [0, 3]
    [told] = lost(found)
    assert told.endswith("3 of 20 replies failed; the first: client 7, round 1, stage reply: " + failure["reason"])


@pytest.mark.slow  # plays two rounds of every row
def test_a_dry_run_writes_nothing(tmp_path, capsys, monkeypatch):
    from fedsep.cli import invoke

    monkeypatch.chdir(tmp_path)
    assert invoke(["paper", "table1", "--scale", "smoke", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert all(row.name in told for row in ROWS)
    assert list(tmp_path.iterdir()) == []


TINY = dataclasses.replace(
    SCALES["smoke"],
    settings=(dataclasses.replace(SCALES["smoke"].settings[0], name="digits_tuned", tries=(0.2, 0.25)),),
    name="tiny",
    tune_rounds=2,
)
"""Scale ``smoke`` with learning rates to be chosen."""


@pytest.fixture
def few(monkeypatch, tmp_path):
    """``fedsep paper table1 --scale tiny``, of two rows."""
    from fedsep.cli import invoke, paper

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paper, "TABLE_SCALES", {"tiny": TINY})
    rows = ["--row", "largest", "--row", "heterofl"]
    return lambda *words: invoke(["paper", "table1", "--scale", "tiny", *rows, *words])


def test_a_dry_run_shows_the_rates_that_are_chosen_and_what_is_left_to_choose(few, tmp_path, capsys, monkeypatch):
    def told(*words):
        assert few(*words) == 0
        return re.sub(r"\s+", " ", capsys.readouterr().out)

    states = re.compile(r"(heterofl|largest) \S+ \S+ [^/]*? (done|new)")
    assert "First 4 runs of 2 rounds that choose learning rates." in told("--dry-run")
    written = []
    monkeypatch.setattr("fedsep.cli.sweep.conclude", lambda *of: written.append(of) or conclude(*of))
    told()
    assert len(written) == 1
    out = tmp_path / "runs/paper/table1_tiny"
    done = told("--dry-run")
    assert "Learning rates are chosen." in done
    assert states.findall(done) == [("heterofl", "done"), ("largest", "done")]
    (out / "tuning/digits_tuned/all/heterofl.lr=0.2/heterofl/seed100/summary.json").unlink()
    again = told("--dry-run")  # a row whose rate is not known has the recipe's, and no run at it
    assert "First 1 run of 2 rounds that choose learning rates." in again
    assert states.findall(again) == [("heterofl", "new"), ("largest", "done")]


def rate_of(run):
    return re.search(r" lr: (\S+)\n", (run / "recipe.yaml").read_text())[1]


def score(tried, row, figures):
    """Lets a row's runs at some rates have had these validation accuracies: of the whole model, and served."""
    for rate, (full, served) in figures.items():
        file = tried / f"{row}.lr={rate}/{row}/seed100/metrics.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rows[-1] |= {"validation_accuracy": full, "validation_served_accuracy": served}
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (file.parent / "summary.json").write_text(json.dumps({"status": "done", "method": row, "seed": 100}))


def choose(tried, rate, other):
    """Makes a rate the best by served accuracy, and the other by that of the whole model."""
    score(tried, "heterofl", {rate: (0.1, 0.9), other: (0.9, 0.1)})


def test_rates_are_chosen_by_the_served_model_and_runs_at_others_make_way(few, tmp_path, capsys):
    assert few() == 0
    out = tmp_path / "runs/paper/table1_tiny"
    run, tried = out / "digits_tuned/all/heterofl/seed0", out / "tuning/digits_tuned/all"
    was = rate_of(run)
    now = next(rate for rate in ("0.2", "0.25") if rate != was)
    choose(tried, now, was)
    before = (run / "metrics.jsonl").read_text()
    largest = (out / "digits_tuned/all/largest/seed0/summary.json").stat().st_mtime_ns
    assert few() == 0
    assert "has another learning rate than was chosen: moved to" in re.sub(r"\s+", " ", capsys.readouterr().err)
    assert rate_of(run) == now
    kept = out / f"other_rates/digits_tuned/all/heterofl/lr={was}/seed0"
    assert (kept / "metrics.jsonl").read_text() == before
    assert (out / "digits_tuned/all/largest/seed0/summary.json").stat().st_mtime_ns == largest
    choose(tried, was, now)
    assert few() == 0
    assert "2 runs, of which 0 are to be done" in capsys.readouterr().err
    assert (run / "metrics.jsonl").read_text() == before
    assert not kept.exists()


def test_rates_are_not_chosen_before_every_run_is_over(few, tmp_path, capsys, monkeypatch):
    assert few() == 0
    [file] = (tmp_path / "runs/paper/table1_tiny/tuning").glob(
        "digits_tuned/all/heterofl.lr=0.2/*/seed100/summary.json"
    )
    file.write_text(json.dumps({"status": "interrupted", "method": "heterofl", "seed": 100}))
    monkeypatch.setattr("fedsep.cli.sweep.carry_out", lambda *rest, **more: 0)  # as if it had died once more
    assert few() == 2
    told = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "not all runs that choose the learning rates of heterofl are done" in told


def test_a_further_rate_is_run_once_and_counts_where_it_is_the_best(few, tmp_path, capsys, monkeypatch):
    from fedsep.cli import paper

    def told(*words):
        assert few(*words) == 0
        return re.sub(r"\s+", " ", capsys.readouterr().out)

    told()
    out = tmp_path / "runs/paper/table1_tiny"
    run, tried = out / "digits_tuned/all/heterofl/seed0", out / "tuning/digits_tuned/all"
    score(tried, "heterofl", {"0.2": (0.9, 0.1), "0.25": (0.1, 0.8)})
    score(tried, "largest", {"0.2": (0.1, 0.8), "0.25": (0.9, 0.1)})
    told()
    before = (run / "summary.json").stat().st_mtime_ns
    [setting] = TINY.settings
    wide = dataclasses.replace(TINY, settings=(dataclasses.replace(setting, beyond=(0.15, 0.3)),))
    monkeypatch.setattr(paper, "TABLE_SCALES", {"tiny": wide})
    assert "First 2 runs of 2 rounds that choose learning rates, and one more where the best rate" in told("--dry-run")
    told()
    assert {path.name for path in tried.glob("*=*")} == {
        *(f"heterofl.lr={rate}" for rate in (0.2, 0.25, 0.3)), *(f"largest.lr={rate}" for rate in (0.15, 0.2, 0.25)),
    }  # fmt: skip
    score(tried, "heterofl", {"0.3": (0.9, 0.7)})
    told()
    assert (rate_of(run), (run / "summary.json").stat().st_mtime_ns) == ("0.25", before)  # not run again
    score(tried, "heterofl", {"0.3": (0.1, 0.9)})
    assert "Learning rates are chosen." in told("--dry-run")
    told()
    assert rate_of(run) == "0.3"
    record = json.loads((tried / "sweep.json").read_text())
    assert (record["metric"], record["grid"]["methods.heterofl.lr"]) == ("served_accuracy", [0.2, 0.25, 0.3])
    assert record["chosen"]["heterofl"]["settings"] == {"methods.heterofl.lr": 0.3}
    assert len(record["points"]["heterofl"]) == 3


def test_some_settings_are_tuned_and_run_alone(tmp_path):
    from fedsep.cli.carry_out import How
    from fedsep.cli.options import Talk
    from fedsep.cli.screen import Screen
    from fedsep.cli.table1 import Work
    from fedsep.recipes import Sources

    def work(*wanted):
        return Work(SMALL, frozenset(wanted), (), How(Sources()), Screen(Talk(quiet=True)))

    found = work("mnist_k5", "cifar10_k2_weak").folders(blocks(), {}, tmp_path)
    assert {part.setting.name for part, _ in found.values()} == {"mnist_k5", "cifar10_k2_weak"}
    assert {part.setting.name for part, _, _ in work("mnist_k5").tuning(blocks())} == {"mnist_k5"}
    assert work("cifar10_k2_weak").tuning(blocks()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["table1", "--setting", "mnist_k3"], "--setting: there are mnist_k2, mnist_k2_weak, "),
        (["table1", "--setting", "mnist_k2_weal"], "(got 'mnist_k2_weal'; did you mean mnist_k2_weak?)"),
        (["fig2", "--setting", "mnist_k2"], "--setting: only table1 has settings (got fig2)"),
        (["table1", "--row", "heterofi"], "(got 'heterofi'; did you mean heterofl?)"),
        (["ablation", "--row", "heterofl"], "--row: only table1 has rows (got ablation)"),
        (
            ["table1", "--setting", "cifar10_k2_weak", "--row", "feddf", "--row", "heterofl"],
            "--row: feddf is not run in cifar10_k2_weak",
        ),
    ],
)
def test_mistakes_in_settings_and_rows(arguments, told, tmp_path, capsys, monkeypatch):
    from fedsep.cli import invoke

    monkeypatch.chdir(tmp_path)
    assert invoke(["paper", *arguments]) == 2
    assert told in re.sub(r"\s+", " ", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def write_images(file, count, seed):
    """A parquet file of CIFAR-100's schema: images as PNG bytes, and their fine and coarse labels."""
    import io

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)
    images = []
    for image in pixels:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG", compress_level=0)
        images.append({"bytes": stream.getvalue(), "path": None})
    fine = [at % 100 for at in range(count)]
    file.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"img": images, "fine_label": fine, "coarse_label": [at % 20 for at in fine]}), file)


def test_the_setting_of_cifar_100_runs_on_a_set_of_its_schema(tmp_path, monkeypatch):
    """Two rounds of HeteroFL in the setting of scale ``paper``, but for its sizes; the real data may not be at hand."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_images(tmp_path / "cifar100/train-00000-of-00001.parquet", 1200, 0)
    write_images(tmp_path / "cifar100/test-00000-of-00001.parquet", 200, 1)
    scale = SCALES["paper"]
    whole = next(setting for setting in scale.settings if setting.name == "cifar100_k20")
    sizes = {"clients": 10, "per_round": 3, "held_out": (100, 50), "calibration": 100, "rounds": 2, "evaluated": (2,)}
    narrow = {"use": "fedsep.models.resnet", "width": 4, "blocks": [1, 1]}
    small = dataclasses.replace(whole, **sizes, seeds=(0,), model=narrow, widths=("width", 4))
    rows = [row for row in ROWS if row.name in ("heterofl", "fedet")]
    made = cells(dataclasses.replace(scale, settings=(small,)), blocks(), {}, rows)
    by_rows = {part.rows[0].name: cell for part, cell in made}
    recipe = read(find("paper/table1"), changes=by_rows["heterofl"].changes)
    experiment = build(recipe, 0, Sources(tmp_path))
    assert experiment.federation.classes == 100
    assert (experiment.federation.partition.counts > 0).sum(1).tolist() == [20] * 10
    [job] = plan(recipe, tmp_path / "out")
    summary = fit_one(Todo(recipe, job), experiment, How(Sources(tmp_path)), None)
    assert {"accuracy", "served_accuracy", "average_served_accuracy", "client_held_accuracy"} <= summary[
        "metrics"
    ].keys()
    heads = build(read(find("paper/table1"), changes=by_rows["fedet"].changes), 0, Sources(tmp_path)).algorithms[
        "fedet"
    ]
    assert {tuple(member.init()["head.weight"].shape) for member in heads.view.zoo.members.values()} == {(100, 64)}
