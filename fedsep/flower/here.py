"""A site's data by the clients' numbers in the federation, whichever numbers they have at home."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsep.core import FedSepError, Samples, Shard
from fedsep.recipes.bind import Binder
from fedsep.recipes.build import Sources
from fedsep.recipes.call import Call
from fedsep.recipes.mistakes import RecipeError
from fedsep.recipes.reading import BLOCKS
from fedsep.recipes.text import parse

OWN = "data.yaml"
"""In a site's data folder: the block that reads its data, as the ``data`` block of a recipe."""


@dataclass(frozen=True)
class Here:
    """The clients of a federation that are at this site; all else is the data's own.

    Attributes:
        data: As they were read.
        numbers: The data's own number of each client.
        clients: Number of clients in the whole federation.
    """

    data: Any
    numbers: Mapping[int, int]
    clients: int
    validation: None = None
    test: None = None

    @property
    def present(self) -> tuple[int, ...]:
        """Clients whose data are here."""
        return tuple(self.numbers)

    @property
    def train(self) -> Samples:
        """The first client's examples."""
        return self.shard(self.present[0]).train

    def shard(self, client: int) -> Shard:
        """One client's data.

        Raises:
            FedSepError: It is elsewhere.
        """
        if client not in self.numbers:
            raise FedSepError(f"client {client} is not at this site")
        return self.data.shard(self.numbers[client])

    def __getattr__(self, name: str) -> Any:
        """The data's name, shape, classes, ..."""
        if name.startswith("__") or name == "data":
            raise AttributeError(name)
        return getattr(self.data, name)


def own_block(folder: Path, allow: tuple[str, ...]) -> Call | None:
    """How the site reads its own data, None if its folder does not say.

    Raises:
        RecipeError: It says so in a way that cannot be followed.
    """
    file = folder / OWN
    if not file.is_file():
        return None
    scope, wanted = BLOCKS["data"]
    binder = Binder(allow)
    call = binder.block(parse(file.read_text(encoding="utf-8"), str(file)), "data", scope, wanted)
    if call is None or binder.mistakes:
        raise RecipeError(str(file), binder.mistakes)
    return call


def loaded(block: Call, folder: Path, seed: int = 0) -> Any:
    """The data that a block reads, looked for in the site's folder and never fetched."""
    sources = Sources(folder)
    return block.build({"seed": seed, "download": False, "data_dir": sources.data_dir})


def numbered(data: Any, numbers: tuple[int, ...] | None, clients: int, own: bool) -> Here:
    """The data under the clients' numbers in the federation.

    Args:
        data: As they were read.
        numbers: Which clients are here. None: with data of its own as many as they have, from 0; else all.
        clients: Number of clients in the federation.
        own: Whether the data are the site's own, and not a data set that all sites deal alike.

    Raises:
        FedSepError: There are not so many, or no such clients.
    """
    there = data.clients if own else clients
    numbers = tuple(range(there)) if numbers is None else numbers
    if own and len(numbers) != there:
        raise FedSepError(f"--clients must name {there}, as the site's data have (got {len(numbers)})")
    beyond = [number for number in numbers if number >= clients]
    if beyond:
        raise FedSepError(f"--clients must be below {clients}, the recipe's number of clients (got {beyond[0]})")
    return Here(data, {number: i if own else number for i, number in enumerate(numbers)}, clients)
