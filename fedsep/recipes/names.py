"""Names of methods: what a run's folder is called, and how ``--set`` reaches a method."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fedsep.recipes.mistakes import Mistake, shown

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+=-]*")


def method_names(blocks: Sequence[Any]) -> list[str]:
    """One name per method block: its ``name``, or its factory's name, with ``_2``, ``_3`` for repeats."""
    names: list[str] = []
    for i, block in enumerate(blocks):
        wanted = _wanted(block, i)
        name, count = wanted, 1
        while name in names or (count > 1 and name in map(_given, blocks)):
            count += 1
            name = f"{wanted}_{count}"
        names.append(name)
    return names


def name_mistakes(blocks: Sequence[Any]) -> list[Mistake]:
    """What is wrong with the names that the blocks give themselves."""
    mistakes: list[Mistake] = []
    seen: set[str] = set()
    for i, block in enumerate(blocks):
        if not isinstance(block, dict) or "name" not in block:
            continue
        name, path = block["name"], f"methods.{i}.name"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            reason = "must be letters, digits, _, -, + or =: it becomes a folder, and --set finds it between dots"
            mistakes.append(Mistake(path, reason, shown(name)))
        elif name in seen:
            mistakes.append(Mistake(path, "another method has this name", shown(name)))
        else:
            seen.add(name)
    return mistakes


def _given(block: Any) -> str:
    """The name that a block gives itself; empty if that is none or cannot be one."""
    name = block.get("name") if isinstance(block, dict) else None
    return name if isinstance(name, str) and _NAME.fullmatch(name) else ""


def _wanted(block: Any, index: int) -> str:
    use = block.get("use") if isinstance(block, dict) else None
    factory = use.rpartition(".")[2] if isinstance(use, str) else ""
    return _given(block) or (factory if _NAME.fullmatch(factory) else str(index))
