"""What a server tells its sites of a run: the recipe as text, resolved, and a name for the run that stays the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from fedsep.recipes.text import dump

_MACHINE = ("name", "engine", "checkpoint", "stop", "accept", "evaluate", "rounds")


def announcement(single: Mapping[str, Any]) -> dict[str, Any]:
    """What goes into the letter that introduces a run.

    Args:
        single: The resolved recipe of one run. What only the server needs to know of it is left out; where its data are
            looked for is every site's own affair.
    """
    told = {key: part for key, part in single.items() if key not in ("engine", "checkpoint", "stop", "accept")}
    told["data"] = {key: part for key, part in told["data"].items() if key not in ("data_dir", "download")}
    lasting = {key: part for key, part in told.items() if key not in _MACHINE}
    return {"run": hashlib.sha256(dump(lasting).encode()).hexdigest()[:16], "recipe": dump(told)}
