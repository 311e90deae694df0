"""The codec of clients with models of different architectures: each learns what it is sent."""

from __future__ import annotations

from dataclasses import dataclass

from fedsep.codecs.identity import Identity
from fedsep.core import Params
from fedsep.zoo import Zoo


@dataclass(frozen=True)
class Population(Identity):
    """The codec of a zoo: x has a model of every architecture; a client's y is its own, dx = dy.

    Attributes:
        zoo: The architectures.
        served: Name of the model that is the server's, in the zoo or beside it.
    """

    zoo: Zoo
    served: str

    def init(self, params: Params) -> dict[str, Params]:
        """Every architecture's initial parameters; the served one's are ``params``."""
        return {**{name: member.init() for name, member in self.zoo.members.items()}, self.served: params}

    def model(self, x: dict[str, Params]) -> Params:
        """The served model."""
        return x[self.served]
