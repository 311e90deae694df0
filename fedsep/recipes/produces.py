"""Whether what a callable gives, by its annotation, can be what is wanted: a model is no data set.

Only what is certain is refused; without an annotation everything passes.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any, get_origin

from fedsep.recipes.hints import arms, bare, is_callable


def unfit_reason(use: str, target: Callable[..., Any], wanted: Any) -> str:
    """Why ``target`` cannot give a ``wanted``; empty if it can, or if that is not known."""
    made = produced(target)
    wanted = bare(wanted)
    kind = get_origin(wanted) or wanted
    if made is None or kind is Any:
        return ""
    if is_callable(wanted):
        fits = callable(getattr(made, "__call__", None))  # noqa: B004 - the class, not an instance, is asked
        return "" if fits else f"{use} gives a {made.__name__}, not a function"
    if not inspect.isclass(kind):
        return ""
    fits = members(kind) <= attributes(made) if _protocol(kind) else _related(made, kind)
    return "" if fits else f"{use} gives a {made.__name__}, not a {kind.__name__}"


def produced(target: Callable[..., Any]) -> type | None:
    """The class that a callable gives; None where its annotation does not tell."""
    if inspect.isclass(target):
        return target
    try:
        hint = typing.get_type_hints(target).get("return", Any)
    except Exception:  # a hint that names what only a type checker imports
        return None
    choices = [get_origin(bare(arm)) or bare(arm) for arm in arms(hint)]
    known = [kind for kind in choices if inspect.isclass(kind) and kind not in (object, Any)]
    return known[0] if len(known) == len(choices) == 1 else None


def members(protocol: type) -> set[str]:
    """The public names that a protocol asks for."""
    bases = [base for base in protocol.__mro__ if _protocol(base) and base.__name__ not in ("Protocol", "Generic")]
    return {
        name
        for base in bases
        for name in (*vars(base), *vars(base).get("__annotations__", {}))
        if not name.startswith("_")
    }


def attributes(made: type) -> set[str]:
    """The names that instances of a class have: methods, properties and annotated fields."""
    return set(dir(made)).union(*(vars(base).get("__annotations__", {}) for base in made.__mro__))


def _related(made: type, kind: type) -> bool:
    return issubclass(made, kind) or issubclass(kind, made) or _protocol(made)


def _protocol(kind: type) -> bool:
    return bool(getattr(kind, "_is_protocol", False))
