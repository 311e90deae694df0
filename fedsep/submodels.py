"""Methods in which each client trains a part of the server's model that suits its capability, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypedDict, Unpack
from weakref import WeakKeyDictionary

from torch import nn

from fedsep.class_rows import beside, rows_of
from fedsep.codecs.identity import Identity
from fedsep.codecs.present import Present
from fedsep.core import Codec, FedSepError, Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.if_sent import IfSent
from fedsep.learners.own_classes import OwnClasses
from fedsep.learners.sgd import SGD, LocalSGD, Steps, sgd
from fedsep.learners.weighing import Weighing
from fedsep.models.budget import Budget, of_multiply_adds, of_parameters
from fedsep.models.units import Units
from fedsep.models.units import units as units_of
from fedsep.ranges import checked
from fedsep.servers.optimize import Optimize, Rule
from fedsep.servers.reduce import coverage_mean, mean
from fedsep.servers.sgd import SGDRule
from fedsep.tasks.pure import Pure
from fedsep.views.plans import Plan
from fedsep.views.submodel import Importance, Submodel
from fedsep.wires.dense import Dense

Reduction = Literal["coverage_mean", "mean", "importance", "shuffled"]
"""How changes become one.

``coverage_mean`` divides each coordinate by the clients that hold it, ``mean`` by all that replied. ``importance``:
each client sends one number a unit, how much its local steps pulled at it, and a coordinate is averaged over the
clients that hold it by that number, relative to the client's other units of the group, times the client's capability.
``shuffled`` is its control: the numbers of each group change places among the units.
"""

Gates = Literal["all_tied", "inner"]
"""Which groups are cut: all, or those that one kernel alone makes, residual streams staying whole."""

BudgetName = Literal["width", "params", "flops"]
"""What a capability p is.

``width``: the share p of the units. ``params``, ``flops``: the largest share w whose sub-model, ceil(w n) of the n
units of each group, has at most p^2 of the whole model's parameters, or of its multiply-adds in convolutions and
products.
"""

_WEIGHTS: dict[Reduction, Importance] = {"importance": Importance(), "shuffled": Importance(shuffled=True)}
_known: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], Units]] = WeakKeyDictionary()


class Fleet(NamedTuple):
    """Which part of the model a client gets, beside the plan.

    Attributes:
        least: Clients of a lower capability take no part.
        width: Taken for every client's capability; None: its own.
    """

    least: float = 0.0
    width: float | None = None


def _as_they_are(steps: SGD, units: Units) -> Steps:
    return steps


def table_of(task: Task, given: Units | None) -> Units:
    """The units of a task's model: those given, or derived from its module and the shape of its inputs.

    Raises:
        FedSepError: The task does not say what they can be derived from, or they cannot be derived.
    """
    if given is not None:
        return given
    model, shape = getattr(task, "model", None), getattr(task, "shape", None)
    if not isinstance(model, Pure) or shape is None:
        raise FedSepError(
            "units must be given, or the task must say the shape of its inputs so that they can be derived: "
            "fedsep.tasks.classification(model, shape=federation.shape), or units=fedsep.models.units(model, shape)"
        )
    tables = _known.setdefault(model.module, {})
    if shape not in tables:
        tables[shape] = units_of(model.module, shape)
    return tables[shape]


class Cutting(TypedDict, total=False):
    """The arguments of ``submodels`` that methods pass on to it as they are: what they mean is said there."""

    units: Units | None
    own_classes: bool
    server: Rule | None
    uplink: Wire[Any] | None
    downlink: Wire[Any] | None


class WeighedArguments(Cutting, LocalSGD, total=False):
    """The same of methods whose reduction is their own, and those of the local steps."""


class Slicing(Cutting, total=False):
    """The same, with the reduction."""

    reduce: Reduction


class SubmodelArguments(Slicing, LocalSGD, total=False):
    """The same, and the local steps."""


class RankedArguments(SubmodelArguments, total=False):
    """The same, and those of methods whose clients may be cut from some groups only, or by what a sub-model costs."""

    gates: Gates
    budget: BudgetName


@checked(takes=sgd)
def submodels(
    task: Task,
    plan: Plan,
    *,
    units: Units | None = None,
    own_classes: bool = True,
    reduce: Reduction = "coverage_mean",
    server: Rule | None = None,
    weighting: Weighting = "uniform",
    uplink: Wire[Any] | None = None,
    downlink: Wire[Any] | None = None,
    gates: Gates = "all_tied",
    budget: BudgetName = "width",
    fleet: Fleet = Fleet(),
    stepping: Callable[[SGD, Units], Steps] = _as_they_are,
    **local: Unpack[LocalSGD],
) -> FedSep:
    """A method whose clients train sub-models: the view cuts them out, the server puts them back.

    Args:
        task: The local problem f.
        plan: Which units a client gets.
        units: Which dimensions of the parameters count the same units; derived from the task's model by default.
        own_classes: Whether a client leaves the scores of classes that it has not out of its loss, and the server moves
            a class's row by those clients only that have the class.
        reduce: ``coverage_mean`` divides each coordinate by the clients that hold it, ``mean`` by all that replied;
            ``importance`` averages by one number a unit from each client, ``shuffled`` is its control: see
            ``fedsep.submodels.Reduction``.
        server: Server optimiser, from ``fedsep.servers``; plain averaging by default.
        weighting: ``uniform``, or ``samples``: by a client's number of examples.
        uplink: How a change is sent, from ``fedsep.wires``, without memory; float32 by default.
        downlink: How the sub-model is sent; float32 by default.
        gates: Which groups of units are cut: ``all_tied``, or ``inner``: those that one kernel alone makes, so that
            residual streams stay whole.
        budget: What a capability p is: ``width``: the share p of the units; ``params`` or ``flops``: the largest share
            whose sub-model has at most p^2 of the whole model's parameters or multiply-adds.
        fleet: Which part of the model a client gets, beside the plan.
        stepping: Makes other local steps of the plain ones.
        **local: The local steps: what ``learners.sgd`` takes.

    Raises:
        FedSepError: There are no classes of one's own, or a wire does not suit sub-models.
    """
    table = table_of(task, units)
    table = table.inner() if gates == "inner" else table
    classes, weights = rows_of(task, table.outputs).classes if own_classes else None, _WEIGHTS.get(reduce)
    keeps_key = getattr(plan, "keeps_key", False)
    tells = classes is not None or weights is not None or keeps_key
    codec: Codec[Any] = Present(classes, weights is not None, keeps_key) if tells else Identity()
    steps = stepping(sgd(task, **local), table)
    steps = steps if weights is None else Weighing(steps, table)
    return FedSep(
        IfSent(steps if classes is None else OwnClasses(steps, classes)),
        codec,
        Submodel(table, plan, classes, weights, *fleet, _budget(task, table, budget, gates == "all_tied")),
        uplink=_up(task, uplink, tells),
        downlink=downlink or Dense(),
        server=Optimize(server or SGDRule(), mean if reduce == "mean" else coverage_mean),
        weighting=weighting,
    )


def _budget(task: Task, table: Units, budget: BudgetName, tied: bool) -> Budget | None:
    if budget == "width":
        return None
    if budget == "params":
        return of_parameters(table, task.init(), tied=tied)
    model, shape = getattr(task, "model", None), getattr(task, "shape", None)
    if not isinstance(model, Pure) or shape is None:
        raise FedSepError("budget=flops needs a task that has a module and says the shape of its inputs")
    return of_multiply_adds(table, task.init(), model, shape, tied=tied)


def _up(task: Task, uplink: Wire[Any] | None, tells: bool) -> Wire[Any]:
    wire = uplink or Dense()
    if wire.init(task.init()) not in ((), None):
        raise FedSepError(
            f"uplink must be a wire without memory, since a client holds another sub-model each time (got {wire!r})"
        )
    return beside(wire, tells)
