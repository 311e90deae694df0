"""Gates between 0 and 1 that are drawn: a sigmoid of a score and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedsep import random

Noise = Literal["logistic", "gumbel"]
"""``logistic``: the difference of two Gumbel variables, as a choice between on and off has it; ``gumbel``: one."""


@dataclass(frozen=True)
class Relaxation:
    """a = sigmoid((score + offset + noise) / temperature).

    Attributes:
        temperature: tau; the smaller, the nearer to 0 and 1 gates are.
        offset: b; large ones start with every gate open.
        noise: What is added.

    Reference:
        Maddison et al. 2017, arXiv:1611.00712; Jang et al. 2017, arXiv:1611.01144. A single Gumbel variable is what
        the public code of NPPM (Gao et al., CVPR 2021) draws.
    """

    temperature: float = 0.5
    offset: float = 0.0
    noise: Noise = "logistic"

    def draw(self, scores: Mapping[str, Tensor], key: Tensor) -> dict[str, Tensor]:
        """Gates by group; the key decides the noise."""
        every = torch.cat(list(scores.values()))
        gates = self._soft(every + self._noise(key, every))
        return dict(zip(scores, gates.split([len(part) for part in scores.values()]), strict=True))

    def mean(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gates without noise: sigmoid((score + offset) / temperature)."""
        return {group: self._soft(part) for group, part in scores.items()}

    def chance(self, score: Tensor) -> Tensor:
        """P(a > 1/2): sigmoid(score + offset) with logistic noise, 1 - exp(-exp(score + offset)) with one Gumbel's."""
        if self.noise == "logistic":
            return torch.sigmoid(score + self.offset)
        return -torch.expm1(-torch.exp(score + self.offset))

    def _soft(self, score: Tensor) -> Tensor:
        return torch.sigmoid((score + self.offset) / self.temperature)

    def _noise(self, key: Tensor, like: Tensor) -> Tensor:
        draws = random.uniform(key, *like.shape).to(like)
        draws = draws.clamp(torch.finfo(draws.dtype).tiny, 1 - torch.finfo(draws.dtype).eps)
        return draws.logit() if self.noise == "logistic" else -(-draws.log()).log()
