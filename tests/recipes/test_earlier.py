"""A run of an earlier version, whose recipe lacks what came later, is what it was."""

import importlib
import inspect
import json

import pytest
import yaml

from fedsep.cli.plan import Job, standing
from fedsep.earlier import BEFORE, completed
from fedsep.recipes import read
from fedsep.report import read_run
from fedsep.report.grouping import group_runs

RECIPE = """
rounds: 1
data: {use: fedsep.data.digits, clients: 2, partition: {use: fedsep.data.classes, k: 5}}
model: {use: fedsep.models.small_cnn, widths: [4, 4, 4]}
method: {use: fedsep.algorithms.%s}
"""


def older(tmp_path, method):
    """A recipe, a job, and a finished run of it that an earlier version made."""
    (tmp_path / "r.yaml").write_text(RECIPE % method)
    recipe = read(tmp_path / "r.yaml")
    job = Job(method, 0, tmp_path / "run")
    written = json.loads(json.dumps(recipe.single(method, 0)))
    for name in BEFORE[f"fedsep.algorithms.{method}"]:
        del written["method"][name]
    job.folder.mkdir()
    (job.folder / "recipe.yaml").write_text(yaml.safe_dump(written))
    (job.folder / "summary.json").write_text('{"status": "done"}')
    return recipe, job


def test_what_did_the_same_is_the_same_run(tmp_path):
    assert standing(*reversed(older(tmp_path, "splitmix"))) == ("done", [])


def test_what_did_something_else_is_another_run(tmp_path):
    state, unlike = standing(*reversed(older(tmp_path, "zerofl")))
    assert state == "other"
    assert "own_classes" in unlike[0]


def test_a_run_s_own_recipe_means_what_it_meant(tmp_path):
    _, job = older(tmp_path, "zerofl")
    written = job.folder / "recipe.yaml"
    assert read(written).methods["zerofl"].resolved()["own_classes"] is True
    assert read(written, resolved=True).methods["zerofl"].resolved()["own_classes"] is False


@pytest.mark.parametrize("use", BEFORE)
def test_arguments_that_came_later_are_there(use):
    module, name = use.rsplit(".", 1)
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    assert set(BEFORE[use]) <= set(parameters)
    given = {"use": use, **dict.fromkeys(BEFORE[use], "given")}
    assert completed(given) == given


LATER = {"data": ["public"], "cohort": ["sampling"],
         "evaluate": ["statistics", "calibration", "served", "held", "average"]}  # fmt: skip


@pytest.mark.parametrize("changed", [{}, {"sampling": "poisson"}])
def test_seeds_of_two_versions_are_of_one_group_where_both_did_the_same(tmp_path, changed):
    recipe, _ = older(tmp_path, "splitmix")
    for seed in (0, 1):
        written = json.loads(json.dumps(recipe.single("splitmix", seed)))
        written["cohort"] |= changed if seed else {}
        for block, names in LATER.items() if seed == 0 else ():
            for name in names:
                del written[block][name]
        if seed == 0:
            del written["data"]["partition"]["rare"], written["data"]["partition"]["among"]
        folder = tmp_path / f"seed{seed}"
        folder.mkdir()
        (folder / "recipe.yaml").write_text(yaml.safe_dump(written))
        (folder / "summary.json").write_text('{"status": "done", "method": "splitmix"}')
    groups = group_runs([read_run(tmp_path / "seed0"), read_run(tmp_path / "seed1")])
    assert len(groups) == (2 if changed else 1)


@pytest.mark.parametrize(("block", "changed", "groups"), [
    ("engine", {"faults": {"drop": 0.2}}, 2), ("engine", {"faults": None}, 1), ("engine", {"faults": {}}, 1),
    ("engine", {"threads": 2}, 1), ("stop", {"min_replies": 9}, 2), ("stop", {"patience": 9}, 1),
    ("stop", {"seconds": 9.0}, 1),
])  # fmt: skip
def test_which_replies_count_tells_groups_apart_and_not_how_a_run_is_done(tmp_path, block, changed, groups):
    recipe, _ = older(tmp_path, "splitmix")
    for seed in (0, 1):
        written = json.loads(json.dumps(recipe.single("splitmix", seed)))
        written[block] |= changed if seed else {}
        folder = tmp_path / f"seed{seed}"
        folder.mkdir()
        (folder / "recipe.yaml").write_text(yaml.safe_dump(written))
        (folder / "summary.json").write_text('{"status": "done", "method": "splitmix"}')
    assert len(group_runs([read_run(tmp_path / "seed0"), read_run(tmp_path / "seed1")])) == groups
