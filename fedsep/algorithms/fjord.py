"""Fjord: ordered dropout inside the clients, so that every prefix of the model is a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack, cast

from fedsep.core import FedSepError, Task
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.ordered_dropout import OrderedDropout
from fedsep.models.units import Units
from fedsep.ranges import Fraction, argument_errors, checked
from fedsep.submodels import SubmodelArguments, submodels
from fedsep.tasks.binary import Binary
from fedsep.tasks.regression import Regression
from fedsep.views.plans import Static
from fedsep.views.submodel import Submodel


@checked(takes=submodels)
def fjord(
    task: Task,
    *,
    widths: Sequence[Fraction] = (0.0625, 0.125, 0.25, 0.5, 1.0),
    distil: bool = False,
    weighting: Weighting = "samples",
    **rest: Unpack[SubmodelArguments],
) -> FedSep:
    r"""HeteroFL whose clients draw, for every minibatch, how many of their units it trains.

    A client of capability p takes each step on the first ceil(q n) units of every group, q drawn from the ``widths`` up
    to p, each as likely. With ``distil`` the step also has the gradient of the client's whole sub-model, whose
    probabilities are then what the narrower one learns.  Averaged as by ``heterofl``, by samples. At capability 1 with
    widths (1,) it is FedAvg.

    Args:
        task: The local problem f.
        widths: P, what the clients draw from.
        distil: Whether narrower prefixes learn from the client's whole sub-model instead of from labels; it takes a
            task of classes, with an output for each.
        weighting: ``uniform``, or ``samples``: by a client's number of examples.
        **rest: The reduction, the wires, the local steps: what ``submodels`` takes.

    Bytes:
        up: 4 * p + ceil(classes / 8) + 4 * numbers
        down: 4 * p

    p is the number of parameters of the client's sub-model; classes are told with ``own_classes`` only; numbers
    is that of the client's units with ``reduce`` importance, else 0.

    Memory:
        Server: the model. Client: nothing between rounds.

    Reference:
        Horvath et al. 2021, arXiv:2102.13451. Batch statistics are those of the minibatch at its width, where the
        paper keeps statistics for each width; in evaluation they are measured at the width that is evaluated
        (B4.1 in docs/sub-models.md).
    """
    errors = [error for width in widths for error in argument_errors("widths", width, Fraction)]
    if errors or not widths:
        raise FedSepError("fjord: " + (errors[0] if errors else "widths must name a share of the units (got none)"))
    method = submodels(
        task,
        Static(),
        weighting=weighting,
        stepping=lambda steps, table: OrderedDropout(steps, table, tuple(widths), distil),
        **rest,
    )
    if distil:
        _require_probabilities(task, cast(Submodel, method.view).units)
    return method


def _require_probabilities(task: Task, table: Units) -> None:
    """Refuses to distil from outputs that are no scores of two classes or more: the softmax of one is 1, always."""
    scores = task.init()[table.outputs[0]].shape[0] if table.outputs else None
    if isinstance(task, Regression) or scores == 1 or (scores is None and isinstance(task, Binary)):
        raise FedSepError(
            f"distil must be False for {type(task).__name__.lower()} without outputs for two classes or more: it "
            "learns from probabilities (got True)"
        )
