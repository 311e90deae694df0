"""Recipes are YAML 1.2."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsep.recipes import RecipeError
from fedsep.recipes.text import dump, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.inf", -math.inf),
        ("012", 12),
        ("0o14", 12),
        ("0xff", 255),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("~", None),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),
        ("'1e-3'", "1e-3"),
        ("!!str 1", "1"),
        ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("", None),
    ],
)
def test_scalars(text, value):
    found = parse(text, "f")
    assert found == value
    assert type(found) is type(value)


def test_nan():
    assert math.isnan(parse(".nan", "f"))


def test_anchors_are_copies():
    assert parse("a: &x {k: 1}\nb: *x", "f") == {"a": {"k": 1}, "b": {"k": 1}}


LAUGHS = "\n".join(["x0: &x0 [a]", *(f"x{i + 1}: &x{i + 1} [{', '.join([f'*x{i}'] * 9)}]" for i in range(12))])
CHAIN = "\n".join(["x0: &x0 [a]", *(f"x{i + 1}: &x{i + 1} [*x{i}]" for i in range(400))])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f: a: given twice, in lines 1 and 3"),
        ("x:\n  - {k: 1, k: 2}", "f: x.0.k: given twice, in lines 2 and 2"),
        ("a: [1\nb: 2", "f: line 2, column 2: expected ',' or ']', but got ':', while parsing a flow sequence"),
        ("a: b: c", "f: line 1, column 5: mapping values are not allowed here"),
        ("&a [*a]", "f: 0: refers to itself"),
        (LAUGHS, "f: must have at most 100,000 values, those behind aliases (*name) too (got far more)"),
        ("[" * 3000, "f: lists and blocks are nested too deeply"),
        (CHAIN, "f: lists and blocks are nested too deeply"),
        (
            "!!python/name:os.system x",
            "f: YAML tags are not used in recipes (got tag:yaml.org,2002:python/name:os.system)",
        ),
        ("a: \x07", "f: not readable as YAML: unacceptable character #x0007: special characters are not allowed"),
    ],
)
def test_what_is_no_recipe_text(text, message):
    with pytest.raises(RecipeError) as error:
        parse(text, "f")
    assert str(error.value) == message


# Line separators and control characters come back as what YAML makes of them.
text = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_what_is_written_is_read_again(value):
    assert parse(dump({"v": value}), "f") == {"v": value}
