"""``fedsep ls``: what there is, one line each."""

from __future__ import annotations

from fedsep.cli.docstring import docstring
from fedsep.cli.entry import DONE
from fedsep.cli.kinds import KINDS, parts
from fedsep.cli.options import Talk
from fedsep.cli.screen import Screen
from fedsep.core import FedSepError
from fedsep.recipes.mistakes import nearest
from fedsep.recipes.shipped import folder, names


def ls(kind: str | None) -> int:
    """Lists one kind, or all of them under their names.

    Raises:
        FedSepError: There is no such kind.
    """
    kinds = [*KINDS, "recipes"]
    if kind is not None and kind not in kinds:
        meant = nearest(kind, kinds)
        raise FedSepError(
            f"ls: there are {', '.join(kinds)} (got {kind!r}{f'; did you mean {meant}?' if meant else ''})"
        )
    screen = Screen(Talk())
    for name in [kind] if kind else kinds:
        if kind is None:
            screen.result(f"{name}:")
        lines = recipe_lines() if name == "recipes" else part_lines(name)
        width = max((len(word) for word, _ in lines), default=0)
        for word, summary in lines:
            screen.result(f"{'  ' if kind is None else ''}{word:<{width}}  {summary}")
    return DONE


def part_lines(kind: str) -> list[tuple[str, str]]:
    """Names of parts and the first line of what they say about themselves."""
    return [(path.rpartition(".")[2], docstring(found).summary) for path, found in parts(kind)]


def recipe_lines() -> list[tuple[str, str]]:
    """Names of shipped recipes and the first comment in each."""
    return [(name, _comment(name)) for name in names()]


def _comment(name: str) -> str:
    first = (folder() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[:1]
    return first[0].lstrip("# ") if first and first[0].startswith("#") else ""
