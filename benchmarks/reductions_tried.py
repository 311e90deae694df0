"""Reductions of sub-models' changes that were tried beside averaging by importance: what each idea is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fedsep import FedSep, algorithms, servers, tree
from fedsep.core import Ctx, Params, Task, Update
from fedsep.learners.weighing import relative
from fedsep.views.submodel import Importance, Submodel


@dataclass(frozen=True)
class Shaped(Importance):
    """Importance to a power, times capability to a power; ``raw``: not relative to the client's other units."""

    sharpness: float = 1.0
    strength: float = 1.0
    raw: bool = False

    def weights(self, told: Mapping[str, Tensor], ctx: Ctx) -> dict[str, Tensor]:
        """One number for each of the client's units."""
        found = dict(told) if self.raw else relative(dict(told))
        return {group: part**self.sharpness * ctx.capability**self.strength for group, part in found.items()}


@dataclass(frozen=True)
class Agreeing:
    """A server that gives a client's row of a tensor more weight, the more it points where the last step went."""

    server: Any
    floor: float = 0.1

    def init(self, x: Params) -> tuple[Any, Params]:
        """The server's state, and no step so far."""
        return self.server.init(x), tree.zeros_like(x)

    def step(self, x: Params, updates: Iterable[Update], state: tuple[Any, Params]) -> tuple[Params, Any]:
        """The server's step on reweighted changes."""
        inner, last = state
        after, inner = self.server.step(x, self._weighed(updates, last), inner)
        return after, (inner, tree.sub(after, x))

    def _weighed(self, updates: Iterable[Update], last: Params) -> Iterator[Update]:
        for update in updates:
            cover: Params = update.cover or {}
            yield update._replace(cover={name: part * self._rows(update.value[name], last[name], part)
                                         for name, part in cover.items()})  # fmt: skip

    def _rows(self, change: Tensor, last: Tensor, cover: Tensor) -> Tensor:
        rows = [part.reshape(len(part), -1) for part in (change, last * (cover > 0))]
        like = torch.nn.functional.cosine_similarity(*rows, dim=1, eps=1e-20)
        return (self.floor + (1 + like) / 2).reshape(-1, *(1 for _ in change.shape[1:]))


@dataclass(frozen=True)
class Balanced:
    """A server that weighs clients so that the classes of a round weigh alike, whoever happens to take part.

    A client's classes are the rows of the last layer that it moves. Its weight is the mean of 1 / (clients of the round
    that have the class) over its classes; with ``ridge`` the weights that come closest to an even mixture of the
    classes that are there, and that far from equal ones, none below a tenth.
    """

    server: Any
    rows: str
    ridge: float | None = None

    def init(self, x: Params) -> Any:
        """The server's state."""
        return self.server.init(x)

    def step(self, x: Params, updates: Iterable[Update], state: Any) -> tuple[Params, Any]:
        """The server's step on reweighted changes."""
        every = list(updates)
        shares = torch.stack([class_shares(update, self.rows) for update in every])
        weights = inverse_frequency(shares) if self.ridge is None else evened(shares, self.ridge)
        pairs = zip(every, weights.tolist(), strict=True)
        return self.server.step(x, [update._replace(weight=update.weight * by) for update, by in pairs], state)


def class_shares(update: Update, rows: str) -> Tensor:
    """The client's classes, as shares that sum to 1; K of them are alike."""
    cover: Params = update.cover or {}
    own = (cover[rows] > 0).to(torch.get_default_dtype())
    return own / own.sum().clamp_min(1.0)


def inverse_frequency(shares: Tensor) -> Tensor:
    """Weights with mean 1."""
    found = (shares / (shares > 0).sum(0).clamp_min(1)).sum(1)
    return found / found.mean()


def evened(shares: Tensor, ridge: float) -> Tensor:
    """min |shares^T w - M u|^2 + ridge |w - 1|^2, u even over the classes that are there; no weight below .1."""
    there = (shares.sum(0) > 0).to(shares.dtype)
    goal = len(shares) * there / there.sum()
    system = shares @ shares.T + ridge * torch.eye(len(shares))
    return torch.linalg.solve(system, shares @ goal + ridge).clamp_min(0.1)


@dataclass(frozen=True)
class Remembering:
    """A server that averages over classes what each class's clients did last; what is older weighs less each round.

    Attributes:
        rows: The parameter whose rows are classes.
        fade: Weight of what a class left in the round before, of a class that nobody has in this one.
        lr: Of the server.
    """

    rows: str
    fade: float = 0.7
    lr: float = 1.0

    def init(self, x: Params) -> tuple[Params, Params]:
        """By class: means of changes, and what they weigh."""
        zero = {name: part.new_zeros(10, *part.shape) for name, part in x.items()}
        return zero, zero

    def step(self, x: Params, updates: Iterable[Update], state: tuple[Params, Params]) -> tuple[Params, Any]:
        """x plus the mean over classes."""
        total, weight = tree.zeros_like(state[0]), tree.zeros_like(state[0])
        for update in updates:
            share, cover = class_shares(update, self.rows), update.cover or {}
            for name, part in update.value.items():
                own = share.reshape(-1, *(1 for _ in part.shape))
                total[name] += own * (part * cover[name])
                weight[name] += own * cover[name]
        means = {name: torch.where(weight[name] > 0, part / weight[name].clamp_min(1e-30), state[0][name])
                 for name, part in total.items()}  # fmt: skip
        weighs = {name: torch.where(part > 0, 1.0, self.fade * state[1][name]) for name, part in weight.items()}
        moved = {name: x[name] + self.lr * (weighs[name] * part).sum(0) / weighs[name].sum(0).clamp_min(1e-30)
                 for name, part in means.items()}  # fmt: skip
        return moved, (means, weighs)


Local = Mapping[str, Any]
"""What the local steps take."""

Make = Callable[[Task, Local], FedSep]


def balanced(
    task: Task, local: Local, reduce: Any = "importance", ridge: float | None = None, server: Any = None
) -> FedSep:
    """HeteroFL with weights by the round's classes."""
    method = algorithms.heterofl(task, reduce=reduce, server=server, **local)
    return replace(method, server=Balanced(method.server, "head.bias", ridge))


def remembering(task: Task, local: Local, **how: Any) -> FedSep:
    """HeteroFL with importances and a mean over classes."""
    method = algorithms.heterofl(task, reduce="importance", **local)
    return replace(method, server=Remembering("head.bias", **how))


def shaped(task: Task, local: Local, **how: Any) -> FedSep:
    """HeteroFL whose importances are put to use in another way."""
    method = algorithms.heterofl(task, reduce="importance", **local)
    assert isinstance(method.view, Submodel)
    return replace(method, view=replace(method.view, importance=Shaped(**how)))


def agreeing(task: Task, local: Local, reduce: Any) -> FedSep:
    """HeteroFL with weights by agreement with the last step."""
    method = algorithms.heterofl(task, reduce=reduce, **local)
    return replace(method, server=Agreeing(method.server))


def plain(name: str, **how: Any) -> Make:
    """A method of the library."""
    return lambda task, local: getattr(algorithms, name)(task, **local, **how)


def _shape(**how: Any) -> Make:
    return functools.partial(shaped, **how)


IDEAS: dict[str, Make] = {
    "heterofl": plain("heterofl"),
    "importance": plain("heterofl", reduce="importance"),
    "half and more": plain("exclude", least=0.5),
    "half and more, importance": plain("exclude", least=0.5, reduce="importance"),
    "capability squared": _shape(strength=2.0),
    "capability to the 3": _shape(strength=3.0),
    "capability left out": _shape(strength=0.0),
    "importance squared": _shape(sharpness=2.0),
    "root of importance": _shape(sharpness=0.5),
    "importance squared, capability squared": _shape(sharpness=2.0, strength=2.0),
    "raw importance": _shape(raw=True),
    "raw importance squared": _shape(raw=True, sharpness=2.0),
    "importance, server momentum .5": plain("heterofl", reduce="importance", server=servers.sgd(lr=0.5, momentum=0.5)),
    "importance, server momentum .9": plain("heterofl", reduce="importance", server=servers.sgd(lr=0.1, momentum=0.9)),
    "importance, server rate 1.5": plain("heterofl", reduce="importance", server=servers.sgd(lr=1.5)),
    "agreement": functools.partial(agreeing, reduce="coverage_mean"),
    "importance and agreement": functools.partial(agreeing, reduce="importance"),
    "classes balanced": functools.partial(balanced, reduce="coverage_mean"),
    "classes balanced, importance": balanced,
    "classes evened, importance": functools.partial(balanced, ridge=0.1),
    "classes evened gently, importance": functools.partial(balanced, ridge=0.5),
    "classes evened, importance, server momentum .5":
        functools.partial(balanced, ridge=0.1, server=servers.sgd(lr=0.5, momentum=0.5)),
    "classes remembered, importance": remembering,
    "classes remembered for one round, importance": functools.partial(remembering, fade=0.0),
    "one plan by Taylor, importance": plain("fedsep_shared", scores="taylor", reduce="importance"),
    "one plan by Taylor": plain("fedsep_shared", scores="taylor"),
    "one plan by gates, importance": plain("fedsep_shared", scores="gates", reduce="importance"),
    "two clusters, importance": plain("fedsep_shared", scores="taylor", reduce="importance", clusters=2),
}  # fmt: skip


LEADING = (
    "heterofl",
    "importance",
    "half and more",
    "root of importance",
    "capability squared",
    "classes balanced, importance",
    "importance and agreement",
    "one plan by Taylor",
    "one plan by Taylor, importance",
    "half and more, importance",
)
"""Three controls, and the ideas that were ahead in the earlier search."""
