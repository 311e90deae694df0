"""The codec of methods whose clients keep a copy of the model and mend it by the coordinates they are sent."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedsep import tree
from fedsep.codecs.start import require_start
from fedsep.core import Ctx, Decoded, Info, Params, Shard
from fedsep.digest import check_digest, copy_digest
from fedsep.memo import Memo
from fedsep.servers.track import Tracked
from fedsep.views.changes import Patch


@dataclass(frozen=True)
class Patched:
    """y = x: the client keeps a copy of the model and mends it by what it is sent; dx = dy.

    Attributes:
        start: The initial model, which both ends make from the seed.
    """

    start: Params
    _mended: Memo = field(default_factory=Memo, compare=False, repr=False)
    _digests: Memo = field(default_factory=Memo, compare=False, repr=False)

    def init(self, params: Params) -> Tracked:
        """x_1 is the model, no coordinate of which has changed.

        Raises:
            FedSepError: The parameters are not those that the clients will start from.
        """
        require_start(params, self.start)
        changed = {name: torch.full_like(part, -1, dtype=torch.int32) for name, part in params.items()}
        return {"model": params, "changed": changed, "round": torch.tensor(0)}

    def enroll(self, x: Patch, ctx: Ctx) -> Params:
        """The initial model."""
        return self.start

    def decode(self, x: Patch, memory: Params, shard: Shard, ctx: Ctx) -> tuple[Decoded, Params]:
        """The model as the server has it, which its digest says."""
        if "index" in x:
            index, value = x["index"], x["value"]
            model = self._mended(lambda: _mend(memory, index, value), 0, value, index, memory)
        else:
            model = {name: x["model"][name] for name in self.start}
        if ctx.digest is not None:
            check_digest(self._digest(model), ctx)
        return Decoded(model), model

    def encode(
        self, start: Decoded, y: Params, x: Patch, memory: Params, shard: Shard, ctx: Ctx
    ) -> tuple[Params, Params, Info]:
        """dx = dy."""
        return tree.sub(y, start.y), memory, {}

    def advance(self, x: Tracked, round: int) -> tuple[Tracked, bool]:
        """The clock moves."""
        return {**x, "round": torch.tensor(round)}, False

    def model(self, x: Tracked) -> Params:
        """The server's model, which is every client's."""
        return x["model"]

    def digest(self, x: Tracked) -> int:
        """What every client's copy must agree with."""
        return int(self._digest(x["model"]))

    def _digest(self, model: Params) -> Tensor:
        return self._digests(lambda: copy_digest(model, self.start), 0, {name: model[name] for name in self.start})


def _mend(model: Params, index: Tensor, value: Tensor) -> Params:
    names = sorted(model)
    flat = torch.cat([model[name].reshape(-1) for name in names]).index_copy(0, index.long(), value)
    pieces = flat.split([model[name].numel() for name in names])
    mended = {name: piece.reshape(model[name].shape) for name, piece in zip(names, pieces, strict=True)}
    return {name: mended[name] for name in model}
