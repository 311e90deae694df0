"""The gates of a task's model: what is traced, what is checked, and the settings that go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from torch import Tensor, nn

from fedsep import random
from fedsep.core import FedSepError, Params, Task
from fedsep.gates.cost import Cost, exponent, multiply_adds, parameters
from fedsep.gates.fit import Adam
from fedsep.gates.gating import Gating, spread
from fedsep.gates.hypernetwork import Free, Hypernetwork
from fedsep.gates.relaxation import Noise, Relaxation
from fedsep.gates.scoring import GateScores
from fedsep.models.tracing.checking import check_gated
from fedsep.models.tracing.multiplying import Multiplied, multiplied
from fedsep.models.units import Kept, Units
from fedsep.ranges import Count, NonNegative, Positive, Range, checked
from fedsep.submodels import BudgetName, Gates, table_of
from fedsep.tasks.pure import Pure

Form = Literal["hypernetwork", "free"]
"""``hypernetwork``: HN(phi); ``free``: one free number for each unit."""
Preset = Literal["fedsep", "nppm"]
"""Settings of the relaxation and its optimiser that go together; each may also be given."""

_EXAMPLES = 3  # as for the table of units


class _Settings(NamedTuple):
    temperature: float
    offset: float
    noise: Noise
    lr: dict[Form, float]
    decay: float
    spread: float
    redrawn: bool


_PRESETS: dict[Preset, _Settings] = {
    "fedsep": _Settings(0.5, 0.0, "logistic", {"hypernetwork": 0.1, "free": 0.1}, 0.0, 0.0, redrawn=False),
    "nppm": _Settings(0.4, 3.0, "gumbel", {"hypernetwork": 1e-3, "free": 5e-2}, 1e-2, 1.0, redrawn=True),
}


@checked
def gate_scores(
    task: Task,
    units: Units | None = None,
    classes: Count | None = None,
    *,
    inputs: Sequence[int] | Tensor | None = None,
    gates: Gates = "all_tied",
    budget: BudgetName = "width",
    form: Form = "hypernetwork",
    preset: Preset = "fedsep",
    strength: NonNegative = 4.0,
    steps: Count = 12,
    batch_size: Annotated[int, Range(ge=2)] | None = 50,
    lr: Positive | None = None,
    temperature: Positive | None = None,
    offset: float | None = None,
    data: Literal["train", "validation"] = "train",
    elementwise: bool = False,
) -> GateScores:
    r"""Scores of units: gates that are fitted to a client's data, before noise and sigmoid (Eq. 7).

    $$\min_\phi\; \mathcal L(a \odot x; D_{val}) + \lambda \log\frac{\max(T(a), T^*)}{T^*},\qquad
    a = \sigma\big((HN(\phi) + b + \text{noise}) / \tau\big)$$

    with the model frozen, by a few minibatch steps of Adam; what is given back is HN(phi), without noise. The larger a
    score, the rather its unit shall be kept: the mask of Eq. (6) has the ceil(p n) largest of each layer.

    A call starts with a new phi, drawn by the client's key. The paper does not say whether phi outlives a mask;
    Algorithm 1 starts decode at any y_0, and phi is y here. A method may keep phi in the client's memory:
    ``scores.fit(phi, ...)`` goes on from it, ``scores.init(key)`` makes the first.

    Args:
        task: Gives the loss, and the model's parameters.
        units: Gates dimensions of the parameters count the same units; derived from the task's model by default.
        classes: Number of classes, where the scores of those that a client lacks are left out of its loss; else None.
        inputs: Shape of one input, or some inputs; by default what the task says.
        gates: Gates groups of units are gated. The scores' table of units, for a view, is ``scores.gating.units``.
        budget: What the target T* of a client of capability p is: p^2 of the whole model's multiply-adds (``flops``),
            or parameters (``params``); for ``width`` p^2 of the multiply-adds, or p of them with inner gates.
        form: Where scores come from.
        preset: ``fedsep``: logistic noise, tau .5, b 0, Adam at .1; one draw for both terms. ``nppm``: one Gumbel
            variable, tau .4, b 3, AdamW at .001 (.05 in the free form) with decay .01; the resource loss draws gates
            of 0 and 1 of its own. So started, all gates are open, and a few steps do not reach the budget.
        strength: lambda, the paper's beta.
        steps: How many minibatches phi is fitted to.
        batch_size: Examples in each, at least 2, since batch statistics need more than one; None: all.
        lr: Instead of the preset's.
        temperature: tau, instead of the preset's.
        offset: b, instead of the preset's.
        data: D_val. The paper's is the training data; a mask can then overfit.
        elementwise: Whether T(a) counts normalisation and activation as NPPM does, 3 operations a number.

    Memory:
        phi: 2 x 384 x 194 numbers of the GRU, 512, and 257 a unit; in the free form one a unit. A whole model
        with ``keep=None``, else the sub-model; steps need its gradient.

    Raises:
        FedSepError: The model is not known well enough, its units cannot be gated, or a number is out of range.

    Reference:
        "FedSep" (NeurIPS 2023), Eq. 6-8; Gao et al. 2021 (NPPM, CVPR). Deviations: units are gated where they are
        read, behind normalisation, once on every way; scalers divide by the share of units; T(a) counts every
        convolution and linear layer, also stem, shortcuts and head.
    """
    table = table_of(task, units)
    table = table.inner() if gates == "inner" else table
    _refuse_none(table)
    traced, gating = _traced(task, table, inputs)
    settings = _PRESETS[preset]
    return GateScores(
        task,
        gating,
        Hypernetwork(table.sizes) if form == "hypernetwork" else Free(table.sizes, settings.spread),
        Relaxation(temperature or settings.temperature, settings.offset if offset is None else offset, settings.noise),
        _cost(budget, traced, table, task.init(), elementwise),
        exponent(budget, inner=gates == "inner"),
        strength,
        Adam(lr or settings.lr[form], settings.decay),
        steps,
        batch_size,
        data,
        classes,
        settings.redrawn,
    )


def gating_of(task: Task, table: Units, inputs: Sequence[int] | Tensor | None = None) -> Gating:
    """How gates multiply the units of a task's model.

    Raises:
        FedSepError: The units cannot be gated.
    """
    return _traced(task, table, inputs)[1]


def _traced(task: Task, table: Units, inputs: Sequence[int] | Tensor | None) -> tuple[Multiplied, Gating]:
    model, params = getattr(task, "model", None), task.init()
    module = model.module if isinstance(model, Pure) else None
    example = _example(task, inputs, params, module)
    traced = multiplied(table, task.predict, params, example, module)
    gating = Gating(table, traced.readers, traced.scalers)

    def gate(params: Params, keep: Kept) -> Params:
        return gating(params, spread(keep, table.sizes, next(iter(params.values()))))

    check_gated(table, task.predict, gate, params, example)
    return traced, gating


def _example(task: Task, inputs: Sequence[int] | Tensor | None, params: Params, module: nn.Module | None) -> Tensor:
    if isinstance(inputs, Tensor):
        return inputs
    shape = inputs if inputs is not None else getattr(task, "shape", None)
    if shape is None:
        raise FedSepError(
            "gates: inputs must be given where the task does not say the shape of one: inputs=(1, 28, 28), or "
            "fedsep.tasks.classification(model, shape=federation.shape)"
        )
    symbols = getattr(module, "symbols", None)
    if symbols is not None:
        return random.integers(random.key(1), symbols, _EXAMPLES, *shape)
    return random.normal(random.key(1), _EXAMPLES, *shape).to(next(iter(params.values())))


def _cost(budget: BudgetName, traced: Multiplied, table: Units, params: Params, elementwise: bool) -> Cost:
    if budget == "params":
        return parameters(params, table)
    return multiply_adds(traced.products, table, elementwise=elementwise)


def _refuse_none(table: Units) -> None:
    if not table.sizes:
        raise FedSepError("gates: the model has no units that could be gated")
