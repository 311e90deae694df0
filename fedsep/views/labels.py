"""What a client of DS-FL is sent: the labels that were agreed last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fedsep.codecs.soft_labels import Labelled, Labels, Targets
from fedsep.core import Ctx
from fedsep.zoo import Zoo


@dataclass(frozen=True)
class LastLabels:
    """Labels both ways, whatever the models are. Who was away gets the last round's labels alone.

    Attributes:
        zoo: Which architectures there are.

    Bytes:
        Up: 4 n classes. Down: the same, and the number of the round that they belong to, 4 bytes.
    """

    zoo: Zoo

    def cut(self, x: Labelled, ctx: Ctx) -> Targets:
        """The labels and their round; nothing before there are any."""
        if int(x["labelled"]) < 0:
            return {}
        return {"labels": x["labels"], "labelled": x["labelled"].to(torch.int32)}

    def like(self, x: Labelled, ctx: Ctx) -> dict[str, Labels]:
        """A client's labels."""
        return {"labels": x["labels"]}

    def paste(self, dx: dict[str, Labels], x: Labelled, ctx: Ctx) -> tuple[dict[str, Labels], None]:
        """The labels themselves: not a change of anything."""
        return dx, None

    def errors(self, capabilities: Sequence[float]) -> list[str]:
        """Whether there is a model for each of these clients."""
        return self.zoo.errors(capabilities)
