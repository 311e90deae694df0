"""A sub-model as a plain module of its own: the module's layers, with fewer units."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd  # pyright: ignore[reportPrivateUsage]

from fedsep.core import FedSepError, Params
from fedsep.tasks.pure import Pure


class Averaged(nn.ModuleList):
    """Modules whose outputs are averaged: what Split-Mix serves."""

    def forward(self, x: Tensor) -> Tensor:
        """The mean of the modules' outputs."""
        return torch.stack([module(x) for module in self]).mean(0)


def smaller(module: nn.Module, params: Params) -> nn.Module:
    """A copy of a module that has a sub-model's parameters: its layers are as narrow as these are.

    Scalers keep the whole model's number of channels, so that the copy computes what the slice computes when it runs
    through ``module``.

    Args:
        module: The whole module; it is not changed.
        params: A sub-model's parameters, as ``Units.cut`` gives them, and statistics of static batch normalisation.

    Raises:
        FedSepError: A parameter of the module is missing, or there is one that it does not have.
    """
    narrow = copy.deepcopy(module)
    pure = Pure(narrow)
    own = {slot.name for slot in pure.slots}
    _require(params, own, own | {slot.name for slot in pure.vacant})
    made = {name: nn.Parameter(params[name].detach().clone()) for name in own}
    for held, key, name in pure.slots:
        held[key] = made[name]
    for held, key, name in pure.vacant:
        held[key] = params[name].detach().clone() if name in params else None
    for layer in narrow.modules():
        _tell(layer)
    return narrow


def averaged(module: nn.Module, blocks: Iterable[Params]) -> Averaged:
    """Narrow copies of one module whose outputs are averaged."""
    return Averaged(smaller(module, params) for params in blocks)


def _require(params: Params, needed: set[str], known: set[str]) -> None:
    missing, unknown = sorted(needed - params.keys()), sorted(params.keys() - known)
    if missing or unknown:
        told = [f"{', '.join(names[:3])} {what}" for names, what in
                ((missing, "is missing"), (unknown, "is not in the module")) if names]  # fmt: skip
        raise FedSepError(f"parameters are not the module's: {'; '.join(told)}")


def _tell(layer: nn.Module) -> None:
    """What torch's layers say of their width, after what their tensors are."""
    told = cast(Any, layer)
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        return
    if isinstance(layer, _ConvNd):
        first, second = weight.shape[0], weight.shape[1] * layer.groups
        transposed = isinstance(layer, _ConvTransposeNd)
        told.in_channels, told.out_channels = (first, weight.shape[1] * layer.groups) if transposed else (second, first)
    elif isinstance(layer, nn.Linear):
        told.out_features, told.in_features = weight.shape
    elif isinstance(layer, nn.Embedding):
        told.num_embeddings, told.embedding_dim = weight.shape
    elif isinstance(layer, nn.GroupNorm):
        told.num_channels = len(weight)
    elif hasattr(layer, "num_features"):
        told.num_features = len(weight)
    elif isinstance(layer, nn.PReLU):
        told.num_parameters = len(weight)
