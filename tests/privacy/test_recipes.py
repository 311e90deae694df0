"""Private methods in recipes: found by ``fedsep check``, built inside one another, listed by ``fedsep ls``."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedsep.cli.kinds import parts
from fedsep.recipes import RecipeError, build, from_tree, parse_change, read
from fedsep.recipes.text import parse

ROOT = Path(__file__).resolve().parents[2]

TEXT = """
seed: 3
rounds: 2
data: {use: fedsep.data.digits, clients: 40, partition: {use: fedsep.data.iid}}
model: {use: fedsep.models.logistic}
methods:
  - use: fedsep.privacy.central
    name: private
    method: {use: fedsep.algorithms.fedavg, weighting: uniform, lr: 0.1}
    clip: 0.5
    noise: 1.0
    replies: 10
    secret: 1
cohort: {per_round: 10, sampling: poisson}
"""


def recipe(*changes):
    return from_tree(parse(TEXT, "r.yaml"), "r.yaml", changes=[parse_change(text) for text in changes])


def test_a_method_inside_gets_the_task_and_the_run_its_seed():
    found = recipe()
    pytest.importorskip("opacus")
    algorithm = build(found, 3).algorithms["private"]
    assert algorithm.privacy.seed == 3
    assert algorithm.privacy.clip == 0.5
    assert from_tree(found.resolved(), "r.yaml").resolved() == found.resolved()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("methods.private.clip=0", "methods.private.clip: must be > 0"),
        ("methods.private.delta=2", "methods.private.delta: must be > 0 and < 1"),
        ("methods.private.noises=2", "methods.private.noises: fedsep.privacy.central has no such argument"),
        ("methods.private.method.weighting=samples", "methods.private.method: must have weighting: uniform"),
        ("cohort.sampling=poison", "cohort.sampling: must be one of fixed, poisson"),
        ("methods.private.replies=20", "methods.private: replies must be the cohort's size, 10"),
        ("methods.private.method={use: fedsep.wires.dense}", "methods.private.method.use"),
        ("stop.min_replies=5", "stop.min_replies"),
    ],
)
def test_mistakes_are_found_before_anything_runs(change, message):
    with pytest.raises(RecipeError) as error:
        build(recipe(change), 3)
    assert message in str(error.value)


def test_mechanisms_are_listed():
    assert [path for path, _ in parts("privacy")] == [
        "fedsep.privacy.central",
        "fedsep.privacy.distributed",
        "fedsep.privacy.dp_sgd",
    ]


@pytest.mark.parametrize("file", sorted((ROOT / "recipes" / "private").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_can_be_read(file):
    assert read(file).settings["cohort"].build({}).sampling == "poisson"
