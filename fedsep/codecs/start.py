"""Where both ends begin without a byte sent: at the task's own initial parameters."""

from __future__ import annotations

import torch

from fedsep.core import FedSepError, Params


def require_start(params: Params, start: Params) -> None:
    """Refuses to serve a model other than ``start``, the one from which the clients begin.

    Raises:
        FedSepError: A name or a number differs.
    """
    if params.keys() != start.keys() or any(not torch.equal(params[name], part) for name, part in start.items()):
        raise FedSepError("clients start at the task's own initial parameters, which they make from the seed")
