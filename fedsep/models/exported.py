"""The file of an exported sub-model: its tensors, and what it was made from, so that one line builds it again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from fedsep.core import FedSepError
from fedsep.models.scaler import Scaler
from fedsep.models.smaller import Averaged, smaller

KEY = "fedsep"
"""Name in a file's metadata under which it says what it is."""

_OURS = "fedsep.models."


class Origin(NamedTuple):
    """What an exported module was made from.

    Attributes:
        use: Dotted path of the factory of the whole module.
        arguments: What the factory was called with, beside shape and classes.
        shape: Of one input.
        classes: Number of outputs.
        scalers: By layer: the channels of the width at which a scaler does nothing.
        blocks: Modules whose outputs are averaged; None: it is one module.
    """

    use: str
    arguments: Mapping[str, Any]
    shape: Sequence[int]
    classes: int | None
    scalers: Mapping[str, int]
    blocks: int | None = None

    @property
    def ours(self) -> bool:
        """Whether ``load`` finds the factory by itself."""
        return self.use.startswith(_OURS)


def scalers(module: nn.Module) -> dict[str, int]:
    """By layer, the channels at which its scaler does nothing."""
    return {name: layer.channels for name, layer in module.named_modules() if isinstance(layer, Scaler)}


def dump(module: nn.Module, origin: Origin) -> bytes:
    """A module made by ``smaller`` or ``averaged`` as a safetensors file that says what it is."""
    from safetensors.torch import save

    tensors = {name: part.detach().contiguous() for name, part in _tensors(module).items()}
    return save(tensors, metadata={KEY: json.dumps(origin._asdict())})


def load(file: str | Path, module: nn.Module | None = None) -> nn.Module:
    """The module that ``fedsep export`` wrote, in evaluation mode.

    Args:
        file: ``model.safetensors`` of the export.
        module: The whole module, as the run's recipe builds it, where its factory is not one of ``fedsep.models``; no
            code is looked for by a name that a file gives.

    Raises:
        FedSepError: The file is no export, or the module is another one than it was made from.
    """
    origin, tensors = _read(Path(file))
    if module is None:
        if not origin.ours:
            raise FedSepError(f"{file}: made from {origin.use}: give the whole module, load({str(file)!r}, module)")
        module = _built(file, origin)
    for name, channels in origin.scalers.items():
        layer = dict(module.named_modules()).get(name)
        if not isinstance(layer, Scaler):
            raise FedSepError(f"{file}: made from another module: {name} is no Scaler in the one given")
        layer.channels = channels
    try:
        return _filled(module, tensors, origin.blocks).eval()
    except (FedSepError, RuntimeError) as error:
        raise FedSepError(f"{file}: made from another module: {error}") from error


def _filled(module: nn.Module, tensors: Mapping[str, Tensor], blocks: int | None) -> nn.Module:
    if blocks is not None:
        own = [_under(f"{number}.", tensors) for number in range(blocks)]
        return Averaged(_filled(module, part, None) for part in own)
    constant = {name for name, _ in _constants(module)}
    narrow = smaller(module, {name: part for name, part in tensors.items() if name not in constant})
    for name, part in _constants(narrow):
        part.copy_(tensors[name])
    return narrow


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): part for name, part in tensors.items() if name.startswith(prefix)}


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _constants(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Buffers, and parameters that are not learned: the module has them whole."""
    fixed = [(name, part.detach()) for name, part in module.named_parameters() if not part.requires_grad]
    return [*fixed, *module.named_buffers()]


def _read(file: Path) -> tuple[Origin, dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:  # type: ignore[no-untyped-call]
            told = (opened.metadata() or {}).get(KEY)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise FedSepError(f"{file}: not readable as safetensors ({error})") from error
    if told is None:
        raise FedSepError(f"{file}: no sub-model that fedsep export wrote: it does not say what it was made from")
    return Origin(**json.loads(told)), tensors


def _built(file: str | Path, origin: Origin) -> nn.Module:
    from fedsep import models

    factory: Callable[..., nn.Module] | None = getattr(models, origin.use.removeprefix(_OURS), None)
    if factory is None:
        raise FedSepError(f"{file}: made from {origin.use}, which this version of fedsep does not have")
    return factory(tuple(origin.shape), origin.classes, **origin.arguments)
