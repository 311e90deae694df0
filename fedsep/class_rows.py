"""A client's own classes, told beside its change, and the rows of the model's last layer that are theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsep.core import FedSepError, Params, Shard, Task, Tree, Wire
from fedsep.learners.own_classes import present
from fedsep.tasks.binary import Binary
from fedsep.tasks.pure import Pure
from fedsep.tasks.regression import Regression
from fedsep.wires.bits import pack, packed_bytes, unpack
from fedsep.wires.by_name import by_name
from fedsep.wires.dense import Dense


class OwnRows(NamedTuple):
    """Some rows of some parameters; those that it does not name are whole.

    Attributes:
        names: The parameters.
        at: The rows, int64.
    """

    names: tuple[str, ...] = ()
    at: Tensor = torch.zeros(0, dtype=torch.int64)

    def cut(self, params: Params) -> Params:
        """The parameters with these rows alone."""
        return {name: part[self.at.to(part.device)] if name in self.names else part for name, part in params.items()}

    def paste(self, part: Params, whole: Params) -> Params:
        """``whole`` with these rows, and all of what has no such rows, from ``part``."""
        return {name: whole[name].index_copy(0, self.at.to(each.device), each) if name in self.names else each
                for name, each in part.items()}  # fmt: skip


@dataclass(frozen=True)
class ClassRows:
    """The parameters whose rows are the scores of classes; a reply says in a bit for each class which the client has.

    Attributes:
        classes: How many there are.
        names: The parameters.
    """

    classes: int
    names: tuple[str, ...]

    def told(self, change: Tree, shard: Shard) -> dict[str, Tree]:
        """A client's change and its classes."""
        return {"model": change, "classes": pack(present(shard.train.y, self.classes), 1)}

    def like(self, change: Tree, device: torch.device) -> dict[str, Tree]:
        """The shape of that."""
        bits = torch.zeros(packed_bytes(self.classes, 1), dtype=torch.uint8, device=device)
        return {"model": change, "classes": bits}

    def own(self, shard: Shard) -> OwnRows:
        """The rows of a client's classes."""
        return OwnRows(self.names, present(shard.train.y, self.classes).nonzero()[:, 0])

    def marks(self, bits: Tensor, x: Params) -> Params:
        """1 in the rows of the client's classes, 0 in those of others, to be broadcast, of the parameters named."""
        own = unpack(bits, 1, self.classes)
        return {name: own.to(x[name].dtype).reshape(-1, *(1 for _ in x[name].shape[1:])) for name in self.names}


def own_rows(rows: ClassRows | None, shard: Shard) -> OwnRows:
    """The rows that a client trains; None: all of them."""
    return OwnRows() if rows is None else rows.own(shard)


def told(rows: ClassRows | None, change: Tree, shard: Shard) -> Tree:
    """A client's reply: its change, and beside it its classes where they are told."""
    return change if rows is None else rows.told(change, shard)


def like(rows: ClassRows | None, change: Tree, x: Params) -> Tree:
    """The shape of a reply."""
    return change if rows is None else rows.like(change, next(iter(x.values())).device)


def heard(rows: ClassRows | None, reply: Any, x: Params) -> tuple[Any, Params]:
    """The change that a reply holds, and the marks of the rows that it may move; none where it may move all."""
    return (reply, {}) if rows is None else (reply["model"], rows.marks(reply["classes"], x))


def times(params: Params, by: Mapping[str, Tensor]) -> Params:
    """The parameters times those of ``by`` that have their names."""
    return {name: part * by[name] if name in by else part for name, part in params.items()}


def beside(uplink: Wire[Any] | None, tells: bool) -> Wire[Any]:
    """The wire of a reply, which sends the change as asked and what is told beside it as it is."""
    wire = uplink or Dense()
    return wire if not tells or isinstance(wire, Dense) else by_name(model=wire)


def rows_of(task: Task, outputs: Sequence[str]) -> ClassRows:
    """The rows of classes where the model's outputs are those of these parameters.

    Raises:
        FedSepError: The outputs are not scores of classes, or nothing's rows are the outputs.
    """
    if isinstance(task, Binary | Regression):
        raise FedSepError(f"own_classes must be False for {type(task).__name__.lower()}: its outputs are no classes")
    if not outputs:
        raise FedSepError("own_classes must be False where no layer's rows are the model's outputs (got True)")
    params = task.init()
    counts = {name: params[name].shape[0] if name in params else None for name in outputs}
    if len(set(counts.values())) > 1 or None in counts.values():
        raise FedSepError(f"outputs must name parameters with a row for every class (got {list(outputs)}, rows: "
                          f"{', '.join(str(count or 'no such parameter') for count in counts.values())})")  # fmt: skip
    return ClassRows(params[outputs[0]].shape[0], tuple(outputs))


def found(task: Task, outputs: Sequence[str] | None) -> ClassRows:
    """The rows of classes of any task: of the parameters given, or of those that its module's outputs come from.

    Raises:
        FedSepError: They cannot be found, or there are no classes.
    """
    if outputs is not None or isinstance(task, Binary | Regression):
        return rows_of(task, outputs or ())
    from fedsep.models.tracing import deriving

    model, shape = getattr(task, "model", None), getattr(task, "shape", None)
    if not isinstance(model, Pure) or shape is None:
        raise FedSepError(
            "own_classes needs to know which rows belong to classes: say the shape of the task's inputs, "
            "fedsep.tasks.classification(model, shape=federation.shape), or name the parameters, as in "
            'outputs=("head.weight", "head.bias"), or give own_classes=False'
        )
    return rows_of(task, deriving.outputs(model.module, deriving.example(model.module, shape)) or ())
