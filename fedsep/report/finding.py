"""Finds the run folders that a user means: a run, or anything above it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from fedsep.core import FedSepError

DEPTH = 4
"""How many levels below a given folder runs are looked for: sweep/variant/method/seed."""

_SIGNS = ("metrics.jsonl", "summary.json", "environment.json")

Paths = str | Path | Iterable[str | Path]
"""One path or several."""


def find_runs(paths: Paths) -> list[Path]:
    """The run folders at or below ``paths``, each once, in natural order (seed2 before seed10).

    Args:
        paths: Run folders, or results folders that hold ``<method>/seed<k>``.

    Raises:
        FedSepError: A path does not exist, is a file, or holds no run; all such paths are named.
    """
    given = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    found: dict[Path, Path] = {}
    mistakes: list[str] = [] if given else ["no run folder is given"]
    for path in given:
        runs = list(_below(path, DEPTH)) if path.is_dir() else []
        if not runs:
            mistakes.append(_mistake(path))
        for run in runs:
            found.setdefault(run.resolve(), run)
    if mistakes:
        raise FedSepError("\n".join(mistakes))
    return list(found.values())


def is_run(folder: Path) -> bool:
    """Whether ``folder`` is a run's: what a run writes first, or last, lies in it."""
    return any((folder / name).is_file() for name in _SIGNS)


def _below(folder: Path, depth: int) -> Iterator[Path]:
    if is_run(folder):
        yield folder
    elif depth:
        for child in sorted((child for child in folder.iterdir() if child.is_dir()), key=_natural):
            yield from _below(child, depth - 1)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts numbers inside names by value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _mistake(path: Path) -> str:
    if path.is_dir():
        return f"{path}: no run in this folder (looked for {', '.join(_SIGNS)}, {DEPTH} levels deep)"
    if path.exists():
        return f"{path}: a run's folder is expected (got a file; did you mean {path.parent}?)"
    beside = [child.name for child in path.parent.iterdir() if child.is_dir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, beside, n=1)
    return f"{path}: no such folder" + (f" (did you mean {path.parent / near[0]}?)" if near else "")
