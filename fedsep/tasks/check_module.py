"""Whether a module is a pure function of its parameters and its input."""

from __future__ import annotations

from torch import Tensor, nn

from fedsep.core import FedSepError
from fedsep.tasks.impurities import impurities
from fedsep.tasks.trace import behaviour

_NAMED = 5  # layers that a message names; the rest are counted


class Impure(FedSepError):
    """The model is no pure function of its parameters: the mistake is the model's, whoever finds it."""


def check_module(module: nn.Module, example: Tensor | None = None) -> None:
    """Refuses a module that draws random numbers, writes to itself, or has nothing to learn.

    Such a module gives other results when a round is run again, in another order or in another process,
    and its hidden state would be neither communicated nor saved.

    Args:
        module: Any module; it is not changed.
        example: A few inputs, shape (batch, ...). With them the module is run twice and compared, which
            also finds what the types of its layers do not tell.

    Raises:
        Impure: Names every layer in the way, why it is, and what to use instead.
    """
    if not isinstance(module, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise Impure(f"a model must be a torch.nn.Module (got {type(module).__name__})")
    found = impurities(module) or _nothing_to_learn(module)
    if not found and example is not None:
        found = behaviour(module, example)
    if found:
        raise Impure(_message(found))


def _nothing_to_learn(module: nn.Module) -> list[tuple[str, str]]:
    if any(parameter.requires_grad for parameter in module.parameters()):
        return []
    reason = "it has no parameters that need a gradient, so there is nothing to learn. Set requires_grad of some"
    return [(f"the module itself ({type(module).__name__})", reason)]


def _message(found: list[tuple[str, str]]) -> str:
    layers: dict[str, list[str]] = {}
    for layer, reason in found:
        layers.setdefault(reason, []).append(layer)
    lines = [f"  - {_listed(names)}: {reason}." for reason, names in layers.items()]
    return "the model cannot be trained as a function of its parameters:\n" + "\n".join(lines)


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
