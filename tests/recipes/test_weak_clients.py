"""The recipes of methods with weak clients can be built: names, arguments, zoos and public data fit."""

from pathlib import Path

import pytest

from fedsep.recipes import build, read

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
