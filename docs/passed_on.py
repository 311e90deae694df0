"""Reference pages list the arguments that a factory passes on, ``@checked(takes=sgd)``, as ``fedsep show`` does."""

from __future__ import annotations

import re
from typing import Any

from griffe import (
    DocstringSectionKind,
    ExprCall,
    ExprKeyword,
    Extension,
    Function,
    Module,
    Parameter,
    ParameterKind,
)


class PassedOn(Extension):
    """Puts names, defaults and descriptions from the function that takes them in the place of ``**local``."""

    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        for module in _modules(pkg):
            for function in module.functions.values():
                source = None if function.is_alias else _source(function)
                if source is not None:
                    _spell_out(function, *source)


def _modules(module: Module) -> list[Module]:
    return [module, *(inner for part in module.modules.values() if not part.is_alias for inner in _modules(part))]


def _source(function: Function) -> tuple[Function, list[str]] | None:
    """The function that takes the arguments, and the names in the typed dictionary."""
    if not any(p.kind is ParameterKind.var_keyword for p in function.parameters):
        return None
    for decorator in function.decorators:
        if isinstance(decorator.value, ExprCall):
            for argument in decorator.value.arguments:
                if isinstance(argument, ExprKeyword) and argument.name == "takes":
                    [rest] = [p for p in function.parameters if p.kind is ParameterKind.var_keyword]
                    names = function.modules_collection[rest.annotation.slice.canonical_path]
                    takes = function.modules_collection[argument.value.canonical_path]
                    every = [name for each in (names, *names.mro()) for name in each.attributes]
                    return takes, list(dict.fromkeys(every))
    return None


def _spell_out(function: Function, takes: Function, names: list[str]) -> None:
    further = _source(takes)
    if further is not None:  # it passes some of them on itself
        _spell_out(takes, *further)
    [rest] = [p.name for p in function.parameters if p.kind is ParameterKind.var_keyword]
    section = next(p for p in takes.docstring.parse("google") if p.kind is DocstringSectionKind.parameters)
    means = {each.name: " ".join(each.description.split()) for each in section.value}
    del function.parameters[rest]
    for name in names:
        given = takes.parameters[name]
        function.parameters.add(Parameter(name, annotation=given.annotation, kind=given.kind, default=given.default))
    text = "".join(f"    {name}: {means[name]}\n" for name in names)
    entry = re.compile(rf"^    \*\*{rest}: .*\n(?: {{8}}.*\n)*", re.MULTILINE)
    function.docstring.value = entry.sub(lambda _: text, function.docstring.value + "\n").rstrip("\n")
