"""What ``fedsep flower`` does: orders and sites from options, and what is said meanwhile."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsep.cli.entry import DONE
from fedsep.cli.options import Talk
from fedsep.cli.screen import Screen
from fedsep.core import FedSepError
from fedsep.flower.limits import Limits
from fedsep.flower.rules import Rules
from fedsep.flower.versions import require_new_transport

if TYPE_CHECKING:
    from fedsep.flower.here import Here
    from fedsep.recipes.call import Call

_MOST = 10**7  # no client has such a number
_SHOWN = 20  # clients that --check lists
_COLUMNS = 100  # and columns of a table


def serve(
    recipe: str,
    changes: Sequence[str] | None,
    out: Path | None,
    data_dir: Path | None,
    place: tuple[str, int, Path | None],
    seed: int | None,
    allow: Sequence[str] | None,
    *,
    overwrite: bool,
    resume: bool,
) -> int:
    """Runs a recipe over sites; the exit code.

    Raises:
        FedSepError: Anything that can be found before a site is asked.
    """
    require_new_transport()
    from fedsep.flower.order import Order
    from fedsep.flower.serving import Place, serve
    from fedsep.recipes import find

    order = Order(
        recipe=str(find(recipe).resolve()),
        changes=tuple(changes or ()),
        allow=tuple(allow or ()),
        seed=seed,
        data_dir=None if data_dir is None else str(data_dir.resolve()),
        overwrite=overwrite,
        resume=resume,
    )
    if resume:
        order.lasting()
    read = order.reading().read()
    order = replace(order, out=str((out or Path("runs") / read.name).resolve()))
    if resume:
        order.require_resumable()
    order.require_admitted()
    screen = Screen(Talk())
    return serve(order, Place(*place), screen.note)


def rules(
    data: Path,
    clients: str | None,
    name: str | None,
    allow: Sequence[str] | None,
    max_steps: int | None,
    max_seconds: float | None,
) -> Rules:
    """What a site has and gives, from its options.

    Raises:
        FedSepError: There is no such folder, or the numbers cannot be read.
    """
    if not data.is_dir():
        raise FedSepError(f"--data: there is no folder {data}")
    limits = Limits(max_steps, max_seconds)
    limits.check()
    return Rules(data, numbers(clients), tuple(allow or ()), limits, name or data.resolve().name)


def numbers(text: str | None) -> tuple[int, ...] | None:
    """``0-4,7`` as (0, 1, 2, 3, 4, 7).

    Raises:
        FedSepError: It is not of this form, or a number comes twice.
    """
    if text is None:
        return None
    found: list[int] = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", word)
        if match is None:
            raise FedSepError(f"--clients: must be whole numbers and ranges, as in 0-4,7 (got {text!r})")
        first, last = int(match[1]), int(match[2] or match[1])
        if last >= _MOST:
            raise FedSepError(f"--clients: must be below {_MOST:,}, more than any fleet has (got {text!r})")
        found += range(first, last + 1)
    if not found or len(set(found)) < len(found):
        raise FedSepError(f"--clients: must name every client once (got {text!r})")
    return tuple(sorted(found))


def call(rules: Rules, server: str, ca: Path | None, key: Path | None, state: Path | None, *, insecure: bool) -> int:
    """Takes part until it is interrupted; the exit code.

    Raises:
        FedSepError: The server cannot be reached, or does not take this site.
    """
    require_new_transport()
    from fedsep.flower.calling import Line, call
    from fedsep.flower.here import own_block
    from fedsep.flower.reception import Reception

    if key is None and not insecure:
        raise FedSepError("--key: this site's private key is missing (certs/nodes/..., made by fedsep flower certs)")
    own = own_block(rules.data, rules.allow)
    if own is not None:  # what the server would be told only, and wait for
        _looked(rules, own)
    site = Reception(rules, state or Path("sites") / rules.name)
    try:
        call(site, Line(server, ca, key), Screen(Talk()).note)
    except KeyboardInterrupt:
        Screen(Talk()).note(f"site {rules.name} does not answer any more")
    return DONE


def show(rules: Rules, recipe: str | None) -> int:
    """Says what a site's data are: schema and sample counts, for this site's eyes; nobody is asked or told.

    Raises:
        FedSepError: The data cannot be read.
    """
    from fedsep.flower.here import OWN, own_block
    from fedsep.recipes import find, read

    screen, own = Screen(Talk()), own_block(rules.data, rules.allow)
    if own is None and recipe is None:
        raise FedSepError(
            f"{rules.data} holds no {OWN}: write one, or name the recipe whose data set it holds (--recipe)"
        )
    block = own or read(find(str(recipe)), allow=rules.allow).data
    data, here = _looked(rules, block, None if own is not None else str(recipe))
    screen.result(f"{rules.name}: {getattr(data, 'name', block.use)}, inputs of {' x '.join(map(str, data.shape))}")
    screen.result(f"classes: {data.classes}{' (' + ', '.join(data.labels) + ')' if data.labels else ''}")
    for line in _schema(block, here):
        screen.result(line)
    for client in here.present[:_SHOWN]:
        shard = here.shard(client)
        parts = {"training": shard.train, "validation": shard.validation, "test": shard.test}
        counts = ", ".join(f"{part.size:,} {name}" for name, part in parts.items() if part is not None and part.size)
        screen.result(f"client {client}: {counts} samples")
    if len(here.present) > _SHOWN:
        screen.result(f"and {len(here.present) - _SHOWN} more")
    screen.result(f"packages that a recipe may name here: {', '.join(('fedsep', *rules.allow))}")
    screen.result(f"limits for a client's part of a round: {_limits(rules.limits)}")
    return DONE


def _schema(block: Call, here: Here) -> list[str]:
    """What was read: of a table every column, and of all data the types of inputs and targets."""
    from fedsep.data import csv
    from fedsep.data.csv import columns

    told = [f"inputs are {_type(here.train.x)}, targets {_type(here.train.y)}"]
    if block.target is not csv:
        return told
    given = replace(block, target=columns, inject=()).build({})
    return [*told, *(f"column {name}: {role}" for name, role in given[:_COLUMNS]), *_more(len(given) - _COLUMNS)]


def _more(count: int) -> list[str]:
    return [f"and {count:,} columns more"] if count > 0 else []


def _type(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _looked(rules: Rules, block: Call, recipe: str | None = None) -> tuple[Any, Here]:
    """A site's data as its block says, and the clients that it has; every one of them has examples.

    Args:
        rules: The site's.
        block: Its own, or a recipe's.
        recipe: That one's name.

    Raises:
        FedSepError: The data cannot be read, or are not of these clients.
    """
    from fedsep.flower.here import OWN, loaded

    own = recipe is None
    data = loaded(block, rules.data, str(rules.data / OWN) if recipe is None else recipe)
    last = max(rules.clients or (0,)) + data.clients if own else data.clients
    return data, rules.here(data, last, own)


def certify(folder: Path, hosts: Sequence[str], nodes: Sequence[str], days: int) -> int:
    """Makes test certificates; the exit code.

    Raises:
        FedSepError: Flower is missing, or the folder has certificates already.
    """
    from fedsep.flower.certificates import make
    from fedsep.flower.versions import require_flower

    require_flower()
    screen = Screen(Talk())
    for file in make(folder, hosts, nodes, days):
        screen.result(str(file))
    screen.result(f"valid for {days} days; ca.key signs more, and belongs neither to the server nor to a site")
    return DONE


def _limits(limits: Limits) -> str:
    steps = [] if limits.steps is None else [f"{limits.steps:,} steps"]
    seconds = [] if limits.seconds is None else [f"{limits.seconds:g} s"]
    return ", ".join(steps + seconds) or "none"
