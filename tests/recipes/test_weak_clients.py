"""The recipes of methods with weak clients can be built: names, arguments, zoos and public data fit."""

from pathlib import Path

import pytest

from fedsep.recipes import RecipeError, build, from_tree, read
from fedsep.recipes.text import parse
from fedsep.scores.activation import Activation
from fedsep.scores.taylor import Taylor

FOLDER = Path(__file__).resolve().parents[2] / "recipes/heterogeneous"


@pytest.mark.parametrize("method", ["zerofl", "feddst", "flash", "feddf", "dsfl", "fedet"])
def test_each_method_has_a_recipe_that_can_be_built(method):
    recipe = read(FOLDER / f"{method}.yaml")
    found = build(recipe, 0)
    assert list(found.algorithms)[:2] == ["fedavg", method]
    assert (found.federation.public is not None) is (method in ("feddf", "dsfl", "fedet"))
    assert min(recipe.options()["cohort"].capabilities) < 1


def test_a_zoo_is_read_with_its_capabilities():
    built = build(read(FOLDER / "fedet.yaml"), 0).algorithms["fedet"]
    assert built.view.zoo.levels == (1.0, 0.5, 0.25)
    assert [tuple(built.view.zoo.members[name].init()["layer1.weight"].shape) for name in ("1", "0.5", "0.25")] == [
        (64, 64), (32, 64), (16, 64)]  # fmt: skip


SCORED = """
rounds: 1
data: {use: fedsep.data.digits, clients: 4}
model: {use: fedsep.models.mlp, hidden: [8]}
task: {use: fedsep.tasks.classification}
method: {use: fedsep.algorithms.fedsep_mask, scores: SCORES}
"""


@pytest.mark.parametrize(("scores", "wanted", "images"), [
    ("taylor", Taylor, 200), ("activation", Activation, 200), ("fedsep.scores.activation", Activation, 200),
    ("{use: fedsep.scores.taylor, images: 7}", Taylor, 7),
])  # fmt: skip
def test_scores_have_a_name_or_are_made_by_a_function_that_is_called_later(scores, wanted, images):
    method = build(from_tree(parse(SCORED.replace("SCORES", scores), "r"), "r.yaml"), 0).algorithms["fedsep_mask"]
    scorer = method.codec.scorer
    assert isinstance(scorer, wanted)
    assert scorer.images == images
    assert getattr(scorer, "classes", 10) == 10


def test_a_name_that_is_none_is_no_path():
    says = r"scores: must be one of gates, taylor, activation or .* \(got 'tailor'; did you mean taylor\?\)"
    with pytest.raises(RecipeError, match=says):
        from_tree(parse(SCORED.replace("SCORES", "tailor"), "r"), "r.yaml")


MASKS = {
    "fedsep_mask": ["fedsep_mask", "kept_random"],
    "fedsep_shared": ["fedsep_shared", "held_rolling", "two_clusters", "shared_random"],
}


@pytest.mark.parametrize("recipe", MASKS)
def test_the_recipes_of_masks_have_their_controls(recipe):
    assert list(read(FOLDER / f"{recipe}.yaml").methods) == MASKS[recipe]
