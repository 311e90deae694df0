"""The server's step for sparse models: each weight is averaged over the clients that hold it; then the masks move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import Params, Tree, Update
from fedsep.sparsity.masking import Sparse
from fedsep.sparsity.masks import Masks, largest, masked


class Tally(NamedTuple):
    """A round's replies, folded.

    Attributes:
        total: Sum of the weighted changes of the model.
        weight: For each coordinate, the weight of the clients that hold it.
        votes: For each weight of the sparse layers, how many clients kept or grew it.
        against: How many clients pruned it.
        clients: How many replied.
    """

    total: Params
    weight: Params
    votes: Masks
    against: Masks
    clients: int


class Renewal(Protocol):
    """What becomes of the masks, and of what else x holds about them."""

    def __call__(self, x: Any, model: Params, tally: Tally) -> Mapping[str, Tree]:
        """The parts of x that change, by name: ``{"mask": masks}``, or nothing."""
        ...


@dataclass(frozen=True)
class SparseMean:
    """x_j <- x_j + sum_m w_m dx_mj / sum_m w_m over the clients m that hold j; as it was where nobody does.

    Attributes:
        renew: Gives the next masks; outside of them the model is 0. None: they stay.
    """

    renew: Renewal | None = None

    def init(self, x: Sparse) -> tuple[()]:
        """Nothing is remembered."""
        return ()

    def step(self, x: Sparse, updates: Iterable[Update], state: tuple[()]) -> tuple[Any, tuple[()]]:
        """x after the round; with no updates, x as it was."""
        tally = folded(updates, x["mask"])
        if tally is None:
            return x, state
        model = {name: part + _mean(tally.total[name], tally.weight[name]) for name, part in x["model"].items()}
        parts = {} if self.renew is None else self.renew(x, model, tally)
        masks: Masks = parts.get("mask", x["mask"])
        same = all(torch.equal(mask, masks[name]) for name, mask in x["mask"].items())
        since = x["since"] if same else x["round"] + 1
        return {**x, **parts, "model": masked(model, masks), "since": since}, state


def folded(updates: Iterable[Update], masks: Masks) -> Tally | None:
    """The replies as they come: memory does not grow with the cohort. None if there are none."""
    tally: Tally | None = None
    for update in updates:
        assert update.cover is not None
        held, change = update.cover["model"], update.value["model"]
        # Of its masks a client tells all, of the model it may cover its own classes' rows alone.
        own = _plus({name: update.cover["mask"][name] for name in masks}, update.value["mask"])
        gone = {name: (part < 0).to(part.dtype) for name, part in update.value["mask"].items()}
        one = Tally(tree.scale(_times(change, held), update.weight), tree.scale(held, update.weight), own, gone, 1)
        tally = one if tally is None else _add(tally, one)
    return tally


def _add(a: Tally, b: Tally) -> Tally:
    return Tally(
        total=_plus(a.total, b.total),
        weight=_plus(a.weight, b.weight),
        votes=_plus(a.votes, b.votes),
        against=_plus(a.against, b.against),
        clients=a.clients + b.clients,
    )


def _plus(a: Params, b: Params) -> Params:
    return {name: part + b[name] for name, part in a.items()}


def _times(a: Params, b: Params) -> Params:
    return {name: part * b[name] for name, part in a.items()}


def _mean(total: Tensor, weight: Tensor) -> Tensor:
    return torch.where(weight > 0, total / weight.clamp_min(1e-30), 0.0)


def voted(x: Sparse, tally: Tally) -> Masks:
    """What any client kept or grew, and what the server holds and no client was given or pruned."""

    def union(name: str, mask: Tensor) -> Tensor:
        lost = (tally.votes[name] == 0) & (tally.against[name] > 0)
        return ((mask > 0) & ~lost | (tally.votes[name] > 0)).to(mask.dtype)

    return {name: union(name, mask) for name, mask in x["mask"].items()}


def ranked(model: Params, among: Masks, counts: Mapping[str, int], then: Masks) -> Masks:
    """The largest weights of each layer among those that ``among`` admits; then by ``then``, outside of it too."""
    score = {name: torch.where(mask > 0, model[name].abs(), -1.0) for name, mask in among.items()}
    return {name: largest(score[name], counts[name], then[name]) for name in among}
