"""Clients with models of different architectures: which there are, and which a client of some capability has."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedsep import tree
from fedsep.core import FedSepError, Params, Samples, Task, Wire
from fedsep.learners.descent import Descent
from fedsep.models import calibration
from fedsep.tasks.around import Around
from fedsep.tasks.pure import Pure, pure
from fedsep.wires.dense import Dense

Modules = Mapping[float, nn.Module]
"""Modules by the least capability that a client needs for them."""

AT_ONCE = 500
"""Public examples of one pass, about: passes are of one size, as none may be left with a single example."""


@dataclass(frozen=True, eq=False)
class Member(Around):
    """A task with another model.

    Attributes:
        task: Gives criterion and metrics.
        model: Gives the outputs.
    """

    model: Pure

    def init(self) -> Params:
        """The model's initial parameters, as fresh tensors."""
        return self.model.init()

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """The model's outputs."""
        return self.model(params, x)


@dataclass(frozen=True, eq=False)
class Zoo:
    """Architectures by name.

    Attributes:
        members: A task for each; the name is the least capability that a client needs, as text.
        levels: These capabilities, the largest first.
    """

    members: Mapping[str, Task]
    levels: tuple[float, ...]

    def name(self, capability: float) -> str:
        """The largest architecture that a client of ``capability`` can hold.

        Raises:
            FedSepError: It can hold none.
        """
        for level in self.levels:
            if capability >= level - 1e-9:
                return _name(level)
        raise FedSepError(self.errors([capability])[0])

    def called(self) -> dict[str, Task]:
        """The tasks by what their models are called in messages."""
        return {called(name): task for name, task in self.members.items()}

    def errors(self, capabilities: Sequence[float]) -> list[str]:
        """What is wrong with the zoo for clients of these capabilities."""
        weak = min(capabilities, default=1.0)
        if weak >= self.levels[-1] - 1e-9:
            return []
        return [f"zoo must have a model for clients of capability {weak:g} (got models from {self.levels[-1]:g} on)"]


def shared(method: str, public: Samples | None) -> Samples:
    """The public data.

    Raises:
        FedSepError: There are none.
    """
    if public is None or not public.size:
        raise FedSepError(f"{method}: public data are missing: add public: N to the data block, or another data set")
    return public


def zoo_of(method: str, task: Task, modules: Modules | None, public: Samples, *, own: bool) -> Zoo:
    """The task's own model for clients of capability 1, and the given ones below.

    Args:
        method: For messages.
        task: Its model is that of capability 1, unless ``modules`` has another one there.
        modules: By capability, in (0, 1].
        public: What the models must agree on.
        own: Whether the task's model must be that of capability 1; else ``modules`` may have another one there.

    Raises:
        FedSepError: A capability is out of range, or models differ in their outputs.
    """
    given = {_level(method, level): module for level, module in (modules or {}).items()}
    if own and 1.0 in given:
        raise FedSepError(f"{method}: zoo must name capabilities below 1: the recipe's model is that of capability 1")
    home = next(iter(task.init().values()))
    members: dict[float, Task] = {1.0: task}
    members |= {
        level: Member(task, pure(copy.deepcopy(module).to(home.device, home.dtype))) for level, module in given.items()
    }
    levels = tuple(sorted(members, reverse=True))
    _require_alike(method, task, members, public)
    return Zoo({_name(level): members[level] for level in levels}, levels)


def forgetful(method: str, uplink: Wire[Any] | None, zoo: Zoo) -> Wire[Any]:
    """The wire of a reply; what it remembered of one architecture would mean nothing for another.

    Raises:
        FedSepError: It has a memory, and there are several architectures.
    """
    wire = uplink or Dense()
    if len(zoo.members) > 1 and tree.leaves(wire.init(next(iter(zoo.members.values())).init())):
        raise FedSepError(f"{method}: uplink must be a wire without memory, since a client has another architecture "
                          f"whenever its capability is another (got {type(wire).__name__})")  # fmt: skip
    return wire


def _level(method: str, level: float | str) -> float:
    """A capability, which a recipe has as text because it is a key there."""
    try:
        number = float(level)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise FedSepError(f"{method}: zoo must name capabilities > 0 and <= 1 (got {level})")
    return number


def _require_alike(method: str, task: Task, members: Mapping[float, Task], public: Samples) -> None:
    if public.size < 2 and by_minibatch({f"{level:g}": member for level, member in members.items()}):
        raise FedSepError(f"{method}: public must hold two examples or more for batch normalisation (got 1)")
    some = public.take(slice(0, 2)).x
    wanted = _shape(method, "the model", task, some)
    for level, member in members.items():
        got = _shape(method, f"zoo's model of capability {level:g}", member, some)
        if got != wanted:
            raise FedSepError(
                f"{method}: zoo must hold models of {wanted[-1]} outputs, as the recipe's model has "
                f"(got {got[-1]} at capability {level:g})"
            )


def _shape(method: str, called: str, task: Task, x: Tensor) -> tuple[int, ...]:
    try:
        with torch.no_grad():
            return tuple(task.predict(task.init(), x).shape)
    except (RuntimeError, ValueError, IndexError) as error:
        shape = tuple(x.shape[1:])
        raise FedSepError(f"{method}: {called} cannot take public inputs of shape {shape} ({error})") from error


def _name(level: float) -> str:
    return f"{level:g}"


def width_of(task: Task, public: Samples) -> int:
    """How many outputs a task's model has."""
    with torch.no_grad():  # of two examples, as a batch of one has no statistics
        return task.predict(task.init(), public.take(slice(0, 2)).x).shape[-1]


def outputs(task: Task, params: Params, samples: Samples, at: Tensor) -> Tensor:
    """The model's outputs on some samples, shape (n, outputs), without a graph."""
    pieces = max(1, round(len(at) / AT_ONCE))
    with torch.no_grad():
        return torch.cat([task.predict(params, samples.take(index).x) for index in at.tensor_split(pieces)])


def called(name: str) -> str:
    """What an architecture's model is called in messages."""
    return f"the model of capability {name}"


def by_minibatch(tasks: Mapping[str, Task]) -> list[str]:
    """Whose models have batch normalisation, static or without running statistics: there are none of one example."""
    found = {name: getattr(task, "model", None) for name, task in tasks.items()}
    return [name for name, model in found.items() if isinstance(model, Pure) and calibration.by_minibatch(model.module)]


def lone(field: str, descent: Descent, count: int, told: str, tasks: Mapping[str, Task]) -> list[str]:
    """Why steps on public examples would meet a minibatch of one under batch normalisation.

    Args:
        field: The argument that is at fault, for messages.
        descent: The steps.
        count: Public examples of a round.
        told: Whose number that is, for messages.
        tasks: The models that take the steps, by what they are called.
    """
    names = by_minibatch(tasks)
    if not names or not descent.leaves_one(count):
        return []
    return [
        f"{field} must leave no minibatch of one public example, since {names[0]} has batch normalisation (got "
        f"{descent.batch_size}; {told} {count}): choose another, or models with norm=group"
    ]
