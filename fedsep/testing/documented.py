"""What a factory's docstring promises: closed forms of its bytes, its memory, and where it comes from."""

from __future__ import annotations

import ast
import inspect
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from fedsep.testing.broken import LawBroken
from fedsep.testing.play import Played

Size = float | Callable[[Played, int, int], float]
"""The value of a name: a number, or what is counted in a run, a round and a client: how many coordinates changed."""

SECTIONS = ("Bytes", "Memory", "Reference")
LAW = "a factory's docstring has the sections Bytes: (with `up:` and `down:`), Memory: and Reference:"

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.USub: operator.neg,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min, "max": max, "ceil": math.ceil, "floor": math.floor, "round": round,
    "sqrt": math.sqrt, "log2": math.log2,
}  # fmt: skip


def documented_bytes(factory: Callable[..., Any], sizes: Mapping[str, float]) -> dict[str, int]:
    """Payload bytes ``up`` and ``down`` by the docstring's closed forms.

    Args:
        factory: A function whose docstring has a section ``Bytes:`` with the lines ``up: EXPRESSION`` and
            ``down: EXPRESSION``, for a client that is never away, in float32.
        sizes: Values of the names in the expressions: ``d``, the model's parameters, ``p``, and the method's own.

    Raises:
        LawBroken: A section or a line is missing, or an expression cannot be read.
    """
    subject, text = factory.__name__, inspect.getdoc(factory) or ""
    sections = {name: _section(text, name) for name in SECTIONS}
    missing = [f"{name}:" for name, body in sections.items() if not body.strip()]
    if missing:
        raise LawBroken(LAW, subject, "all of them", f"nothing under {', '.join(missing)}")
    return {direction: _value(subject, direction, sections["Bytes"], sizes) for direction in ("up", "down")}


def sizes_of(sizes: Mapping[str, Size], played: Played, round: int, client: int) -> dict[str, float]:
    """The values of the names in one client's part of one round: those that depend on it are counted."""
    return {name: size(played, round, client) if callable(size) else size for name, size in sizes.items()}


def _section(text: str, name: str) -> str:
    """The indented lines under ``name:``."""
    found = re.search(rf"^{name}:[ \t]*\n((?:[ \t]+\S.*\n?|[ \t]*\n)+)", text + "\n", re.MULTILINE)
    return found.group(1) if found else ""


def _value(subject: str, direction: str, section: str, sizes: Mapping[str, float]) -> int:
    found = re.search(rf"^\s*{direction}:\s*(.+?)\s*$", section, re.MULTILINE)
    if found is None:
        raise LawBroken(LAW, subject, f"a line `{direction}: EXPRESSION` under Bytes:", repr(section.strip()))
    try:
        return int(_evaluate(ast.parse(found.group(1), mode="eval").body, sizes))
    except (SyntaxError, ValueError, TypeError) as error:
        names = ", ".join(sorted([*sizes, *_FUNCTIONS]))
        raise LawBroken(LAW, subject, f"arithmetic on {names}", f"{direction}: {found.group(1)} ({error})") from error


def _evaluate(node: ast.AST, sizes: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Name(id=name) if name in sizes:
            return sizes[name]
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_evaluate(left, sizes), _evaluate(right, sizes))
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_evaluate(operand, sizes))
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_evaluate(argument, sizes) for argument in arguments))
        case _:
            raise ValueError(f"{ast.unparse(node)!r} is not known")
