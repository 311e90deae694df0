"""What a server tells its sites of a run: the recipe as text, resolved, and a name for the run that stays the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, cast

from fedsep.privacy.central import central
from fedsep.recipes.resolve import resolve
from fedsep.recipes.text import dump

_MACHINE = ("name", "engine", "checkpoint", "stop", "accept", "evaluate", "rounds")


def announcement(single: Mapping[str, Any]) -> dict[str, Any]:
    """What goes into the letter that introduces a run.

    Args:
        single: The resolved recipe of one run. What only the server needs to know of it is left out: where its data are
            looked for is every site's own affair, and by the secret of its noise a site could take that away again.
            ``stop`` is told, since shares of noise are made for so many replies.
    """
    told = {key: part for key, part in single.items() if key not in ("engine", "checkpoint", "accept")}
    told["method"] = _without_secret(told["method"])
    told["data"] = {key: part for key, part in told["data"].items() if key not in ("data_dir", "download")}
    lasting = {key: part for key, part in told.items() if key not in _MACHINE}
    return {"run": hashlib.sha256(dump(lasting).encode()).hexdigest()[:16], "recipe": dump(told)}


def _without_secret(part: Any) -> Any:
    """The method without the secrets of noise that the server itself adds; nothing at a site depends on them."""
    if isinstance(part, list):
        return [_without_secret(each) for each in cast(list[Any], part)]
    if not isinstance(part, dict):
        return part
    block = {key: _without_secret(each) for key, each in cast(dict[str, Any], part).items()}
    return block | {"secret": None} if _is_central(block) else block


def _is_central(block: Mapping[str, Any]) -> bool:
    use = block.get("use")
    ours = isinstance(use, str) and use.startswith("fedsep.")
    return ours and "secret" in block and resolve(str(use)) is central
