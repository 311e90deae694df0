"""A site's data by the clients' numbers in the federation, whichever numbers they have at home."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from fedsep.core import FedSepError, Samples, Shard
from fedsep.data.known import ASK, FETCH
from fedsep.recipes.bind import Binder
from fedsep.recipes.build import Sources
from fedsep.recipes.call import Call
from fedsep.recipes.mistakes import Mistake, RecipeError
from fedsep.recipes.reading import BLOCKS
from fedsep.recipes.text import parse

RECIPE = "the server's recipe"

OWN = "data.yaml"
"""In a site's data folder: the block that reads its data, as the ``data`` block of a recipe."""

_ASK = f"say download: true in {OWN}"

PLACES = ("path", "data_dir", "file")
"""Arguments that name a place on a disk."""


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
    """How the site reads its own data, None if its folder does not say. Relative places in it are in that folder.

    Raises:
        RecipeError: It says so in a way that cannot be followed.
    """
    file = folder / OWN
    if not file.is_file():
        return None
    scope, wanted = BLOCKS["data"]
    binder = Binder(allow)
    call = binder.block(parse(_text(file), str(file)), "data", scope, wanted)
    if call is None or binder.mistakes:
        raise RecipeError(str(file), binder.mistakes)
    return _anchored(call, folder.absolute())


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise RecipeError(str(file), [Mistake("", f"cannot be read: {reason}: save it as UTF-8 text")]) from None


def _anchored(value: Any, folder: Path) -> Any:
    """The block with relative places in the site's folder: what lies elsewhere under such a name is not the site's."""
    match value:
        case Call():
            arguments = {name: _placed(name, part, folder) for name, part in value.arguments.items()}
            return replace(value, arguments=arguments)
        case dict():
            return {name: _anchored(part, folder) for name, part in cast(dict[str, Any], value).items()}
        case list():
            return [_anchored(part, folder) for part in cast(list[Any], value)]
        case _:
            return value


def _placed(name: str, value: Any, folder: Path) -> Any:
    if name in PLACES and isinstance(value, str | Path):
        return str(folder / Path(value).expanduser())
    return _anchored(value, folder)


def sources(own: Call | None, folder: Path) -> Sources:
    """Where a data set is looked for first: in the site's folder, unless its own block says where."""
    return Sources(None if own is not None and "data_dir" in own.arguments else folder)


def loaded(block: Call, folder: Path, file: str, seed: int = 0) -> Any:
    """The data that a block reads, looked for in the site's folder and never fetched.

    Args:
        block: From the site's own file, or from a recipe.
        folder: The site's.
        file: Where the block stands, for messages.
        seed: The run's.

    Raises:
        RecipeError: They cannot be read.
    """
    scope = {"seed": seed, "download": False}
    scope |= {} if "data_dir" in block.arguments else {"data_dir": folder}
    with blamed(file, own=file == str(folder / OWN)):
        return block.build(scope)


@contextmanager
def blamed(file: str, *, own: bool) -> Generator[None]:
    """Inside, data are read at a site; what is wrong with them is wrong in ``file``, and mended by a site's means."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError("", [_at_site(mistake, file, own) for mistake in error.mistakes]) from error


def _at_site(mistake: Mistake, file: str, own: bool) -> Mistake:
    """Readers of data speak of the options of ``fedsep run``, which a site's command has not.

    A site fetches what its own file says, and nothing that a recipe asks for.
    """
    if mistake.path.partition(".")[0] != "data":
        return replace(mistake, source=mistake.source or RECIPE)
    reason = mistake.reason.replace("--data-dir", "--data")
    reason = reason.replace(ASK, _ASK) if own else reason.replace(FETCH, "")
    return replace(mistake, reason=reason, source=file)


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
