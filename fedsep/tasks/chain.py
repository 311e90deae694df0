"""Many models at once where the module is a chain: linear layers, and functions of single numbers between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedsep.core import Params
from fedsep.tasks.hooked import hooked

_DERIVATIVES: dict[type[nn.Module], Callable[[Tensor], Tensor | float]] = {
    nn.ReLU: lambda made: (made > 0).to(made.dtype),
    nn.Tanh: lambda made: 1 - made * made,
    nn.Sigmoid: lambda made: made * (1 - made),
    nn.Identity: lambda made: 1.0,
}
"""Functions of single numbers, and their derivatives by what they gave."""


class Link(NamedTuple):
    """A layer of a chain, and the names of its parameters; a function of single numbers has none."""

    layer: nn.Module
    weight: str | None = None
    bias: str | None = None


class Chain(NamedTuple):
    """What a module computes, link by link; ``flat``: whether inputs are flattened first.

    A layer is one product, and two more back, of tensors in the order in which they lie. Where models are small,
    ``torch.func.vmap``, which takes any module, costs nearly as much beside the products, and autograd a quarter of it.
    """

    module: nn.Module
    flat: bool
    links: tuple[Link, ...]

    def walk(self, params: Params, x: Tensor) -> list[Tensor] | None:
        """What every model makes of its own inputs after each link, or None if they are not what the chain can take.

        Args:
            params: A first dimension over models.
            x: Shape (models, batch, ...).

        Returns:
            Inputs and what each link gives, shapes (models, numbers, batch).
        """
        x = x.flatten(2) if self.flat else x
        if x.dim() != 3 or any(map(hooked, (self.module, *self.module.children()))):
            return None
        made = [x.mT]
        for layer, weight, bias in self.links:
            if weight is None:
                made.append(layer(made[-1].clone()))  # of a copy, as it may write there
            elif bias is None:
                made.append(params[weight] @ made[-1])
            else:
                made.append(torch.baddbmm(params[bias][:, :, None], params[weight], made[-1]))
        return made

    def back(self, params: Params, made: list[Tensor], change: Tensor) -> Params:
        """Every model's gradient.

        Args:
            params: As they were walked with.
            made: What came of it.
            change: The derivative by what the last link gave, shape (models, outputs, batch).
        """
        found: Params = {}

        def add(name: str, part: Tensor) -> None:
            found[name] = found[name] + part if name in found else part  # tied layers add up

        for number in reversed(range(len(self.links))):
            layer, weight, bias = self.links[number]
            if weight is None:
                change = change * _DERIVATIVES[type(layer)](made[number + 1])
                continue
            add(weight, change @ made[number].mT)
            if bias is not None:
                add(bias, change.sum(2))
            if number:
                change = params[weight].mT @ change
        return {name: found[name] for name in params}


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
    if type(layer) in _DERIVATIVES:
        return Link(layer)
    if type(layer) is not nn.Linear:
        return None
    weight, bias = names.get(id(layer.weight)), names.get(id(layer.bias))
    # What is no parameter, such as the product of a norm and a direction, is made anew whenever the layer is asked.
    if weight is None or (bias is None and getattr(layer, "bias", None) is not None):
        return None
    return Link(layer, weight, bias)
