"""The scaler of HeteroFL: a narrower layer gives activations of the size that the whole layer gives."""

from __future__ import annotations

from torch import Tensor, nn


class Scaler(nn.Module):
    """x / p, p the share of the layer's channels that there are; nothing at full width.

    A sub-model with scalers gives at its own width what the next layer is used to get from all channels. It is
    applied wherever the sub-model runs, in training and in evaluation. Directly before a batch normalisation it
    changes nothing but the weight of the normalisation's epsilon.

    A share may be handed over with the parameters, as ``NAME.share``: gates between 0 and 1 leave a part of the layer,
    though all its channels are there.

    Args:
        channels: Of the whole layer; dimension 1 of the input counts them.

    Reference:
        Diao et al. 2021, arXiv:2010.01264. There p is the client's rate, here the share after rounding up, which
        differs where a layer has fewer than 1 / rate channels; and there it is left out in evaluation.
    """

    share: Tensor | None

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("share", None)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels kept, ...) to the same shape."""
        if self.share is not None:
            return x * (1 / self.share)
        return x if x.shape[1] == self.channels else x * (self.channels / x.shape[1])
