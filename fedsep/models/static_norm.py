"""Static batch normalisation: statistics of the batch in training, given ones in evaluation, none in the model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedsep.core import FedSepError


class StaticNorm(nn.Module):
    """Batch normalisation without running statistics; weight and bias are its only parameters.

    Without statistics it normalises every batch by itself, as in training. For evaluation they are measured on
    training data (``fedsep.models.calibration``) and handed over with the parameters, as ``NAME.mean`` and
    ``NAME.variance``: nothing is stored, and nothing but weight and bias is sent.

    Args:
        channels: Dimension 1 of the input.
        epsilon: Added to variances.

    Reference:
        Diao et al. 2021, arXiv:2010.01264.
    """

    mean: Tensor | None
    variance: Tensor | None

    def __init__(self, channels: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", None)
        self.register_buffer("variance", None)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels kept, ...) to the same shape.

        Raises:
            FedSepError: One example, whose statistics are no statistics.
        """
        if self.mean is not None:
            return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, False, 0.0, self.epsilon)
        if x.shape[0] < 2:
            raise FedSepError(
                "static batch normalisation needs batches of two examples or more (got 1): choose a batch_size that "
                "leaves no batch of one, or a model with group normalisation"
            )
        return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.epsilon)
