"""Methods in which each client trains a part of the server's model that suits its capability, put together."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

from torch import nn

from fedsep.codecs.identity import Identity
from fedsep.codecs.present import Present
from fedsep.core import Codec, FedSepError, Task, Wire
from fedsep.fedsep import FedSep, Weighting
from fedsep.learners.if_sent import IfSent
from fedsep.learners.ordered_dropout import OrderedDropout
from fedsep.learners.own_classes import OwnClasses
from fedsep.learners.sgd import SGD
from fedsep.models.units import Units, units
from fedsep.servers.optimize import Optimize, Rule
from fedsep.servers.reduce import Reduce, coverage_mean, mean
from fedsep.servers.sgd import SGDRule
from fedsep.tasks.binary import Binary
from fedsep.tasks.pure import Pure
from fedsep.tasks.regression import Regression
from fedsep.views.plans import Plan
from fedsep.views.submodel import Submodel
from fedsep.wires.by_name import by_name
from fedsep.wires.dense import Dense

Average = Literal["coverage_mean", "mean"]
"""Whether each coordinate is divided by the clients that hold it, or by all that replied."""

_REDUCTIONS: dict[Average, Reduce] = {"coverage_mean": coverage_mean, "mean": mean}
_known: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], Units]] = WeakKeyDictionary()


class Fleet(NamedTuple):
    """Which part of the model a client gets, beside the plan.

    Attributes:
        least: Clients of a lower capability take no part.
        width: Taken for every client's capability; None: its own.
    """

    least: float = 0.0
    width: float | None = None


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
        tables[shape] = units(model.module, shape)
    return tables[shape]


def submodels(
    task: Task,
    learner: SGD | OrderedDropout,
    table: Units,
    plan: Plan,
    *,
    own_classes: bool,
    average: Average,
    server: Rule | None,
    weighting: Weighting,
    uplink: Wire[Any] | None,
    downlink: Wire[Any] | None,
    fleet: Fleet = Fleet(),
) -> FedSep:
    """A method whose clients train sub-models: the view cuts them out, the server puts them back.

    Raises:
        FedSepError: There are no classes of one's own, or a wire does not suit sub-models.
    """
    classes = _classes(task, table) if own_classes else None
    codec: Codec[Any] = Identity() if classes is None else Present(classes)
    return FedSep(
        IfSent(learner if classes is None else OwnClasses(learner, classes)),
        codec,
        Submodel(table, plan, classes, *fleet),
        uplink=_up(task, uplink, classes),
        downlink=downlink or Dense(),
        server=Optimize(server or SGDRule(), _REDUCTIONS[average]),
        weighting=weighting,
    )


def _classes(task: Task, table: Units) -> int:
    if isinstance(task, Binary | Regression):
        raise FedSepError(f"own_classes must be False for {type(task).__name__.lower()}: its outputs are no classes")
    if not table.outputs:
        raise FedSepError("own_classes must be False where no layer's rows are the model's outputs (got True)")
    return task.init()[table.outputs[0]].shape[0]


def _up(task: Task, uplink: Wire[Any] | None, classes: int | None) -> Wire[Any]:
    wire = uplink or Dense()
    if wire.init(task.init()) not in ((), None):
        raise FedSepError(
            f"uplink must be a wire without memory, since a client holds another sub-model each time (got {wire!r})"
        )
    return wire if classes is None or isinstance(wire, Dense) else by_name(model=wire)
