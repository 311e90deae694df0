"""Which parameters are made sparse: weights, never biases or the factors of a normalisation."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from fedsep.core import FedSepError, Params

Layers = Literal["weights", "convolutions"]
"""``weights``: every tensor of two dimensions or more; ``convolutions``: kernels of more than one pixel alone."""


def prunable(method: str, params: Params, layers: Layers) -> tuple[str, ...]:
    """Names of the parameters that are made sparse, in the order of the model.

    Raises:
        FedSepError: There are none.
    """
    names = tuple(name for name, part in params.items() if _fits(part, layers))
    if not names:
        choice = "the model has no convolution with a kernel of more than one pixel: use 'weights'"
        nothing = "the model has no parameter of two dimensions or more"
        raise FedSepError(f"{method}: layers is {layers!r}, and {choice if layers == 'convolutions' else nothing}")
    return names


def _fits(part: Tensor, layers: Layers) -> bool:
    if layers == "weights":
        return part.dim() >= 2
    return part.dim() >= 3 and part[0, 0].numel() > 1
