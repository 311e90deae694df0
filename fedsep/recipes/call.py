"""A checked call that a recipe asks for: what is called, with which arguments, and what is filled in later."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from fedsep.core import FedSepError
from fedsep.recipes.mistakes import Mistake, RecipeError


@dataclass(frozen=True)
class Reference:
    """A function that is handed over rather than called."""

    path: str
    function: Callable[..., Any]


@dataclass(frozen=True)
class _Around:
    """A target whose result is wrapped with an argument of its own; no closure, so that other processes can have it."""

    target: Callable[..., Any]
    name: str
    wrap: Callable[[Any, Any], Any]

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """Whose signature it has."""
        return self.target

    def __call__(self, **given: Any) -> Any:
        chosen = given.pop(self.name)
        return self.wrap(self.target(**given), chosen)


@dataclass(frozen=True)
class Call:
    """A ``use:`` block, bound to the signature it names; nothing has been called yet.

    Attributes:
        use: The dotted path.
        target: What the path names.
        arguments: Plain values, further calls and references, by parameter; lists and blocks may hold them.
        inject: Parameters that ``build`` fills in from its scope.
        path: Where the block stands in the recipe.
        defaults: Defaults of the parameters that the recipe leaves out, as they would be written in one.
        later: Whether the target is called by whoever is given it, with the arguments here already set.
        plain: Whether the block stands in a recipe without ``use:``, its place saying what it is.
    """

    use: str
    target: Callable[..., Any]
    arguments: Mapping[str, Any]
    inject: tuple[str, ...]
    path: str
    defaults: Mapping[str, Any]
    later: bool = False
    plain: bool = False

    def given(self, name: str) -> Any:
        """A plain argument, or its default; None if there is neither."""
        return self.arguments.get(name, self.defaults.get(name))

    def receives(self, name: str) -> bool:
        """Whether an argument of this name is given, or filled in: here, or in a call inside."""
        inner = _calls(self.arguments)
        return name in self.inject or name in self.arguments or any(part.receives(name) for part in inner)

    def build(self, scope: Mapping[str, Any]) -> Any:
        """Calls the target, after the calls inside its arguments.

        Args:
            scope: Values that parameters of these names receive unless the recipe gives them.

        Raises:
            RecipeError: The target, or a call inside, refused its arguments; its file name is empty.
        """
        given = {name: _built(value, scope) for name, value in self.arguments.items()}
        if self.later:
            return functools.partial(self.target, **given) if given else self.target
        filled = {name: scope[name] for name in self.inject if name in scope}
        try:
            return self.target(**{**filled, **given})
        except RecipeError:
            raise
        except FedSepError as error:
            raise RecipeError("", self.mistakes(error)) from error
        except Exception as error:
            if self.use.startswith("fedsep."):
                raise
            raise RecipeError("", [Mistake(self.path, f"{self.use} raised {type(error).__name__}: {error}")]) from error

    def mistakes(self, error: FedSepError) -> list[Mistake]:
        """A refusal as mistakes of this block, each at the parameter with which its text begins, here or further in."""
        text = str(error).removeprefix(f"{self.use.rpartition('.')[2]}: ")
        parts = text.split("; ")
        located = [self._located(part) for part in parts]
        return [m for m in located if m] if all(located) else [self._located(text) or Mistake(self.path, text)]

    def around(self, name: str, settings: Call, wrap: Callable[[Any, Any], Any]) -> Call:
        """The call with a block of settings beside its arguments; what it gives is wrapped with what they give."""
        target = _Around(self.target, name, wrap)
        return replace(self, target=target, arguments={**self.arguments, name: replace(settings, plain=True)})

    def resolved(self) -> dict[str, Any]:
        """The block with every plain argument written out, so that later defaults do not change what it means."""
        given = {name: _resolved(value) for name, value in self.arguments.items()}
        places = {name: i for i, name in enumerate(inspect.signature(self.target).parameters)}
        names = sorted({**given, **self.defaults}, key=lambda name: places.get(name, len(places)))
        use = {} if self.plain else {"use": self.use}
        return {**use, **{name: given.get(name, self.defaults.get(name)) for name in names}}

    def _located(self, text: str) -> Mistake | None:
        match = re.match(r"(\w+) +(?=must|is|=|>|<|does|has|\()", text)
        if match is None:
            return None
        if match[1] not in (*self.arguments, *self.defaults):
            inner = (part._located(text) for part in self.arguments.values() if isinstance(part, Call))
            return next((found for found in inner if found), None)
        rest = text[match.end() :]
        return Mistake(f"{self.path}.{match[1]}", rest if rest[0].isalpha() else text)


def _built(value: Any, scope: Mapping[str, Any]) -> Any:
    match value:
        case Call():
            return value.build(scope)
        case Reference():
            return value.function
        case list() | tuple() if any(_deep(part) for part in value):
            return type(value)(_built(part, scope) for part in value)
        case dict() if any(_deep(part) for part in value.values()):
            return {key: _built(part, scope) for key, part in value.items()}
        case _:
            return value


def _calls(value: Any) -> Iterator[Call]:
    """The calls in an argument, in lists and mappings too."""
    if isinstance(value, Call):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        parts = cast(Iterable[Any], value.values() if isinstance(value, Mapping) else value)
        for part in parts:
            yield from _calls(part)


def _deep(value: Any) -> bool:
    return isinstance(value, Call | Reference | list | tuple | dict)


def _resolved(value: Any) -> Any:
    match value:
        case Call():
            return value.resolved()
        case Reference():
            return value.path
        case list() | tuple() | set() | frozenset():
            return [_resolved(part) for part in value]
        case dict():
            return {key: _resolved(part) for key, part in value.items()}
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)
