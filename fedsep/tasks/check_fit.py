"""Whether a task and its data belong together, found on a few examples before any work."""

from __future__ import annotations

import torch
from torch import Tensor

from fedsep.core import Batch, FedSepError, Params, Samples, Task
from fedsep.tasks.check_module import check_module
from fedsep.tasks.trace import failing_layer, undisturbed

_EXAMPLES = 4


def check_fit(task: Task, samples: Samples) -> None:
    """Refuses a model that does not take the data's inputs, or does not give what its targets need.

    The model is run on four examples. A task of the user's own is asked for ``mistakes(outputs,
    targets)``, a list of sentences, if it has that method.

    Args:
        task: What is to be learned.
        samples: What it is to be learned from, usually all training examples.

    Raises:
        FedSepError: Names every mismatch between model, loss and data that was found.
    """
    if not samples.size:
        raise FedSepError("there are no examples to learn from")
    params, batch = task.init(), samples.take(slice(0, _EXAMPLES))
    outputs = _outputs(task, params, batch)
    found = _rows(outputs, batch)
    if not found and hasattr(task, "mistakes"):
        found = task.mistakes(outputs, samples.y)  # type: ignore[attr-defined]
    if found:
        raise FedSepError("model and data do not fit: " + "; ".join(found))
    module = _module(task)
    if module is not None:
        check_module(module, batch.x)
    _check_loss(task, params, batch)


def _module(task: Task) -> torch.nn.Module | None:
    module = getattr(getattr(task, "model", None), "module", None)
    return module if isinstance(module, torch.nn.Module) else None


def _outputs(task: Task, params: Params, batch: Batch) -> Tensor:
    try:
        with torch.no_grad(), undisturbed(batch.x):
            return task.predict(params, batch.x)
    except FedSepError:
        raise
    except Exception as error:
        module = _module(task)
        layer = failing_layer(module, batch.x) if module else None
        shape, dtype = tuple(batch.x.shape[1:]), str(batch.x.dtype).removeprefix("torch.")
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FedSepError(
            f"the model does not take the data's inputs, of shape {shape} each and type {dtype}: "
            + (f"{layer} says: {reason}" if layer else reason)
        ) from error


def _rows(outputs: object, batch: Batch) -> list[str]:
    if not isinstance(outputs, Tensor):
        return [f"the model must give one tensor, and gives a {type(outputs).__name__}"]
    if outputs.dim() and len(outputs) == len(batch.y):
        return []
    shape = tuple(outputs.shape)
    return [f"the model must give one row of outputs for each of {len(batch.y)} examples, and gives shape {shape}"]


def _check_loss(task: Task, params: Params, batch: Batch) -> None:
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in params.items()}
    with torch.enable_grad():
        loss = task.loss(leaves, batch)
    if loss.dim():
        raise FedSepError(f"the loss must be a scalar, the mean over a batch (got shape {tuple(loss.shape)})")
    if not loss.requires_grad:
        raise FedSepError("the loss does not depend on the parameters: does the model detach what it computes?")
    if not bool(loss.isfinite()):
        value, largest = float(loss.detach()), float(batch.x.abs().max())
        raise FedSepError(
            f"the loss of the untrained model is {value:g} on the first {len(batch.y)} examples, whose inputs reach "
            f"{largest:g} in size: look for missing values, and bring inputs and targets to the size of 1"
        )
