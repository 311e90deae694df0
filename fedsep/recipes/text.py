"""YAML 1.2 text to a tree of plain values and back.

PyYAML speaks YAML 1.1, in which ``1e-3`` is text, ``no`` is false and ``012`` is ten; here the scalars of
YAML 1.2's core schema hold. A key that is given twice is a mistake: YAML would silently take the last one.
"""

from __future__ import annotations

import re
from pathlib import Path as FilePath
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from fedsep.recipes.mistakes import Mistake, RecipeError

Path = tuple[str, ...]

_TAG = "tag:yaml.org,2002:"
_MOST = 100_000  # values in a text: some hundred characters of aliases can stand for more than fit memory
_DEEPEST = 100  # blocks and lists in one another
_DEEP = Mistake("", "lists and blocks are nested too deeply")
_SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - PyYAML's way


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        """Equal values are written out twice: a reader should not have to follow ``*id001``."""
        return True


for _kind, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern})$"), _first)


def parse(text: str, file: str) -> Any:
    """The values that a text holds.

    Args:
        text: YAML.
        file: Name of the file, for messages.

    Raises:
        RecipeError: It is no YAML (with line and column), a key is given twice, or a value refers to itself.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise RecipeError(file, [_syntax(error)]) from None
    except yaml.YAMLError as error:
        raise RecipeError(file, [Mistake("", f"not readable as YAML: {str(error).splitlines()[0]}")]) from None
    except RecursionError:
        raise RecipeError(file, [_DEEP]) from None
    mistakes: list[Mistake] = []
    value = None if node is None else _expanded(node, mistakes)
    if mistakes:
        raise RecipeError(file, mistakes)
    return value


def file_tree(file: FilePath | str) -> Any:
    """The values that a file holds.

    Raises:
        RecipeError: As of ``parse``, and where the file cannot be read.
    """
    try:
        text = FilePath(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "") or str(error)
        raise RecipeError(str(file), [Mistake("", f"cannot be read: {reason}")]) from None
    return parse(text, str(file))


def dump(tree: Any) -> str:
    """Plain values as YAML text that ``parse`` reads back to the same values."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True, default_flow_style=None)


def inline(value: Any) -> str:
    """A value as YAML on one line, as it is written in ``--set``."""
    return yaml.dump([value], Dumper=_Dumper, width=2**30, allow_unicode=True, default_flow_style=True).strip()[1:-1]


def _syntax(error: yaml.MarkedYAMLError) -> Mistake:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    reason = f"{error.problem or 'not readable as YAML'}"
    return Mistake(where, reason + (f", {error.context}" if error.context else ""))


def _expanded(node: Node, mistakes: list[Mistake]) -> Any:
    """A node's values, if they are not too many."""
    try:
        count = _count(node, {})
        if count <= _MOST:
            return _value(node, (), (), mistakes)
        told = f"{count:,}" if count < _MOST**2 else "far more"
        mistakes.append(Mistake("", f"must have at most {_MOST:,} values, those behind aliases (*name) too", told))
    except RecursionError:
        mistakes.append(_DEEP)
    return None


def _count(node: Node, known: dict[int, int]) -> int:
    """How many values a node stands for, those behind aliases as often as they are named; nothing is expanded."""
    if id(node) not in known:
        known[id(node)] = 1  # of a node in itself, which is told later
        pairs = node.value if isinstance(node, MappingNode) else ()
        parts = [part for _, part in pairs] or (node.value if isinstance(node, SequenceNode) else ())
        known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    return known[id(node)]


def _value(node: Node, path: Path, above: tuple[int, ...], mistakes: list[Mistake]) -> Any:
    if id(node) in above:
        mistakes.append(Mistake(".".join(path), "refers to itself"))
        return None
    above = (*above, id(node))
    if len(above) > _DEEPEST:
        raise RecursionError  # here rather than wherever the values are walked through
    if isinstance(node, SequenceNode):
        return [_value(part, (*path, str(i)), above, mistakes) for i, part in enumerate(node.value)]
    if isinstance(node, MappingNode):
        return _mapping(node, path, above, mistakes)
    return _scalar(node, path, mistakes)


def _mapping(node: MappingNode, path: Path, above: tuple[int, ...], mistakes: list[Mistake]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, ScalarNode) else "?"
        line = key_node.start_mark.line + 1
        where = (*path, key)
        if key in result:
            mistakes.append(Mistake(".".join(where), f"given twice, in lines {lines[key]} and {line}"))
        lines.setdefault(key, line)
        result[key] = _value(value_node, where, above, mistakes)
    return result


def _scalar(node: Node, path: Path, mistakes: list[Mistake]) -> Any:
    text = node.value
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        case "str":
            return text
        case _:
            mistakes.append(Mistake(".".join(path), "YAML tags are not used in recipes", node.tag))
            return None
