"""Many models at once where the module is a chain: linear layers, and functions of single numbers between them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedsep.core import Params
from fedsep.tasks.hooked import hooked

_OF_NUMBERS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Identity)


class Link(NamedTuple):
    """A layer of a chain, and the names of its parameters; a function of single numbers has none."""

    layer: nn.Module
    weight: str | None = None
    bias: str | None = None


class Chain(NamedTuple):
    """What a module computes, link by link; ``flat``: whether inputs are flattened first."""

    module: nn.Module
    flat: bool
    links: tuple[Link, ...]

    def outputs(self, params: Params, x: Tensor) -> Tensor | None:
        """What every model gives for its own inputs, or None if they are not what the chain can take.

        A layer is one product, and its gradient another, of tensors in the order in which they lie.
        ``torch.func.vmap``, which takes any module, does several times as much beside the products where models are
        small.

        Args:
            params: A first dimension over models.
            x: Shape (models, batch, ...).

        Returns:
            Shape (models, outputs, batch).
        """
        x = x.flatten(2) if self.flat else x
        if x.dim() != 3 or any(map(hooked, (self.module, *self.module.children()))):
            return None
        given = x.mT
        for layer, weight, bias in self.links:
            if weight is None:
                given = layer(given)
            elif bias is None:
                given = params[weight] @ given
            else:
                given = torch.baddbmm(params[bias][:, :, None], params[weight], given)
        return given


def chain_of(module: nn.Module) -> Chain | None:
    """The module as a chain, or None if it is none, or has parameters that are not learned."""
    if type(module) not in (nn.Sequential, nn.Linear) or not all(part.requires_grad for part in module.parameters()):
        return None
    layers = list(module) if isinstance(module, nn.Sequential) else [module]
    flat = bool(layers) and type(layers[0]) is nn.Flatten and (layers[0].start_dim, layers[0].end_dim) == (1, -1)
    names = {id(part): name for name, part in module.named_parameters()}
    links = list[Link]()
    for layer in layers[flat:]:
        link = _link(layer, names)
        if link is None:
            return None
        links.append(link)
    return Chain(module, flat, tuple(links))


def _link(layer: nn.Module, names: dict[int, str]) -> Link | None:
    if type(layer) in _OF_NUMBERS:
        return Link(layer)
    if type(layer) is not nn.Linear:
        return None
    weight, bias = names.get(id(layer.weight)), names.get(id(layer.bias))
    # What is no parameter, such as the product of a norm and a direction, is made anew whenever the layer is asked.
    if weight is None or (bias is None and getattr(layer, "bias", None) is not None):
        return None
    return Link(layer, weight, bias)
