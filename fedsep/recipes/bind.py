"""``use:`` blocks against the signatures they name: every mistake is found, nothing is called."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, NamedTuple, get_origin

from fedsep.recipes.call import Call, Reference
from fedsep.recipes.hints import arms, bare, convert, describe, element, is_callable, is_plain
from fedsep.recipes.mistakes import Mistake, nearest, shown
from fedsep.recipes.produces import produced, unfit_reason
from fedsep.recipes.resolve import UnknownPath, resolve


class Scope(NamedTuple):
    """What parameters receive by their name: ``fills`` may be given in the recipe, ``keeps`` may not.

    Attributes:
        fills: Names that are filled in unless the recipe gives them.
        keeps: Names that are always filled in, each with where the value comes from.
        beside: Blocks that may stand beside the arguments and are bound by themselves, to be offered to whoever
            misspells one.
    """

    fills: tuple[str, ...] = ()
    keeps: Mapping[str, str] = {}
    beside: tuple[str, ...] = ()


class _Parameter(NamedTuple):
    hint: Any
    default: Any


@dataclass
class Binder:
    """Binds blocks and collects what is wrong with them.

    Attributes:
        allow: Packages beside ``fedsep`` that may be named.
        mistakes: Found so far.
    """

    allow: Sequence[str] = ()
    mistakes: list[Mistake] = field(default_factory=list[Mistake])

    def block(self, block: Any, path: str, scope: Scope, wanted: Any = Any) -> Call | None:
        """A ``use:`` block as a call; None where it cannot be bound at all.

        Args:
            block: From the recipe.
            path: Where it stands.
            scope: What is filled in by name, here and in the blocks inside.
            wanted: The type that the call should give.
        """
        if not isinstance(block, dict):
            self._wrong(path, "must be a block with use:", shown(block))
            return None
        use = block.get("use")
        if not isinstance(use, str):
            missing = "" if "use" in block else "is missing: it "
            reason = f"{missing}must be a dotted path, as in fedsep.data.digits"
            self._wrong(f"{path}.use", reason, shown(use) if use else "")
            return None
        later = self._called_later(use, wanted)
        target = self._target(use, f"{path}.use", Any if later else wanted)
        given = {key: value for key, value in block.items() if key != "use"}
        if target is None:
            return None
        if not later:
            return self.call(target, use, given, path, scope)
        places = list(signature(target)[0])[:later]
        keeps = {**scope.keeps, **dict.fromkeys(places, "where it is used")}
        return replace(self.call(target, use, given, path, scope._replace(keeps=keeps)), inject=(), later=True)

    def call(
        self, target: Callable[..., Any], use: str, given: Mapping[str, Any], path: str, scope: Scope = Scope()
    ) -> Call:
        """A call of ``target`` with the arguments ``given``, each checked against its parameter."""
        parameters, open_ended = signature(target)
        filled = {*scope.keeps, *(name for name in scope.fills if name not in given)}
        left_out = {name: p for name, p in parameters.items() if name not in filled and name not in given}
        for name, parameter in left_out.items():
            if parameter.default is inspect.Parameter.empty:
                self._wrong(f"{path}.{name}", f"is missing: {use} needs {describe(parameter.hint)}")
        arguments: dict[str, Any] = {}
        for name, value in given.items():
            where = f"{path}.{name}"
            if name in scope.keeps and name in parameters:
                self._wrong(where, f"is filled in from {scope.keeps[name]}: leave it out", shown(value))
            elif name in parameters or open_ended:
                hint = parameters[name].hint if name in parameters else Any
                arguments[name] = self.value(value, hint, where, scope)
            else:
                offered = [other for other in (*parameters, *scope.beside) if other not in scope.keeps]
                self._unknown(where, use, name, value, offered)
        inject = tuple(name for name in parameters if name in filled)
        return Call(use, target, arguments, inject, path, _written_defaults(left_out))

    def value(self, value: Any, hint: Any, path: str, scope: Scope) -> Any:
        """One argument: a plain value, a block, a function's path, or a list or mapping of these."""
        if isinstance(value, dict) and "use" in value:
            return self._made(value, hint, path, scope)
        if isinstance(value, str) and any(is_callable(arm) for arm in arms(hint)) and not _is_word(value, hint):
            target = self._target(value, path, Any)
            return target and Reference(value, target)
        if isinstance(value, list) and _holds_block(value):
            return [self.value(part, element(hint), f"{path}.{i}", scope) for i, part in enumerate(value)]
        if isinstance(value, dict) and _holds_block(list(value.values())):
            inner = _mapped(hint)
            return {key: self.value(part, inner, f"{path}.{key}", scope) for key, part in value.items()}
        result, mistakes = convert(value, hint, path)
        self.mistakes += mistakes
        return result

    def _called_later(self, use: str, wanted: Any) -> int:
        """How many arguments ``use`` receives later, where a function is wanted and it is that function; else 0.

        ``operator: {use: fedsep.operators.sparse_signs, nonzeros: 4}`` is the function of p, d and a key with that
        argument set; ``schedule: {use: fedsep.learners.cosine, rounds: 100}`` is called, and gives a function.
        """
        if not is_callable(wanted) or not typing.get_args(bare(wanted)):
            return 0
        taken, gives = typing.get_args(bare(wanted))
        try:
            target = resolve(use, self.allow)
        except (UnknownPath, ImportError):
            return 0
        fits = produced(target) is not None and isinstance(taken, list) and not unfit_reason(use, target, gives)
        return len(typing.cast(list[Any], taken)) if fits and inspect.isclass(get_origin(gives) or gives) else 0

    def _made(self, block: dict[str, Any], hint: Any, path: str, scope: Scope) -> Call | None:
        made = [arm for arm in arms(hint) if not is_plain(arm) or bare(arm) is Any]
        if not made:
            self._wrong(path, f"must be {describe(hint)}", f"a block with use: {block['use']}")
            return None
        return self.block(block, path, scope, made[0] if len(made) == 1 else Any)

    def _target(self, use: str, path: str, wanted: Any) -> Callable[..., Any] | None:
        try:
            target = resolve(use, self.allow)
        except UnknownPath as error:
            self._wrong(path, error.reason, meant=error.meant)
            return None
        except ImportError as error:
            self._wrong(path, f"importing {use} failed: {error}")
            return None
        reason = unfit_reason(use, target, wanted)
        if reason:
            self._wrong(path, reason)
            return None
        return target

    def _unknown(self, path: str, use: str, name: str, value: Any, offered: list[str]) -> None:
        reason = f"{use} has no such {'argument' if '.' in use else 'key'}"
        self._wrong(path, reason, shown(value), nearest(name, offered) or _few(offered))

    def _wrong(self, path: str, reason: str, got: str = "", meant: str = "") -> None:
        self.mistakes.append(Mistake(path, reason, got, meant))


def signature(target: Callable[..., Any]) -> tuple[dict[str, _Parameter], bool]:
    """A callable's named parameters with their type hints, and whether it takes others too."""
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except Exception:  # a hint that names what only a type checker imports: then values are not checked
        hints = {}
    parameters = inspect.signature(target).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = {p.name: _Parameter(hints.get(p.name, Any), p.default) for p in parameters if p.kind in kinds}
    return named, any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def written(default: Any) -> Any:
    """A default as a recipe would write it; None if it cannot be written.

    A function is written as its path; a description such as ``Iid()`` as the factory of that name, if the factory's
    own defaults give it.
    """
    if default is None or isinstance(default, bool | int | float | str):
        return default
    if inspect.isfunction(default):
        return _path_of(default)
    if isinstance(default, list | tuple):
        return None if any(written(part) is None for part in default) else [written(part) for part in default]
    kind: type[Any] = type(default)
    path = f"{kind.__module__.rpartition('.')[0]}.{kind.__name__.lower()}"
    try:
        return {"use": path} if is_dataclass(default) and resolve(path)() == default else None
    except (UnknownPath, TypeError):
        return None


def _path_of(function: Callable[..., Any]) -> str | None:
    """The path by which a recipe names a function: that of the package which exports it."""
    path = f"{function.__module__.rpartition('.')[0]}.{function.__name__}"
    try:
        return path if resolve(path) is function else None
    except (UnknownPath, ImportError):
        return None


def _written_defaults(parameters: Mapping[str, _Parameter]) -> dict[str, Any]:
    pairs = ((name, parameter.default, written(parameter.default)) for name, parameter in parameters.items())
    return {name: text for name, default, text in pairs if default is None or text is not None}


def _few(names: list[str]) -> str:
    return ", ".join(names[:-1]) + " or " * (len(names) > 1) + names[-1] if 0 < len(names) <= 4 else ""


def _holds_block(values: list[Any]) -> bool:
    return any(isinstance(value, dict) and "use" in value for value in values)


def _is_word(value: str, hint: Any) -> bool:
    """Whether a text is one of the words that a hint lists, and so no path, though functions are taken as well."""
    return any(get_origin(bare(arm)) is typing.Literal and value in typing.get_args(bare(arm)) for arm in arms(hint))


def _mapped(hint: Any) -> Any:
    for arm in arms(hint):
        if get_origin(bare(arm)) in (dict, Mapping):
            return typing.get_args(bare(arm))[1]
    return Any
