"""A transformer over bytes: what comes next, at every place of a text."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fedsep.core import FedSepError
from fedsep.memo import transforming
from fedsep.models.seeded import seeded
from fedsep.ranges import Count, NonNegativeInt, checked

_DEVIATION = 0.02  # of initial weights, as in GPT-2; the head reads the embeddings, which must not be larger


class Block(nn.Module):
    """Attention to what came before, then two layers at every place; each adds to what it reads, normalised.

    Args:
        width: Numbers at a place, a multiple of ``heads``.
        heads: Of attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, places, width) to the same shape."""
        parts = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        x = x + self.out(_attended(*parts).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention, shape (batch, heads, places, width / heads).

    Inside vmap and where derivatives of derivatives are taken, plain products: torch's fused kernel knows neither.
    """
    with sdpa_kernel(SDPBackend.MATH) if transforming() else nullcontext():
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)


class Transformer(nn.Module):
    """See ``transformer``."""

    def __init__(self, context: int, symbols: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.symbols = symbols
        self.stay_whole = tuple(f"blocks.{number}.qkv" for number in range(depth))  # heads are reshaped out of these
        self.embed = nn.Embedding(symbols, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self._start(depth)

    def forward(self, x: Tensor) -> Tensor:
        """Numbers of symbols, shape (batch, places), of any type, to logits (batch, places, symbols).

        Raises:
            FedSepError: There are more places than the model has positions.
        """
        places = x.shape[1]
        if places > self.positions.num_embeddings:
            raise FedSepError(
                f"transformer: inputs must have at most {self.positions.num_embeddings} places, the model's context "
                f"(got {places})"
            )
        h = self.embed(x.long()) + self.positions.weight[:places]
        for block in self.blocks:
            h = block(h)
        return F.linear(self.norm(h), self.embed.weight)

    def _start(self, depth: int) -> None:
        """Weights normal, biases 0; the layers that add to the stream smaller, the more of them there are."""
        for name, part in self.named_parameters():
            if part.dim() > 1:
                adds = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(part, std=_DEVIATION / (2 * depth) ** 0.5 if adds else _DEVIATION)
            elif name.endswith("bias"):
                nn.init.zeros_(part)


@checked
def transformer(
    shape: Sequence[int],
    classes: Count = 256,
    *,
    width: Count = 64,
    depth: Count = 2,
    heads: Count = 4,
    context: Count | None = None,
    seed: NonNegativeInt = 0,
) -> Transformer:
    """A decoder-only transformer: causal attention, normalisation before each layer, learned positions, GELU.

    The head is the embedding table itself: one tensor, ``embed.weight``, sent and counted once. With d = depth and
    w = width there are 12 d w^2 + (13 d + 2) w numbers in the layers and (classes + context) w in the two tables:
    width 832, depth 12, heads 13 and context 256 make 1.0e8 over bytes. There is no dropout, so that it is a function
    of its parameters. Sub-models are cut from the wide layers between: heads and what is added to stay whole.

    Args:
        shape: Of one input: (places,), as ``fedsep.data.text`` has it.
        classes: Number of symbols, 256 of bytes.
        width: Numbers at a place.
        depth: Blocks of attention and two layers.
        heads: Of attention; they divide the width.
        context: Most places of an input; None: those of ``shape``.
        seed: Of the initial weights: normal of deviation .02, over sqrt(2 depth) in layers that add to the stream.

    Returns:
        A module from (batch, places) to logits (batch, places, classes), for ``fedsep.tasks.language``.

    Raises:
        FedSepError: The inputs are no sequences or longer than the context, or heads do not divide the width.

    Reference:
        Vaswani et al. 2017, arXiv:1706.03762; normalisation first: Xiong et al. 2020, arXiv:2002.04745; tied
        embeddings: Press and Wolf 2017, arXiv:1608.05859.
    """
    if len(shape) != 1 or shape[0] < 1:
        raise FedSepError(
            f"transformer: inputs must be sequences, shape (places,), as fedsep.data.text has them (got {tuple(shape)})"
        )
    if context is not None and context < shape[0]:
        raise FedSepError(
            f"transformer: context must be at least {shape[0]}, the places of an input (got {context}): leave it out, "
            f"or give the data a context of {context}"
        )
    if width % heads:
        raise FedSepError(f"transformer: heads must divide width {width} (got {heads})")
    with seeded(seed):
        return Transformer(context or shape[0], classes, width, depth, heads)
