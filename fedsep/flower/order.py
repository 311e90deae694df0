"""What ``fedsep flower server`` was asked for, as a file: the process that runs it is started by Flower's programs."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsep.cli.options import Reading, reading
from fedsep.cli.plan import TOP
from fedsep.core import FedSepError
from fedsep.files import write_json

if TYPE_CHECKING:
    from fedsep.recipes import Change, Recipe

VARIABLE = "FEDSEP_FLOWER_ORDER"
"""Names the file: the environment's, so that nobody can order anything over the network."""

LOG = "run.log"
"""Beside it: what the run says."""

_CHANGING = ("engine", "stop", "checkpoint")
"""Blocks of a recipe that may change while it is carried out."""


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
        """How the recipe is read. Its engine becomes ``flower``, unless it is that already, with its own time-out.

        Raises:
            FedSepError: The recipe has mistakes, or ``--set`` names another engine.
        """
        from fedsep.recipes import Change

        how = reading(self.recipe, list(self.changes), None, self.seed, None, list(self.allow))
        with suppress(FedSepError):  # of the engine that the recipe names now, --set may say what that has not
            if is_flower(how.read()):
                return how
        change = Change(("engine",), {"use": "fedsep.engines.flower"}, "fedsep flower server")
        how = replace(how, changes=(change, *how.changes))
        use = how.read().engine.use
        if not is_flower(how.read()):
            raise FedSepError(f"--set: engine.use must be fedsep.engines.flower, which reaches sites (got {use})")
        return how

    def lasting(self) -> list[Change]:
        """The changes that a run takes with which one goes on: those of how it is run, not of what it is.

        Raises:
            FedSepError: There are others.
        """
        from fedsep.recipes import parse_change

        found = [parse_change(text) for text in self.changes]
        others = [f"--seed {self.seed}"] * (self.seed is not None)
        others += [change.source for change in found if change.path[0] not in _CHANGING]
        if others:
            raise FedSepError(
                f"--resume: {', '.join(others)}: a run that is gone on with keeps its recipe; only "
                f"{', '.join(_CHANGING[:-1])} and {_CHANGING[-1]} may be changed"
            )
        return found

    def found(self) -> Recipe:
        """The recipe that is carried out: where the run goes on, that of its results.

        Raises:
            FedSepError: It has mistakes, or there is nothing to go on with.
        """
        from fedsep.recipes import read

        if not self.resume:
            return self.reading().read()
        written = Path(self.out) / TOP
        if not written.is_file():
            raise FedSepError(f"--resume: {self.out}: nothing to resume: {written} is missing")
        return read(written, changes=self.lasting(), allow=self.allow)

    def require_resumable(self) -> None:
        """Sees that the results are of a run over sites.

        Raises:
            FedSepError: They are not, or there are none.
        """
        recipe = self.found()
        if not is_flower(recipe):
            raise FedSepError(
                f"--resume: {recipe.file}: engine.use must be fedsep.engines.flower (got {recipe.engine.use}): what "
                f"this run's clients remember is not at sites; fedsep resume {self.out} goes on with it"
            )

    def largest(self) -> int:
        """Bytes that a site may send in answer to a letter."""
        return int(self.found().engine.given("largest"))

    def require_admitted(self) -> None:
        """Sees that sites may run the recipe, by the rules that they have: better now than when they have called.

        Raises:
            FedSepError: With everything in any of its methods that they would refuse, and what data at sites rule out.
        """
        from fedsep.data.sites import sites
        from fedsep.flower.admitting import refusals
        from fedsep.recipes.build import build

        recipe = self.found()
        mistakes = refusals(recipe)
        if mistakes:
            raise recipe.error(mistakes)
        if recipe.data.target is sites:  # then all that a run begins with is here
            build(recipe, recipe.seeds[0])

    def write(self) -> Path:
        """Writes the order into its folder; the file."""
        file = self.folder / "order.json"
        write_json(file, asdict(self))
        return file


def is_flower(recipe: Recipe) -> bool:
    """Whether a recipe's engine reaches sites."""
    return recipe.engine.use.rpartition(".")[2] == "flower"


def order_at(file: Path) -> Order:
    """The order that was written."""
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for name in ("changes", "allow"):
        told[name] = tuple(told[name])
    return Order(**told)
