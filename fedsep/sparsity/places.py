"""Where the kept weights of a layer are, as bytes; and a layer as its kept weights alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

import torch
from torch import Tensor

from fedsep.core import Params
from fedsep.sparsity.masks import Masks
from fedsep.wires import bits
from fedsep.wires.indices import IndexCode, index_code, require_places

PlaceCode = Literal["bitmask", "int32", "packed", "golomb"]
"""A bit for every coordinate of a layer, or one of ``fedsep.wires.indices``' codes for every kept one."""

Places = dict[str, Tensor]
"""The code of each layer's kept positions; that of a layer kept whole is missing or empty, and costs nothing."""


@dataclass(frozen=True)
class Bitmask:
    """A bit for every coordinate: the shortest where more than about one in ten is kept."""

    def pack(self, positions: Tensor, size: int) -> Tensor:
        """uint8, shape (ceil(size / 8),)."""
        return bits.pack(torch.zeros(size, dtype=torch.uint8, device=positions.device).index_fill(0, positions, 1), 1)

    def unpack(self, packed: Tensor, count: int, size: int) -> Tensor:
        """``count`` positions, int64."""
        return bits.unpack(packed, 1, size).nonzero()[:, 0]


def place_code(name: PlaceCode) -> IndexCode:
    """The code of a name."""
    return Bitmask() if name == "bitmask" else index_code(name)


class Kept(TypedDict):
    """A model without its zeros.

    Attributes:
        values: Of each sparse layer's kept weights in the order of their positions, shape (k,).
        rest: The other parameters as they are.
        places: Where the kept weights are; missing where the receiver knows.
    """

    values: Params
    rest: Params
    places: NotRequired[Places]


def without_zeros(params: Params, masks: Masks) -> Kept:
    """The parameters without those outside of the masks, and without positions."""
    values = {name: params[name].reshape(-1)[mask.reshape(-1) > 0] for name, mask in masks.items()}
    return {"values": values, "rest": {name: part for name, part in params.items() if name not in masks}}


def with_places(kept: Kept, masks: Masks, code: IndexCode, *, whole: bool = False) -> Kept:
    """The same with its positions.

    Args:
        kept: The model without its zeros.
        masks: Where they are.
        code: How positions are written.
        whole: Whether layers that are kept whole are named like the others: where clients move weights between
            layers, which are whole is theirs to say.
    """
    found = {name: mask.reshape(-1).nonzero()[:, 0] for name, mask in masks.items()}
    some = {name: at for name, at in found.items() if whole or len(at) < masks[name].numel()}
    places = {name: _coded(at, masks[name].numel(), code) for name, at in some.items()}
    return {"values": kept["values"], "rest": kept["rest"], "places": places}


def _coded(positions: Tensor, size: int, code: IndexCode) -> Tensor:
    if len(positions) < size:
        return code.pack(positions, size)
    return code.pack(positions[:0], size).new_empty(0)  # of the code's type


def read_masks(kept: Kept, places: Places, like: Params, code: IndexCode) -> Masks:
    """The masks that ``places`` and the number of values tell."""

    def mask(name: str, part: Tensor) -> Tensor:
        count = len(kept["values"][name])
        if count == part.numel():
            return torch.ones_like(part)
        at = code.unpack(places[name], count, part.numel())
        require_places(at, count, part.numel())
        return torch.zeros_like(part).reshape(-1).index_fill(0, at, 1.0).reshape(part.shape)

    return {name: mask(name, part) for name, part in like.items() if name in kept["values"]}


def with_zeros(kept: Kept, masks: Masks, like: Params) -> Params:
    """The parameters in the shapes and the order of ``like``, 0 outside of the masks."""
    full = {name: _spread(kept["values"][name], mask) for name, mask in masks.items()}
    return {name: full[name] if name in full else kept["rest"][name] for name in like}


def _spread(values: Tensor, mask: Tensor) -> Tensor:
    flat = values.new_zeros(mask.numel())
    flat[mask.reshape(-1) > 0] = values
    return flat.reshape(mask.shape)
