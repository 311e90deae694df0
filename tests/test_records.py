"""The commands behind the results name recipes that there are, and what misses an aim is said to."""

import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks import aims, faults
from benchmarks.records import COMMANDS


def test_every_record_is_made_from_a_recipe_that_is_there():
    root = Path(__file__).parents[1]
    recipes = {word for words in COMMANDS.values() for word in words if word.endswith(".yaml")}
    assert recipes
    assert [recipe for recipe in sorted(recipes) if not (root / recipe).is_file()] == []


def test_no_record_names_a_folder_of_the_machine_that_made_it():
    records = sorted((Path(__file__).parents[1] / "records").rglob("*.json"))
    assert records
    commands = [(path.name, told) for path in records for told in re.findall(r'"command": "(.*)"', path.read_text())]
    assert commands
    assert [(name, told) for name, told in commands if re.search(r"[ '=]/", told)] == []


METHOD = {"method": "fedavg", "clean_accuracy": 0.98, "accuracy": 0.975, "points": -0.5, "faults": {"drop": 3},
          "in_the_ledger": {"drop": 3}, "killed_has_the_same_bits": True}  # fmt: skip
MACHINE = {"seed": 0, "machine": {"cpu": "a processor", "cores": 2}, "torch": "2", "started": "today"}


@pytest.mark.parametrize(("changed", "misses"), [
    ({}, 0), ({"points": -1.2}, 1), ({"in_the_ledger": {"drop": 2}}, 1), ({"killed_has_the_same_bits": False}, 1),
])  # fmt: skip
def test_an_aim_that_faults_miss_stands_out(tmp_path, changed, misses):
    record = tmp_path / "faults.json"
    record.write_text(json.dumps({"rounds": 200, "injected": {"seed": 1}, "killed_after_rounds": [88, 224, 324],
                                  "environment": MACHINE, "methods": [{**METHOD, **changed}]}))  # fmt: skip
    assert faults.page_table(record).count("**no**") == misses


def test_faults_are_killed_where_they_are_to_be_and_read_from_the_logs(tmp_path):
    run = tmp_path / "fedavg/seed0"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").touch()
    log = f"open({str(run / 'metrics.jsonl')!r}, 'a').write('{{}}' + chr(10))"
    rounds = f"import time\nfor _ in range(99): {log}; time.sleep(.05)"
    assert 3 <= faults._killed_at([sys.executable, "-c", rounds], tmp_path, 3) < 99
    lines = [{"round": 1, "client": c, "direction": "down", "wall_seconds": c} for c in range(50)]
    lines[7]["failure"] = {"stage": "reply", "reason": ""}
    (run / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert faults.logged(run) == {"reply": 1}
    assert all("wall_seconds" not in row for row in faults.rows(run, "ledger"))
    assert set(faults.injected(run, faults.Faults(corrupt=0.5, drop=0.5))) == {"reply", "drop"}


def test_an_aim_of_speed_is_met_or_missed_as_its_record_says(tmp_path, monkeypatch):
    def row(workload, ours):
        return {"workload": workload, "method": "fedavg", "processes": 2, "seconds": {"median": ours},
                "plain_seconds": {"median": 1.0}}  # fmt: skip

    rows = [row("W1", 0.8), row("W2", 1.1), {**row("W2", 0.1), "processes": 1}]
    stacked = {"workload": "W3", "engine": "vectorised, 1 thread", "rounds_per_second": 7.9, "plain": 10}
    both = {"workload": "W1", "engine": "workers, 2 processes", "rounds_per_second": 4.0, "plain": 4.2, "usual": 3.2}
    start = [{"seconds": 2.0}, {"seconds": 2.5}, {"seconds": 9.0}]
    quick = {**both, "rounds_per_second": 6.3}
    records = {
        "ROUNDS": {"processes": 2, "rounds": rows},
        "SPEED": {"engines": [both], "w3": [stacked], "start": start},
        "EPYC": {"engines": [{**stacked, "rounds_per_second": 8.0}], "start": [{"seconds": 3.5}]},
        "BFLOAT16": {"bfloat16": [quick]},
        "AMX": {"bfloat16": [quick, {**both, "workload": "W2"}]},
    }
    for name, record in records.items():
        (tmp_path / name).write_text(json.dumps(record))
        monkeypatch.setattr(aims, name, tmp_path / name)
    verdicts = [line.split(" | ")[-2:] for line in aims.page_table().splitlines()[2:]]
    unknown = "not measured yet"
    assert [found for found, _ in verdicts] == [
        "1.250", "0.952", "1.250", "1.500", "1.500",
        "0.909", unknown, unknown, unknown, "0.952",
        "0.790", unknown, "0.800", unknown, "2.500", "3.500",
    ]  # fmt: skip
    words = ["met", "**missed**", "met", "met", "met",
             "**missed**", "", "", "", "**missed**", "**missed**", "", "met", "", "met", "**missed**"]  # fmt: skip
    assert [word.strip(" |") for _, word in verdicts] == words
