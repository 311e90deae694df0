"""A recipe that has been read, changed and checked as a whole; nothing of it has been built yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fedsep.files import write_file
from fedsep.learners.precision import Precision
from fedsep.recipes.call import Call
from fedsep.recipes.mistakes import Mistake, RecipeError
from fedsep.recipes.text import dump


@dataclass(frozen=True)
class Recipe:
    """One experiment: some methods, some seeds, on the same data.

    Attributes:
        file: As the user named it, for messages.
        name: The recipe's own name, else its file's.
        seeds: Every method runs once with each.
        rounds: Rounds of a run.
        data: Gives the federation.
        model: Gives the module.
        task: Gives the task.
        methods: Give the algorithms, by name.
        engine: Gives the engine.
        settings: ``cohort``, ``evaluate``, ``checkpoint`` and ``stop``.
        states: Where client memories live, ``memory`` or ``disk``.
        precision: Of the local steps of every method that does not say it itself; None: nothing is lowered.
        changes: Paths that options wrote, each with the option's text, for messages.
        allow: Packages beside ``fedsep`` that it may name.
    """

    file: str
    name: str
    seeds: tuple[int, ...]
    rounds: int
    data: Call
    model: Call
    task: Call
    methods: Mapping[str, Call]
    engine: Call
    settings: Mapping[str, Call]
    states: Literal["memory", "disk"]
    precision: Precision | None = None
    changes: tuple[tuple[str, str], ...] = ()
    allow: tuple[str, ...] = ()

    def resolved(self) -> dict[str, Any]:
        """The recipe with every default written out; reading it gives this recipe again."""
        return {
            **self._head(list(self.seeds)),
            "methods": [self._method(name) for name in self.methods],
            **self._tail(),
        }

    def single(self, method: str, seed: int) -> dict[str, Any]:
        """The resolved recipe of one run."""
        return {**self._head([seed]), "method": self._method(method), **self._tail()}

    def options(self) -> dict[str, Any]:
        """``settings`` as the values that ``fit`` takes."""
        return {key: call.build({}) for key, call in self.settings.items()}

    def error(self, mistakes: Sequence[Mistake]) -> RecipeError:
        """Mistakes in this recipe as an error that names its file."""
        return RecipeError(self.file, mistakes, self.changes)

    def _head(self, seeds: list[int]) -> dict[str, Any]:
        blocks = {key: getattr(self, key).resolved() for key in ("data", "model", "task")}
        return {"name": self.name, "seed": seeds[0] if len(seeds) == 1 else seeds, "rounds": self.rounds, **blocks}

    def _method(self, name: str) -> dict[str, Any]:
        block = self.methods[name].resolved()
        return block if block["use"].rpartition(".")[2] == name else {"name": name, **block}

    def _tail(self) -> dict[str, Any]:
        settings = {
            key: {k: v for k, v in call.resolved().items() if k != "use"} for key, call in self.settings.items()
        }
        precision = {} if self.precision is None else {"precision": self.precision}
        return {**settings, "engine": self.engine.resolved(), "states": self.states, **precision}


def write(recipe: Mapping[str, Any], file: Path) -> None:
    """Writes a resolved recipe as YAML.

    Raises:
        CannotWrite: The disk is full, or the folder cannot be written.
    """
    write_file(file, dump(dict(recipe)).encode())
