"""Options that several commands share, and what they mean together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fedsep.recipes import Change, Recipe, Sources

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a value, as in methods.fedavg.lr=0.05; may be repeated."),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for the results (default: runs/RECIPE).")]
SweepOut = Annotated[Path | None, typer.Option("--out", help="Folder for the results (default: runs/RECIPE_sweep).")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder that is searched first for data.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch missing data from the Hugging Face hub.")]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine", help="sequential, workers, vectorised, a dotted path, or a block such as {use: ..., device: cuda}."
    ),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        metavar="N",
        help="Runs at a time, each in a process of its own; with more than 1, the engine is sequential unless "
        "--engine says otherwise.",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Run with this seed.")]
Seeds = Annotated[str | None, typer.Option("--seeds", metavar="0,1,2", help="Run with each of these seeds.")]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="PACKAGE", help="Let the recipe use this package of yours; may be repeated."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the runs in the results folder.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON line per finished run on standard output.")]


@dataclass(frozen=True)
class Reading:
    """How a recipe is read: its name, the packages it may use, and the changes that options make."""

    name: str
    allow: tuple[str, ...]
    changes: tuple[Change, ...]

    def read(self, more: tuple[Change, ...] = ()) -> Recipe:
        """The checked recipe.

        Args:
            more: Further changes, after those of the options.

        Raises:
            RecipeError: With all its mistakes.
        """
        from fedsep.recipes import find, read

        return read(find(self.name), changes=[*self.changes, *more], allow=self.allow)


@dataclass(frozen=True)
class Talk:
    """How much is said, and in what form."""

    quiet: bool = False
    json: bool = False


def reading(
    name: str,
    changes: list[str] | None,
    engine: str | None,
    seed: int | None,
    seeds: str | None,
    allow: list[str] | None,
    jobs: int = 1,
) -> Reading:
    """The options that change a recipe, in the order in which they apply: ``--set`` has the last word.

    Raises:
        FedSepError: An option cannot be read.
    """
    written = [*engine_changes(engine, jobs), *_seeds(seed, seeds), *_sets(changes or [])]
    packages = tuple(allow or ())
    importable(packages)
    return Reading(name, packages, tuple(written))


def machine(data_dir: Path | None, download: bool, device: str) -> Sources:
    """What depends on this machine: where data are and, set as torch's default, what is computed on.

    Raises:
        FedSepError: There is no such device here, or no such folder.
    """
    from fedsep.cli.device import use_device
    from fedsep.core import FedSepError
    from fedsep.recipes import Sources

    if data_dir is not None and not data_dir.is_dir():
        raise FedSepError(f"--data-dir: there is no folder {data_dir}")
    use_device(device)
    return Sources(data_dir, download)


def talk(quiet: bool, json: bool) -> Talk:
    """How the command answers."""
    return Talk(quiet, json)


def engine_changes(name: str | None, jobs: int) -> list[Change]:
    """What ``--engine`` changes, and ``--jobs`` without it: processes in processes only compete for the same cores."""
    from fedsep.recipes import Change, parse_change

    if name is None:
        return [Change(("engine",), {"use": "fedsep.engines.sequential"}, f"--jobs {jobs}")] if jobs > 1 else []
    if name.lstrip().startswith("{"):
        return [parse_change(f"engine={name}", "--engine")]
    path = name if "." in name else f"fedsep.engines.{name}"
    return [Change(("engine",), {"use": path}, f"--engine {name}")]


def _sets(texts: list[str]) -> list[Change]:
    """What ``--set`` changes; all that cannot be read is told at once."""
    from fedsep.core import FedSepError
    from fedsep.recipes import RecipeError, parse_change

    found: list[Change] = []
    mistakes: list[str] = []
    for text in texts:
        try:
            found.append(parse_change(text))
        except RecipeError as error:
            mistakes.append(str(error))
    if mistakes:
        raise FedSepError("\n".join(mistakes))
    return found


def _seeds(seed: int | None, seeds: str | None) -> list[Change]:
    from fedsep.core import FedSepError
    from fedsep.recipes import Change

    if seed is not None and seeds is not None:
        raise FedSepError("give --seed or --seeds, not both")
    if seed is not None:
        return [Change(("seed",), seed, f"--seed {seed}")]
    if seeds is None:
        return []
    words = [word.strip() for word in seeds.split(",")]
    if not all(word.isdecimal() for word in words):
        raise FedSepError(f"--seeds: must be whole numbers with commas between them, as in 0,1,2 (got {seeds!r})")
    return [Change(("seed",), [int(word) for word in words], f"--seeds {seeds}")]


def importable(packages: tuple[str, ...]) -> None:
    """A user's package lies in the folder the command is given in; Python looks there only for ``python -m``."""
    import os
    import sys

    if packages and os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
