"""What a model may be told about its inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedsep.core import FedSepError


def features(model: str, shape: Sequence[int]) -> int:
    """Numbers in one input of shape ``shape``, flattened.

    Args:
        model: The factory's name, for the message.
        shape: Of one input, without the batch.

    Raises:
        FedSepError: The shape is empty or has a size below 1.
    """
    if not shape or min(shape) < 1:
        raise FedSepError(f"{model}: shape must hold one or more sizes >= 1, those of one input (got {tuple(shape)})")
    return math.prod(shape)
