"""Tables and the picture of docs/results/heterogeneity.md beside those of the settings: all from records."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from fedsep.paper.table1.scales import SCALES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def page(monkeypatch, tmp_path):
    from benchmarks import heterogeneity, submodel_tables

    monkeypatch.setattr(heterogeneity, "RECORD", tmp_path)
    for name in ("IDEAS", "TUNED_IDEAS", "PERSONAL_IDEAS", "TUNED_OWN", "COSTS", "SECOND"):
        monkeypatch.setattr(submodel_tables, name, tmp_path / f"{name}.json")
    return submodel_tables


def cells(text, first):
    [line] = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_without_records_nothing_is_said_to_have_been_run(page):
    tables = ("rates", "own_classes", "ideas", "tuned_ideas", "personal_ideas", "tuned_own_classes", "second_term",
              "costs")  # fmt: skip
    assert {name: getattr(page, f"{name}_table")() for name in tables} == dict.fromkeys(tables, "Not run yet.")


@pytest.mark.parametrize("file", ["results/heterogeneity", "derivations/mask"])
def test_every_place_on_the_pages_is_filled(file):
    from benchmarks.tables import BLOCKS, PAGES

    assert Path(f"docs/{file}.md") in PAGES
    text = (ROOT / f"docs/{file}.md").read_text()
    begun, ended = (re.findall(rf"<!-- {word} (.+) -->", text) for word in ("begin", "end"))
    assert begun == ended
    assert set(begun) <= set(BLOCKS)
    wanted = {"confirmed", "own classes", "rates of Table 1", "inside sub-models", "ideas at their own rates",
              "own classes at their own rates", "ideas for personal masks"}  # fmt: skip
    assert (wanted if file.startswith("results") else {"second term"}) <= set(begun)


def test_entropies_of_soft_labels(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert page.soft_labels_table() == "Not run yet."
    place = tmp_path / "records/soft_labels_k5/era/seed0"
    place.mkdir(parents=True)
    head = "round,test_accuracy,server_entropy_of_mean,server_entropy_agreed"
    rows = [head, "1,0.1,2.3,2.25", "10,,,", "100,0.505,1.5,0.25"]
    (place / "metrics.csv").write_text("\n".join(rows))
    assert cells(page.soft_labels_table(), "5") == ["era", "2.300", "2.250", "–", "–", "1.500", "0.250", "50.5"]


def test_rates_and_the_figure_that_chose_them(page, tmp_path):
    def points(*rates):
        return [{"settings": {"methods.m.lr": rate}} for rate in rates]

    record = {
        "metric": "served_accuracy",
        "points": {"heterofl": points(0.1, 0.3, 0.6), "largest": points(0.1, 0.3, 0.6, 1.0), "feddf": points(0.1)},
        "chosen": {row: {"settings": {"lr": rate}, "validation": 0.9125}
                   for row, rate in (("heterofl", 0.3), ("largest", 1.0))},
    }  # fmt: skip
    (tmp_path / "mnist_k5_all_tuning.json").write_text(json.dumps(record))
    text = page.rates_table()
    assert [cells(text, row) for row in ("HeteroFL", "largest", "FedDF")] == [
        ["0.3 (91.2)"], ["1 (91.2, 1 tried)"], ["–"],
    ]  # fmt: skip
    assert text.endswith("`mnist_k5`: served_accuracy.")


def test_the_mask_on_own_classes_and_what_it_must_beat(page, tmp_path):
    def rows(**means):
        return json.dumps([{"row": row, "own_classes": {"mean": mean, "std": 0.02}} for row, mean in means.items()])

    first = {"fedsep_mask": 0.9, "fedrolex": 0.91, "federated_dropout": 0.8, "largest": 0.99}
    (tmp_path / "mnist_k2.json").write_text(rows(**first, feddf=None))
    (tmp_path / "mnist_k5.json").write_text(rows(fedsep_mask=0.9, fedrolex=0.8, federated_dropout=0.8, heterofl=0.9))
    text = page.own_classes_table()
    assert cells(text, "FedSep mask") == ["90.00 ± 2.00", "90.00 ± 2.00"]
    assert cells(text, "HeteroFL") == ["–", "90.00 ± 2.00"]
    assert not [label for label in ("largest", "FedDF") if f"| {label} |" in text]
    assert "- `mnist_k2`: level with FedRolex (-1.00), ahead of Federated Dropout (+10.00): not met." in text
    assert "- `mnist_k5`: ahead of FedRolex (+10.00), ahead of Federated Dropout (+10.00): met." in text


def test_masks_beside_what_they_must_beat_each_at_its_own_rate(page):
    def runs(idea, rate, *values):
        tries = [run(idea, 100, 0.1, rounds=50, lr=0.1, own_classes=0.1)]
        found = [run(idea, seed, 0.5, own_classes=value, lr=rate) for seed, value in enumerate(values)]
        return [{**each, "setting": "k5"} for each in (*tries, *found)]

    assert page.tuned_own_classes_table() == "Not run yet."
    made = [*runs("fedrolex", 0.3, 0.8, 0.82), *runs("federated_dropout", 0.1, 0.7, 0.7),
            *runs("fedsep_mask", 0.3, 0.8, 0.8), *runs("mask with a common order", 0.1, 0.9, 0.9),
            run("fedsep_mask", 0, 0.5, own_classes=0.9, lr=0.1)]  # fmt: skip
    page.TUNED_OWN.write_text(json.dumps({"runs": made}))
    text = page.tuned_own_classes_table()
    assert cells(text, "FedRolex") == ["", "81.00 ± 1.41 (rate 0.3)"]
    assert "- `k2`" not in text  # nothing stands beside the mask there
    assert cells(text, "mask with a common order") == ["", "90.00 (rate 0.1)"]
    assert "- `k5`: level with FedRolex (-1.00), ahead of Federated Dropout (+10.00): not met." in text
    assert "mask with a common order, beside FedRolex and Federated Dropout:" in text
    assert text.endswith("- `k5`: ahead of FedRolex (+9.00), ahead of Federated Dropout (+20.00): met.")


def test_masks_that_were_tried_by_own_classes_and_as_served(page):
    made = [run("gates", seed, 0.9, own_classes=value, lr=0.3) for seed, value in ((100, 0.7), (101, 0.8))]
    page.PERSONAL_IDEAS.write_text(json.dumps({"runs": [*made, run("gates", 100, 0.5, own_classes=0.4, lr=0.6)]}))
    text = page.personal_ideas_table()
    assert cells(text, "gates (rate 0.3, 100 rounds)") == ["75.00 ± 7.07 / 90.00"]
    assert cells(text, "gates (rate 0.6, 100 rounds)") == ["40.00 / 50.00"]


def run(idea, seed, value, rounds=100, **more):
    figures = {"validation_served_accuracy": value, "validation_average_served_accuracy": value + 0.01}
    return {"idea": idea, "setting": "k2", "seed": seed, "rounds": rounds, **figures, **more}


def test_ideas_at_one_rate_and_at_their_own(page):
    page.IDEAS.write_text(json.dumps({"runs": [run("importance", 100, 0.9)]}))
    assert cells(page.ideas_table(), "importance") == ["90.00 / 91.00 (1)"]
    tries = [run("importance", 100, 0.5, rounds=50, lr=rate) for rate in (0.1, 0.3, 0.6)]
    page.TUNED_IDEAS.write_text(json.dumps({"runs": tries}))
    assert page.tuned_ideas_table() == "Not run yet."
    whole = [run("importance", seed, value, lr=0.3) for seed, value in ((100, 0.9), (101, 0.92))]
    page.TUNED_IDEAS.write_text(json.dumps({"runs": [*tries, *whole]}))
    assert cells(page.tuned_ideas_table(), "importance") == ["91.00 ± 1.41 / 92.00 ± 1.41 (2, rate 0.3)"]


def test_the_second_term_beside_the_first_alone_seed_by_seed(page):
    runs = [
        {**run("", seed, value, lr=0.3), "row": row, "seconds": 60.0}
        for row, values in {"first": (0.8, 0.9), "both": (0.82, 0.89)}.items()
        for seed, value in zip((100, 101), values, strict=True)
    ]
    others = [
        {**run("", 100, 0.1, **of), "row": row, "seconds": 7.0}
        for row in ("first", "both")
        for of in ({"rounds": 10, "lr": 0.3}, {"rounds": 100, "lr": 0.1})
    ]
    page.SECOND.write_text(json.dumps({"runs": [*others, *runs, *others[:2]]}))
    assert cells(page.second_term_table(), "first")[3:] == [""]
    assert cells(page.second_term_table(), "both")[3:] == ["+0.50 (-1.00 to +2.00)"]


def test_costs_outside_refreshes_and_at_one(page):
    from benchmarks.submodel_costs import jobs

    def row(name, level, width, steps):
        made = {"method": name, "capability": level, "width": width, "steps": steps or 16}
        made |= {"seconds": 2 * level * (steps or 16), "peak_mib": 1000 * level}
        return made | ({"refresh_seconds": 20.0, "refresh_peak_mib": 3000.0} if name.startswith("fedsep") else {})

    environment = {"machine": {"cpu": "a processor"}, "torch": "2", "started": "today"}
    page.COSTS.write_text(json.dumps({"environment": environment, "rows": [row(*asked) for asked in jobs(64)]}))
    outside, scoring = page.costs_table().split("Scoring, once every second participation:")
    assert cells(outside, "1/4") == ["1.00", "1.00", "1.00", "1.00", "0.25", "1.00", "250", "250", "250", "250"]
    assert cells(outside, "1/2")[3] == cells(outside, "1/2")[-1] == ""  # a shared plan is not measured at each
    assert cells(scoring, "1/16") == ["20.00", "3,000"] * 3
    assert cells(scoring, "1/2") == ["20.00", "3,000", "", "", "", ""]
    assert "Scoring the whole model takes 16.0 s, 0.50 of a full-size client's local epoch of 500 images" in scoring


@pytest.fixture
def inside(monkeypatch, tmp_path):
    from benchmarks import inside_submodels as module

    smoke = SCALES["smoke"]
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("SCALE", dataclasses.replace(smoke, settings=(dataclasses.replace(smoke.settings[0], variants=False),))),
        ("SETTING", smoke.settings[0].name),
        ("RUNS", tmp_path / "table"),
        ("MORE", tmp_path / "more"),
        ("RECORD", tmp_path / "record"),
        ("IMAGES", tmp_path),
    ):
        monkeypatch.setattr(module, name, value)
    return module


def test_the_picture_is_drawn_from_a_run_with_levels_and_from_its_record_alone(inside, tmp_path):
    assert inside.inside() == "Not run yet."
    inside.draw()
    assert not list(tmp_path.glob("*.svg"))
    made = inside.run_of(0, 0.3)
    assert made == tmp_path / "more/digits_k2/all/fedsep_mask/seed0"
    there = tmp_path / "table/digits_k2/all/fedsep_mask/seed0"
    there.parent.mkdir(parents=True)
    made.rename(there)
    assert inside.run_of(0, 0.3) == there
    assert not made.exists()
    inside.keep(there)
    there.rename(tmp_path / "gone")
    inside.draw()
    text = (tmp_path / "submodels.svg").read_text()
    titles = (">Test accuracy<", ">Which units are trained when<", ">Where trained units lie, by depth<",
              ">Do clients with like classes train like units?<")  # fmt: skip
    assert [title for title in titles if title not in text] == []
    assert "0.25 of the units" in text
    assert inside.inside() == "![Inside FedSep mask](../images/submodels.svg)"
    # Panels keep their proportions, and none reaches into what is below it.
    places = [[float(value) for value in found] for found in re.findall(
        r'<svg x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', text)]  # fmt: skip
    panels = [place for place in places if place[2] > 100]
    assert len(panels) == 4
    assert max(y + height for _, y, _, height in panels[:2]) <= min(y for _, y, _, _ in panels[2:])


def test_runs_on_a_gpu_are_told_when_they_are_done(monkeypatch, tmp_path):
    from benchmarks import wide

    def round(number, **figures):
        return {
            "round": number,
            "wall_seconds": 2.0 * number,
            "bytes_up": 10 * number,
            "bytes_down": 30 * number,
            "failures": 0,
        } | figures

    def seen(number):
        return dict.fromkeys(wide.FIGURES.values(), number / 100)

    evaluated = (20, 40, *range(55, 101, 5))
    for row, status in {"heterofl": "done", "fedsep_mask": "interrupted"}.items():
        folder = tmp_path / f"{wide.SETTING.name}/all/{row}/seed0"
        folder.mkdir(parents=True)
        lines = [round(n, **(seen(n) if n in evaluated else {})) for n in range(1, 101)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        environment = {"machine": {"cpu": "c", "cores": 2, "gpu": "a GPU"}, "torch": "2", "started": "today"}
        (folder / "environment.json").write_text(json.dumps(environment))
        (folder / "summary.json").write_text(json.dumps({"status": status}))
        (folder / "recipe.yaml").write_text("seed: 0\n")
    monkeypatch.setattr(wide, "RECORD", tmp_path / "wide.json")
    assert wide.page_table() == "Not run yet."
    wide.keep(tmp_path)
    text = wide.page_table()
    assert cells(text, "HeteroFL") == ["77.5 ± 15.1"] * 3 + ["20.0", "40.0", "100", "2.0", "40 B"]
    assert "FedSep mask" not in text
    assert text.endswith("Seed 0; a GPU, torch 2, today.")
