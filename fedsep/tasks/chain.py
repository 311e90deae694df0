"""Many models at once where the module is a chain: linear layers, and functions of single numbers between them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedsep.core import Params
from fedsep.tasks.hooked import hooked

_OF_NUMBERS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Identity)


class Link(NamedTuple):
    """A layer of a chain; ``weight`` and ``bias`` are the names of a linear layer's parameters, None where it has none.

    ``weight`` is None for functions of single numbers.
    """

    layer: nn.Module
    weight: str | None = None
    bias: str | None = None


class Chain(NamedTuple):
    """What a module computes, link by link; ``flat``: whether inputs are flattened first."""

    module: nn.Module
    flat: bool
    links: tuple[Link, ...]

    @property
    def watched(self) -> bool:
        """Whether somebody looks into a layer, or changes what comes out of it."""
        return any(map(hooked, (self.module, *self.module.children())))


def chain(module: nn.Module) -> Chain | None:
    """The module as a chain, or None if it is none, or has parameters that are not learned."""
    if type(module) not in (nn.Sequential, nn.Linear) or not all(part.requires_grad for part in module.parameters()):
        return None
    layers = list(module) if isinstance(module, nn.Sequential) else [module]
    flat = bool(layers) and type(layers[0]) is nn.Flatten and (layers[0].start_dim, layers[0].end_dim) == (1, -1)
    names = {id(part): name for name, part in module.named_parameters()}
    links = [_link(layer, names) for layer in layers[flat:]]
    return None if None in links else Chain(module, flat, tuple(link for link in links if link is not None))


def outputs(chain: Chain, params: Params, x: Tensor) -> Tensor | None:
    """What every model gives for its own inputs, or None if they are not what the chain can take.

    A layer is one product, and its gradient another, of tensors in the order in which they lie. ``torch.func.vmap``,
    which takes any module, does several times as much beside the products where models are small.

    Args:
        chain: Of the module.
        params: A first dimension over models.
        x: Shape (models, batch, ...).

    Returns:
        Shape (models, outputs, batch).
    """
    x = x.flatten(2) if chain.flat else x
    if x.dim() != 3 or chain.watched:
        return None
    given = x.mT
    for layer, weight, bias in chain.links:
        if weight is None:
            given = layer(given)
        elif bias is None:
            given = params[weight] @ given
        else:
            given = torch.baddbmm(params[bias][:, :, None], params[weight], given)
    return given


def _link(layer: nn.Module, names: dict[int, str]) -> Link | None:
    if type(layer) in _OF_NUMBERS:
        return Link(layer)
    if type(layer) is not nn.Linear:
        return None
    return Link(layer, names[id(layer.weight)], names.get(id(layer.bias)))  # no bias has no name
