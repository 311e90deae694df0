"""A Google-style docstring in its parts."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_INDENT = "    "
_HEADER = re.compile(r"^([A-Z][A-Za-z ]*):$")


@dataclass(frozen=True)
class Docstring:
    """What a docstring says.

    Attributes:
        summary: The first line.
        body: What follows it, up to the first section.
        sections: Text by header, ``Bytes`` or ``Reference``; paragraphs between sections belong to the one before.
        arguments: What ``Args`` or ``Attributes`` says about each name.
    """

    summary: str
    body: str
    sections: Mapping[str, str]
    arguments: Mapping[str, str]


def docstring(thing: Any) -> Docstring:
    """The parts of an object's docstring; all empty where it has none."""
    lines = (inspect.getdoc(thing) or "").splitlines()
    cuts = [i for i, line in enumerate(lines) if _HEADER.match(line)] + [len(lines)]
    head = lines[: cuts[0]]
    blank = next((i for i, line in enumerate(head) if not line.strip()), len(head))
    sections = {
        lines[start].rstrip(":"): "\n".join(line.removeprefix(_INDENT) for line in lines[start + 1 : end]).strip()
        for start, end in pairwise(cuts)
    }
    arguments = sections.pop("Args", "") or sections.pop("Attributes", "")
    return Docstring(" ".join(head[:blank]), "\n".join(head[blank:]).strip(), sections, _arguments(arguments))


def _arguments(text: str) -> dict[str, str]:
    """``name: what it is``, continued by deeper lines."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        match = re.match(r"^(\*{0,2}\w+)(?: \([^)]*\))?: (.*)$", line)
        if match:
            name = match[1]
            found[name] = match[2]
        elif name and line.startswith(" "):
            found[name] += " " + line.strip()
    return found
