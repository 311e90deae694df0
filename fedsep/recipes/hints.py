"""Values from a recipe against the type hints of a signature: convert what is meant, say what is wanted.

An integral float is an integer (``1e3``), an integer is a float, a list is a tuple; a truth value is no number
and text is no number. Ranges come from ``fedsep.ranges``.
"""

from __future__ import annotations

import functools
import json
import operator
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from fedsep.ranges import Range, ranges_of
from fedsep.recipes.mistakes import Mistake, nearest, shown

_SCALARS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    Path: "a path",
    type(None): "null",
}
_LISTS = (list, tuple, set, frozenset, Sequence, Iterable)
_BLOCKS = (dict, Mapping)


def arms(hint: Any) -> list[Any]:
    """The alternatives of a hint: the members of a union, or the hint alone; aliases and metadata opened."""
    if get_origin(hint) in (Union, types.UnionType):
        return [arm for part in get_args(hint) for arm in arms(part)]
    if hasattr(hint, "__value__"):
        return arms(hint.__value__)
    if get_origin(hint) is Annotated and get_origin(get_args(hint)[0]) in (Union, types.UnionType):
        return arms(get_args(hint)[0])
    return [hint]


def bare(hint: Any) -> Any:
    """A hint without its metadata."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def is_plain(hint: Any) -> bool:
    """Whether values of this type are written as numbers, text, lists or blocks, rather than built by ``use:``."""
    hint = bare(hint)
    origin = get_origin(hint) or hint
    if origin is Literal or origin in _SCALARS or origin is Any:
        return True
    inner = [part for part in get_args(hint) if part is not Ellipsis]
    return origin in (*_LISTS, *_BLOCKS) and all(is_plain(arm) for part in inner for arm in arms(part))


def is_callable(hint: Any) -> bool:
    """Whether the hint is a function type: its values are named by their dotted path."""
    return (get_origin(bare(hint)) or bare(hint)) is Callable


def element(hint: Any) -> Any:
    """The hint of a list's elements, ``Any`` where there is none."""
    for arm in arms(hint):
        if (get_origin(bare(arm)) or bare(arm)) in _LISTS:
            inner = [part for part in get_args(bare(arm)) if part is not Ellipsis]
            return inner[0] if len(set(inner)) == 1 else Any
    return Any


def describe(hint: Any) -> str:
    """What a value of this type looks like in a recipe: ``a whole number or null``."""
    words = list(dict.fromkeys(_describe(arm) for arm in arms(hint)))
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def _describe(hint: Any) -> str:
    bounds = [str(bound) for bound in ranges_of(hint)] if get_origin(hint) is Annotated else []
    return " ".join([_kind(bare(hint)), *bounds])


def _kind(hint: Any) -> str:
    origin = get_origin(hint) or hint
    if origin is Literal:
        values = [str(value) for value in get_args(hint)]
        return values[0] if len(values) == 1 else "one of " + ", ".join(values)
    if origin in _SCALARS:
        return _SCALARS[origin]
    if origin in _LISTS:
        inner = element(hint)
        return "a list" if inner is Any else "a list, each " + describe(inner)
    if origin in _BLOCKS:
        return "a block"
    if is_callable(hint):
        return "a block with use: or the dotted path of a function"
    return "anything" if hint is Any else "a block with use:"


def convert(value: Any, hint: Any, path: str) -> tuple[Any, list[Mistake]]:
    """A plain value as the hint wants it, and what is wrong with it.

    Args:
        value: From the recipe, without ``use:`` blocks inside.
        hint: The argument's annotation.
        path: Where the value stands, for the message.
    """
    plain = [arm for arm in arms(hint) if is_plain(arm)]
    if not plain:
        return value, [Mistake(path, f"must be {describe(hint)}", shown(value))]
    try:
        wanted: TypeAdapter[Any] = TypeAdapter(functools.reduce(operator.or_, plain))
        result = wanted.validate_json(json.dumps(whole(value)), strict=True)
    except ValidationError:
        return value, [_unfit(value, hint, path)]
    except TypeError:
        return value, []
    return result, _range_mistakes(value, hint, path)


def whole(value: Any) -> Any:
    """Integral floats as integers: strict types then take ``1e3`` for an integer, and floats take integers."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [whole(part) for part in value]
    return {key: whole(part) for key, part in value.items()} if isinstance(value, dict) else value


def _unfit(value: Any, hint: Any, path: str) -> Mistake:
    inner = element(hint)
    if isinstance(value, list) and inner is not Any:
        wrong = [(i, part) for i, part in enumerate(value) if convert(part, inner, "")[1]]
        if wrong:
            return _unfit(wrong[0][1], inner, f"{path}.{wrong[0][0]}")
    choices = [str(c) for arm in arms(hint) if get_origin(bare(arm)) is Literal for c in get_args(bare(arm))]
    meant = nearest(value, choices) if isinstance(value, str) else ""
    return Mistake(path, f"must be {describe(hint)}", shown(value), meant)


def _range_mistakes(value: Any, hint: Any, path: str) -> list[Mistake]:
    if isinstance(value, list):
        inner = element(hint)
        return [m for i, part in enumerate(value) for m in _range_mistakes(part, inner, f"{path}.{i}")]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return []
    bounds: list[Range] = ranges_of(hint)
    return [Mistake(path, f"must be {bound.demand(value)}", shown(value)) for bound in bounds if not bound.holds(value)]
