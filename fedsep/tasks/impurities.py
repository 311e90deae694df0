"""Layers whose type alone tells that the module is no pure function of its parameters.

Each rule looks at one layer and gives what is wrong with it and what to use instead, or nothing. Layers
in evaluation mode are taken as they then are: the modes of a module are never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrizations import _SpectralNorm  # pyright: ignore[reportPrivateUsage]
from torch.nn.utils.spectral_norm import SpectralNorm

_NO_DROPOUT = (
    "dropout draws from torch's global random state, so that one round run twice, or in another order or process, "
    "gives different results. Set its p to 0; against overfitting use the weight_decay of the method, or fewer steps. "
    "A layer in evaluation mode, .eval(), drops nothing and is accepted"
)
_NO_SPECTRAL_NORM = (
    "spectral normalisation writes its power iteration's vectors at every forward pass in training; they would be "
    "different on every client, and are no parameters. Use weight normalisation "
    "(torch.nn.utils.parametrizations.weight_norm), or clip the gradient with the clip of the method"
)


def running_statistics(layer: nn.Module) -> str:
    """Normalisation that writes running means and variances."""
    if not isinstance(layer, _NormBase) or getattr(layer, "running_mean", None) is None or not layer.training:
        return ""
    return (
        "it writes running statistics at every forward pass in training. They are no parameters: each client would "
        "have its own, the server none, and evaluation would use the wrong ones. Use torch.nn.GroupNorm or LayerNorm; "
        "or give it track_running_stats=False: then it normalises each batch by itself, also in evaluation, where an "
        "example's prediction then depends on the others in its batch; or freeze a trained one with .eval()"
    )


def dropout(layer: nn.Module) -> str:
    """Dropout that drops something."""
    if not layer.training:
        return ""
    if isinstance(layer, _DropoutNd):
        return _NO_DROPOUT if layer.p > 0 else ""
    if isinstance(layer, nn.RNNBase):
        return _NO_DROPOUT if layer.dropout > 0 and layer.num_layers > 1 else ""
    return _NO_DROPOUT if isinstance(layer, nn.MultiheadAttention) and layer.dropout > 0 else ""


def random_slope_or_pooling(layer: nn.Module) -> str:
    """Other layers that draw random numbers."""
    if isinstance(layer, nn.RReLU) and layer.training and layer.lower < layer.upper:
        return "it draws its slopes from torch's global random state. Use torch.nn.LeakyReLU or PReLU"
    if (
        isinstance(layer, nn.FractionalMaxPool2d | nn.FractionalMaxPool3d)
        and getattr(layer, "_random_samples", None) is None
    ):
        return (
            "it draws its regions from torch's global random state. Use torch.nn.MaxPool2d or AdaptiveMaxPool2d, "
            "or give it _random_samples"
        )
    return ""


def spectral_norm(layer: nn.Module) -> str:
    """Spectral normalisation, in its old and its new form."""
    hooks = layer._forward_pre_hooks.values()  # pyright: ignore[reportPrivateUsage]
    old = any(isinstance(hook, SpectralNorm) for hook in hooks)
    new = isinstance(layer, _SpectralNorm)
    return _NO_SPECTRAL_NORM if layer.training and (old or new) else ""


def uninitialised(layer: nn.Module) -> str:
    """Lazy layers that have not seen an input."""
    parameters = layer.parameters(recurse=False)
    if not any(isinstance(parameter, UninitializedParameter) for parameter in parameters):
        return ""
    return (
        "it is lazy: it has no parameters yet that a round could start from. Call the model once on an example before, "
        "or use the layer that is told its input size"
    )


def embedding(layer: nn.Module) -> str:
    """Embeddings that write their weight, or have gradients of another kind."""
    if not isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return ""
    if layer.max_norm is not None:
        return (
            "its max_norm rescales the weight in place during the forward pass: a model that is only evaluated would "
            "be changed. Leave max_norm out; the method's weight_decay keeps weights small"
        )
    if layer.sparse:
        return "its sparse=True gives sparse gradients, which cannot be added to the others. Leave it out"
    return ""


def wrapped(layer: nn.Module) -> str:
    """Wrappers that cannot be called with other parameters than their own."""
    if isinstance(layer, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return "it copies a module to devices, which the engine does. Give the module inside it, .module"
    if hasattr(layer, "_c") and type(layer).__module__.startswith("torch.jit"):
        return "a scripted module cannot be called with parameters from outside. Give the module it was made from"
    return ""


RULES: Final[tuple[Callable[[nn.Module], str], ...]] = (
    running_statistics,
    dropout,
    random_slope_or_pooling,
    spectral_norm,
    uninitialised,
    embedding,
    wrapped,
)


def impurities(module: nn.Module) -> list[tuple[str, str]]:
    """(dotted name and type of a layer, what is wrong with it) for every layer, in the module's order."""
    return [
        (label(name, layer), reason)
        for name, layer in module.named_modules()
        for rule in RULES
        if (reason := rule(layer))
    ]


def label(name: str, layer: nn.Module) -> str:
    """A layer as the user knows it: ``features.1 (BatchNorm2d)``."""
    return f"{name or 'the module itself'} ({type(layer).__name__})"
