"""``fedsep show``: what something does, its parameters, what it sends, where its source is."""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any

from rich import box
from rich.table import Table

from fedsep.cli.docstring import Docstring, docstring
from fedsep.cli.entry import DONE
from fedsep.cli.kinds import KINDS, part, parts
from fedsep.cli.options import Talk
from fedsep.cli.screen import Screen
from fedsep.core import FedSepError
from fedsep.ranges import taken_from
from fedsep.recipes.bind import signature, written
from fedsep.recipes.hints import describe
from fedsep.recipes.mistakes import shown
from fedsep.recipes.resolve import UnknownPath
from fedsep.recipes.shipped import folder, names

_ADDRESS = re.compile(r"<(?:[\w.]+ )*?(?:\w+\.)*(\w+)(?: object)? at 0x[0-9a-f]+>")
"""Python's way to write what has no better one: it tells a reader the name, and nobody the address."""

_FILLED_IN = {
    "methods": ("task", "seed", "clients"),
    "models": ("shape", "classes", "seed"),
    "tasks": ("model",),
    "datasets": ("seed", "data_dir", "download"),
    "learners": ("task",),
}


def show(name: str, allow: tuple[str, ...] = ()) -> int:
    """Prints all that is known about a part, or a shipped recipe's text.

    Raises:
        FedSepError: There is nothing of this name.
    """
    screen = Screen(Talk())
    if name in names():
        screen.result((folder() / f"{name}.yaml").read_text(encoding="utf-8"))
        return DONE
    try:
        path, found = part(name, allow)
    except UnknownPath as error:
        raise FedSepError(error.reason + (f" (did you mean {error.meant}?)" if error.meant else "")) from None
    doc = docstring(found)
    screen.result(f"{path}\n{doc.summary}\n")
    if doc.body:
        screen.result(_indented(doc.body) + "\n")
    _parameters(screen, path, found, doc)
    for header, text in doc.sections.items():
        screen.result(f"{header}\n{_indented(text)}\n")
    screen.result(f"Source\n  {_source(found)}")
    return DONE


def _parameters(screen: Screen, path: str, found: Any, doc: Docstring) -> None:
    taken = signature(found)[0]
    filled = [name for name in _filled_in(path) if name in taken]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for column in ("name", "is", "default", "means"):
        table.add_column(column, overflow="fold")
    means = _passed_on(found) | dict(doc.arguments)
    for name, parameter in taken.items():
        if name not in filled and not name.startswith("_"):
            table.add_row(name, describe(parameter.hint), _default(parameter.default), means.get(name, ""))
    if table.row_count:
        screen.result("Parameters")
        screen.result(table)
    if filled:
        screen.result(f"A recipe fills in {', '.join(filled)}.\n")


def _passed_on(found: Any) -> dict[str, str]:
    """What is said about arguments by the functions that they are passed on to."""
    takes = taken_from(found)
    return {} if takes is None else _passed_on(takes) | dict(docstring(takes).arguments)


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    block = written(value)
    if isinstance(block, dict):
        return block["use"].rpartition(".")[2]
    if callable(value):
        return _called(value)
    if isinstance(value, str) or block is None:
        text = _ADDRESS.sub(r"\1", str(value))
        return type(value).__name__ if " at 0x" in text else text
    return shown(block, 30)


def _called(value: Any) -> str:
    """A function by its name, or what it does where the name is nobody else's business."""
    while isinstance(value, functools.partial):
        value = value.func
    name = getattr(value, "__name__", "") or type(value).__name__
    return docstring(value).summary.rstrip(".") or "a function" if name.startswith(("_", "<")) else name


def _filled_in(path: str) -> tuple[str, ...]:
    kinds = [kind for kind in _FILLED_IN if any(path == known for known, _ in parts(kind))]
    return _FILLED_IN[kinds[0]] if kinds else ()


def _source(found: Any) -> str:
    plain = inspect.unwrap(found)
    try:
        return f"{inspect.getsourcefile(plain)}:{inspect.getsourcelines(plain)[1]}"
    except (OSError, TypeError):
        return "not available"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.splitlines())


__all__ = ["KINDS", "show"]
