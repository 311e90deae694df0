"""A digest of what recipes may say: two ends that read the same text by other rules would run other methods."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any


@cache
def grammar() -> str:
    """Of the keys of a recipe, and of the arguments of every part with their defaults, which a recipe may leave out."""
    text = json.dumps(dict(_rules()), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _rules() -> Iterator[tuple[str, Any]]:
    from fedsep.flower.rules import parts
    from fedsep.recipes.reading import SETTINGS
    from fedsep.recipes.shape import Shape

    yield "recipe", sorted(Shape.model_fields)
    for name, target in SETTINGS.items():
        yield name, _arguments(target)
    for path, target in parts().items():
        yield path, _arguments(target)


def _arguments(target: Callable[..., Any]) -> list[tuple[str, Any]]:
    """Names with defaults as a recipe would write them; those that it cannot write are told by their type."""
    from fedsep.recipes.bind import written

    parameters = inspect.signature(target).parameters.values()
    return [(each.name, written(each.default) or type(each.default).__name__) for each in parameters]
