"""The commands behind the results name recipes that there are."""

from pathlib import Path

from benchmarks.records import COMMANDS


def test_every_record_is_made_from_a_recipe_that_is_there():
    root = Path(__file__).parents[1]
    recipes = {word for words in COMMANDS.values() for word in words if word.endswith(".yaml")}
    assert recipes
    assert [recipe for recipe in sorted(recipes) if not (root / recipe).is_file()] == []
