"""Where data are looked for, and what is said when they are not there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fedsep.core import FedSepError
from fedsep.data.source import nearest


class Place(NamedTuple):
    """A folder that may hold data sets, and how it came to be one; None if it is not known."""

    folder: Path | None
    why: str


def cache_root() -> Path | None:
    """The user's cache folder: ``$XDG_CACHE_HOME/fedsep`` or ``~/.cache/fedsep``; None where there is no home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given and Path(given).is_absolute():
        return Path(given) / "fedsep"
    try:
        return Path.home() / ".cache" / "fedsep"
    except RuntimeError:
        return None


def places(data_dir: str | Path | None = None) -> list[Place]:
    """The folders that are searched, in their order.

    Raises:
        FedSepError: ``data_dir`` is given and is no folder.
    """
    found: list[Place] = []
    if data_dir is not None:
        given = Path(data_dir).expanduser()
        if not given.is_dir():
            raise FedSepError(f"data_dir must be a folder that exists (got {str(given)!r}{_sibling(given)})")
        found.append(Place(given, "--data-dir"))
    named = os.environ.get("FEDSEP_DATA")
    found.append(Place(Path(named).expanduser() if named else None, "FEDSEP_DATA"))
    found.append(Place(cache_root(), "the user's cache"))
    found += [Place(folder, "a data folder beside the checkout") for folder in _beside()]
    return found


def _beside() -> list[Path]:
    """Beside the checkout that this package runs from, and beside the folder that the user is in."""
    checkout = Path(__file__).resolve().parents[2]
    roots = [checkout] if (checkout / "pyproject.toml").is_file() else []
    folders = [root.parent / "shared" / "data" for root in (*roots, Path.cwd())]
    return list(dict.fromkeys(folders))


def find(name: str, suffix: str, data_dir: str | Path | None = None) -> Path | None:
    """The first folder called ``name`` that has files with ``suffix`` anywhere below; None if there is none.

    A searched folder that is itself called ``name`` is taken too.
    """
    for folder, _ in places(data_dir):
        for candidate in () if folder is None else (folder / name, folder):
            if candidate.name == name and next(candidate.rglob(f"*{suffix}"), None) is not None:
                return candidate
    return None


def missing(name: str, data_dir: str | Path | None, cure: str) -> FedSepError:
    """The error that lists every folder searched, and says how to get the data."""
    return FedSepError(f"the data set {name} was not found. Looked in\n{_listed(name, places(data_dir))}\n{cure}")


def _listed(name: str, searched: Sequence[Place]) -> str:
    return "\n".join(f"  {_state(name, place)}" for place in searched)


def _state(name: str, place: Place) -> str:
    folder, why = place
    if folder is None:
        return f"{why}: not set"
    if not folder.is_dir():
        return f"{folder} ({why}): no such folder"
    what = "nothing readable in it" if (folder / name).exists() else "no such file or folder"
    return f"{folder / name} ({why}): {what}"


def locate(path: str | Path, data_dir: str | Path | None = None) -> Path:
    """A file or folder that the user named: as it stands, else in the folders that are searched.

    Raises:
        FedSepError: It is in none of them.
    """
    given = Path(path).expanduser()
    if given.exists():
        return given
    searched = places(data_dir)
    if not given.is_absolute():
        for folder, _ in searched:
            if folder is not None and (folder / given).exists():
                return folder / given
    if given.is_absolute():
        raise FedSepError(f"path must be a file or folder that exists (got {str(given)!r}{_sibling(given)})")
    looked = [Place(Path.cwd(), "this folder"), *searched]
    raise FedSepError(
        f"path must be a file or folder that exists (got {str(given)!r}{_sibling(given)}). Looked in\n"
        + _listed(str(given), looked)
    )


def _sibling(path: Path) -> str:
    try:
        return nearest(path.name, [other.name for other in path.parent.iterdir()])
    except OSError:
        return f", there is no folder {str(path.parent)!r}"


def splits(path: Path, suffixes: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Training and test files below a folder; a file alone is all training.

    A file belongs to the split that its name, or else the nearest folder above it, speaks of: train, test, or
    validation, which serves as the test set where there is no other. Files that speak of none are training files.

    Raises:
        FedSepError: There is no file for training.
    """
    if path.is_file():
        return [path], []
    files = sorted(
        f for f in path.rglob("*") if f.suffix.lower() in suffixes and f.is_file() and not f.name.startswith(".")
    )
    by: dict[str, list[Path]] = {"train": [], "test": [], "val": []}
    for file in files:
        by[_split(file.relative_to(path))].append(file)
    if not by["train"]:
        what = f"has no {' or '.join(suffixes)} file" + (" for training" if files else "")
        raise FedSepError(f"{path}: the folder {what}")
    return by["train"], by["test"] or by["val"]


def _split(relative: Path) -> str:
    for part in reversed(relative.parts):
        for word in ("train", "test", "val"):
            if part.lower().startswith(word) or f"-{word}" in part.lower() or f"_{word}" in part.lower():
                return word
    return "train"
