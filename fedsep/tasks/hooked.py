"""Whether a layer does more than its class says."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.module import _has_any_global_hook  # pyright: ignore[reportPrivateUsage]

_KINDS = ("forward", "forward_pre", "backward", "backward_pre")


def hooked(layer: nn.Module) -> bool:
    """Whether somebody looks into the layer, or changes what goes in or comes out, or how it is computed."""
    if "forward" in vars(layer) or _has_any_global_hook():
        return True
    return any(getattr(layer, f"_{kind}_hooks") for kind in _KINDS)
