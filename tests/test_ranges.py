"""Ranges: read off the signature, all mistakes at once, nothing else in the way."""

import inspect
import math
from typing import Literal, TypedDict, Unpack

import pytest

from fedsep.core import FedSepError
from fedsep.ranges import (
    Count,
    Fraction,
    Momentum,
    NonNegative,
    NonNegativeInt,
    Positive,
    Range,
    argument_errors,
    checked,
    ranges_of,
    taken_from,
)


@checked
def factory(task: str, *, lr: Positive = 0.1, steps: Count | None = None, period: Count | Literal["never"] = 3,
            share: Fraction = 1.0, name: str = "x") -> tuple:  # fmt: skip
    """A factory."""
    return task, lr, steps, period, share, name


def test_numbers_in_range_pass():
    assert factory("t", lr=0.5, steps=3, share=0.5) == ("t", 0.5, 3, 3, 0.5, "x")
    assert factory("t", steps=None, period="never")[3] == "never"
    assert factory.__name__ == "factory"
    assert factory.__doc__ == "A factory."


@pytest.mark.parametrize(("wrong", "says"), [
    ({"lr": 0}, r"factory: lr must be > 0 \(got 0\)"),
    ({"lr": -1.5}, r"lr must be > 0 \(got -1\.5\)"),
    ({"lr": math.nan}, r"lr must be a finite number > 0 \(got nan\)"),
    ({"steps": 0}, r"steps must be >= 1 \(got 0\)"),
    ({"period": 0}, r"period must be >= 1 \(got 0\)"),
    ({"share": 1.01}, r"share must be > 0 and <= 1 \(got 1\.01\)"),
])  # fmt: skip
def test_numbers_out_of_range_are_named(wrong, says):
    with pytest.raises(FedSepError, match=says):
        factory("t", **wrong)


def test_all_mistakes_come_at_once():
    with pytest.raises(FedSepError) as caught:
        factory("t", lr=-1, steps=0, share=2.0)
    assert all(name in str(caught.value) for name in ("lr must", "steps must", "share must"))


@pytest.mark.parametrize(("wrong", "says"), [
    ({"lr": "fast"}, r"lr must be a number > 0 \(got 'fast'\)"),
    ({"steps": 2.5}, r"steps must be a whole number >= 1 or None \(got 2\.5\)"),
    ({"steps": True}, r"steps must be a whole number >= 1 or None \(got True\)"),
    ({"period": "always"}, r"period must be a whole number >= 1 or never \(got 'always'\)"),
    ({"name": 3}, r"name must be a text \(got 3\)"),
])  # fmt: skip
def test_values_of_the_wrong_kind_are_named(wrong, says):
    with pytest.raises(FedSepError, match=says):
        factory("t", **wrong)


def test_other_types_are_left_to_others():
    assert argument_errors("task", 3, object) == []
    assert argument_errors("x", 3, None) == []
    with pytest.raises(TypeError):
        factory("t", unknown=3)


@pytest.mark.parametrize(("hint", "inside", "outside"), [
    (Positive, [1e-9, 5], [0, -1, math.nan]), (NonNegative, [0, 0.5], [-1e-9]), (Fraction, [1e-9, 1], [0, 1.1]),
    (Momentum, [0, 0.999], [1, -0.1]), (Count, [1, 7], [0]), (NonNegativeInt, [0, 7], [-1]),
])  # fmt: skip
def test_the_named_ranges(hint, inside, outside):
    assert not [value for value in inside if argument_errors("x", value, hint)]
    assert not [value for value in outside if not argument_errors("x", value, hint)]


def test_ranges_are_found_inside_unions_and_written_out():
    assert ranges_of(Count | Literal["auto"] | None) == [Range(ge=1)]
    assert ranges_of(float) == []
    assert str(Range(gt=0, le=1)) == "> 0 and <= 1"


class Local(TypedDict, total=False):
    lr: Positive
    steps: Count | None


def learner(*, steps: Count | None = None, lr: Positive = 0.1, own: int = 1) -> tuple:
    return lr, steps, own


@checked(takes=learner)
def method(task: str, *, p: Count, **local: Unpack[Local]) -> tuple:
    return (task, p, *learner(**local))


def test_arguments_that_are_passed_on_stand_in_the_signature_with_their_defaults_and_ranges():
    parameters = inspect.signature(method).parameters
    assert [(name, p.default) for name, p in parameters.items()] == [
        ("task", inspect.Parameter.empty), ("p", inspect.Parameter.empty), ("lr", 0.1), ("steps", None)]  # fmt: skip
    assert taken_from(method) is learner
    assert taken_from(factory) is None
    assert method("t", p=1) == ("t", 1, 0.1, None, 1)
    assert method("t", p=1, steps=2, lr=3.0) == ("t", 1, 3.0, 2, 1)


def test_arguments_that_are_passed_on_are_checked_under_the_name_of_what_was_called():
    with pytest.raises(FedSepError, match=r"^method: p must be >= 1 \(got 0\); lr must be > 0 \(got -1\)$"):
        method("t", p=0, lr=-1)
    with pytest.raises(TypeError, match="own"):
        method("t", p=1, own=3)


class More(Local, total=False):
    p: Count


@checked(takes=method)
def outer(task: str, **rest: Unpack[More]) -> tuple:
    return method(task, **rest)


def test_what_passes_arguments_on_may_be_passed_arguments_itself():
    parameters = inspect.signature(outer).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "task": inspect.Parameter.empty, "p": inspect.Parameter.empty, "lr": 0.1, "steps": None}  # fmt: skip
    assert taken_from(outer) is method
    assert outer("t", p=1, lr=3.0) == ("t", 1, 3.0, None, 1)
    with pytest.raises(FedSepError, match=r"^outer: lr must be > 0 \(got -1\)$"):
        outer("t", p=1, lr=-1)


def test_names_that_the_function_does_not_take_so_are_refused_at_once():
    class Other(TypedDict, total=False):
        lr: NonNegative
        rate: Positive

    def wrong(**local: Unpack[Other]) -> tuple:
        return learner(**local)

    with pytest.raises(TypeError, match="Other and learner disagree about lr, rate"):
        checked(takes=learner)(wrong)
