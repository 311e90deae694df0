"""``engine.faults`` and ``accept`` in recipes: around any engine, checked as all else, part of what a run is."""

from __future__ import annotations

import pickle

import pytest
from recipes.test_mistakes import GOOD

from fedsep.cli.plan import Job, standing
from fedsep.engines import Faults, Faulty, sequential, vectorised, workers
from fedsep.options import Accept
from fedsep.recipes import RecipeError, from_tree, parse_change
from fedsep.recipes.recipe import write
from fedsep.recipes.text import parse


def recipe(*changes, **blocks):
    return from_tree({**parse(GOOD, "r.yaml"), **blocks}, "r.yaml", changes=[parse_change(text) for text in changes])


def test_faults_go_around_any_engine_from_the_command_line_and_from_a_block():
    assert recipe("engine.faults.drop=0.2").engine.build({}).faults == Faults(drop=0.2)
    block = {"use": "fedsep.engines.workers", "processes": 2, "faults": {"late": 0.05, "seed": 1}}
    made = recipe(engine=block).engine.build({})
    assert made == Faulty(workers(processes=2), Faults(late=0.05, seed=1))
    assert recipe("engine.faults.crash=1", engine={"use": "fedsep.engines.vectorised"}).engine.build({}).engine == (
        vectorised()
    )
    assert not hasattr(recipe().engine.build({}), "faults")


def test_a_recipe_with_faults_can_be_handed_to_another_process():
    """As ``--jobs`` does."""
    made = recipe("engine.faults.drop=0.2")
    assert pickle.loads(pickle.dumps(made)).engine.build({}) == Faulty(sequential(), Faults(drop=0.2))


def test_another_engine_does_not_take_the_faults_away_and_null_does():
    """Else ``--jobs 2`` would quietly give another run."""
    block = {"use": "fedsep.engines.workers", "faults": {"late": 0.05}}
    other = recipe("engine={use: fedsep.engines.sequential, threads: 2}", engine=block)
    assert other.engine.build({}) == Faulty(sequential(threads=2), Faults(late=0.05))
    assert recipe("engine.faults=null", engine=block).engine.build({}) == workers()
    chosen = recipe("engine={use: fedsep.engines.sequential, faults: {drop: 0.1}}", engine=block)
    assert chosen.engine.build({}).faults == Faults(drop=0.1)


def test_a_resolved_recipe_gives_itself_and_has_the_blocks_only_if_they_were_given():
    plain = recipe().resolved()
    assert "accept" not in plain
    assert "faults" not in plain["engine"]
    made = recipe("engine.faults.drop=0.2", "accept.norm=3")
    faults = {"drop": 0.2, "crash": 0.0, "late": 0.0, "stale": 0.0, "corrupt": 0.0, "duplicate": 0.0, "seed": 0}
    assert made.resolved()["engine"] == {"use": "fedsep.engines.sequential", "threads": 1, "faults": faults}
    assert made.resolved()["accept"] == {"norm": 3}
    assert made.options()["accept"] == Accept(norm=3.0)
    assert from_tree(made.resolved(), "r.yaml").resolved() == made.resolved()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            "engine.faluts.drop=0.2",
            r"engine\.faluts: .* has no such argument .*did you mean faults",
        ),
        ("engine.faults.drops=0.2", r"engine\.faults\.drops: faults has no such key .*did you mean drop\?"),
        ("engine.faults.late=1.5", r"engine\.faults\.late: must be >= 0 and <= 1 \(got 1.5\)"),
        ("engine.faults.seed=0.5", r"engine\.faults\.seed: must be a whole number >= 0"),
        (
            "engine.faults={drop: 0.7, late: 0.7}",
            r"engine\.faults: must have rates that .* at most 1 \(got 1.4\)",
        ),
        ("engine.faults=often", r"engine\.faults: must be a block \(got 'often'\)"),
        ("accept.nrom=1", r"accept\.nrom: accept has no such key .*did you mean norm\?"),
        ("accept.norm=0", r"accept\.norm: must be > 0"),
    ],
)
def test_mistakes(change, says):
    with pytest.raises(RecipeError, match=says):
        recipe(change)


def test_a_run_under_faults_is_another_run(tmp_path):
    """Unlike on another engine, which computes the same."""
    job = Job("fedavg", 0, tmp_path / "fedavg/seed0")
    there = recipe("engine.faults.drop=0.2")
    job.folder.mkdir(parents=True)
    write(there.single("fedavg", 0), job.folder / "recipe.yaml")
    assert standing(job, there)[0] == "unfinished"
    assert standing(job, recipe("engine.faults.drop=0.2", "engine.threads=2"))[0] == "unfinished"
    assert standing(job, recipe("engine.faults.drop=0.3")) == ("other", ["faults.drop: 0.2 there, 0.3 here"])
    assert standing(job, recipe())[0] == "other"
    assert standing(job, recipe("engine.faults.drop=0.2", "accept.norm=1"))[0] == "other"
