"""What is wrong with a recipe, said so that it can be mended: file, path, reason, what was got, what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedsep.core import FedSepError

if TYPE_CHECKING:
    from fedsep.recipes.recipe import Recipe


@dataclass(frozen=True)
class Mistake:
    """One mistake in a recipe.

    Attributes:
        path: Where it is, ``methods.fedavg.lr``; empty for the file as a whole.
        reason: What is wrong.
        got: The value as the user would recognise it; empty if there is none.
        meant: The nearest right name; empty if none is near.
        source: The option that made it; empty if that follows from the path.
    """

    path: str
    reason: str
    got: str = ""
    meant: str = ""
    source: str = ""

    def __str__(self) -> str:
        notes = [f"got {self.got}"] * bool(self.got) + [f"did you mean {self.meant}?"] * bool(self.meant)
        where = f"{self.path}: " if self.path else ""
        return where + self.reason + (f" ({'; '.join(notes)})" if notes else "")


def located(text: str) -> Mistake:
    """A message that begins with the path it is about, ``cohort.per_round must be ...``, as a mistake there."""
    path, _, reason = text.partition(" ")
    return Mistake(path, reason) if "." in path.strip(".") else Mistake("", text)


class RecipeError(FedSepError):
    """All the mistakes of one recipe, one line each.

    Attributes:
        mistakes: The mistakes, in the order in which they were found.
        rest: The recipe without the methods that they are about, where they are about methods only; else None.
    """

    def __init__(
        self,
        file: str,
        mistakes: Sequence[Mistake],
        changes: Iterable[tuple[str, str]] = (),
        rest: Recipe | None = None,
    ) -> None:
        """A mistake at a path that ``--set`` wrote is blamed on that option, not on the file.

        Args:
            file: Name of the file as the user gave it.
            mistakes: At least one.
            changes: Paths written by options, each with the option's text.
            rest: What of the recipe can be built all the same.
        """
        options = list(changes)
        super().__init__("\n".join(f"{_source(file, mistake, options)}: {mistake}" for mistake in mistakes))
        self.mistakes = tuple(mistakes)
        self.rest = rest


def _source(file: str, mistake: Mistake, changes: list[tuple[str, str]]) -> str:
    path = mistake.path
    blamed = [text for changed, text in changes if path == changed or path.startswith(changed + ".")]
    return mistake.source or (blamed[-1] if blamed else file)


def nearest(word: str, words: Iterable[str]) -> str:
    """The right name that is nearest to a wrong one; empty if none is near. Case does not count."""
    names = {name.lower(): name for name in words}
    found = difflib.get_close_matches(word.lower(), names, n=1)
    return names[found[0]] if found else ""


def shown(value: object, width: int = 60) -> str:
    """A value as it is written in a recipe, cut to ``width`` characters."""
    if isinstance(value, dict):
        return "a block"
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."
