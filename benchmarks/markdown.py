"""Tables for the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; a bar inside a cell does not end it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def machine(environment: Mapping[str, Any]) -> str:
    """Where and when a record was made: a GPU, where one computed, else the processor."""
    of = environment["machine"]
    where = of.get("gpu", f"{of['cpu']}, {of['cores']} cores")
    return f"{where}, torch {environment['torch']}, {environment['started']}."
