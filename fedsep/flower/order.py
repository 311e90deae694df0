"""What ``fedsep flower server`` was asked for, as a file: the process that runs it is started by Flower's programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fedsep.cli.options import Reading, reading
from fedsep.files import write_json

VARIABLE = "FEDSEP_FLOWER_ORDER"
"""Names the file: the environment's, so that nobody can order anything over the network."""

LOG = "run.log"
"""Beside it: what the run says."""


@dataclass(frozen=True)
class Order:
    """A run, or several, of one recipe.

    Attributes:
        recipe: As the user named it.
        out: Results folder.
        changes: Of ``--set``.
        allow: Packages that the recipe may name.
        seed: Of ``--seed``.
        data_dir: Where the server's own data are looked for.
        overwrite: Replace the runs in the results folder.
        resume: Go on with them.
    """

    recipe: str
    out: str = ""
    changes: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    seed: int | None = None
    data_dir: str | None = None
    overwrite: bool = False
    resume: bool = False

    @property
    def folder(self) -> Path:
        """Where Flower's programs keep their state: beside the results, which are the run's alone."""
        out = Path(self.out)
        return out.with_name(f".{out.name}.flower")

    @property
    def outcome(self) -> Path:
        """Where the exit code is written."""
        return self.folder / "outcome.json"

    @property
    def process(self) -> Path:
        """Where the process that carries it out writes its number; it holds the file until it ends."""
        return self.folder / "run.pid"

    def reading(self) -> Reading:
        """How the recipe is read. Its engine becomes ``flower``, unless it is that already, with its own time-out."""
        from fedsep.recipes import Change

        how = reading(self.recipe, list(self.changes), None, self.seed, None, list(self.allow))
        if how.read().engine.use.rpartition(".")[2] == "flower":
            return how
        change = Change(("engine",), {"use": "fedsep.engines.flower"}, "fedsep flower server")
        return replace(how, changes=(change, *how.changes))

    def write(self) -> Path:
        """Writes the order into its folder; the file."""
        file = self.folder / "order.json"
        write_json(file, asdict(self))
        return file


def order_at(file: Path) -> Order:
    """The order that was written."""
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for name in ("changes", "allow"):
        told[name] = tuple(told[name])
    return Order(**told)
