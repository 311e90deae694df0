"""What a gated model costs: multiply-adds or parameters, as a function of the gates, and the loss for costing more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fedsep.core import Params
from fedsep.gates.gating import Gates
from fedsep.models.tracing.multiplying import Product
from fedsep.models.units import Units, kept
from fedsep.submodels import BudgetName

_NPPM = 3  # elementwise operations that NPPM counts a number that a convolution gives


class Term(NamedTuple):
    """A part of the cost that grows with some groups' numbers of units.

    Attributes:
        whole: At full width.
        groups: Each once for every dimension that counts its units.
    """

    whole: float
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """T(a) = sum over terms of whole * product over the term's groups of sum(a_g) / n_g.

    Attributes:
        terms: The parts.
        sizes: n, by group.
    """

    terms: tuple[Term, ...]
    sizes: Mapping[str, int]

    def __call__(self, gates: Gates) -> Tensor:
        """T(a), a scalar; groups that are not named are whole. Gates may be those of a sub-model: the rest is 0."""
        shares = {group: part.sum() / self.sizes[group] for group, part in gates.items()}
        some = next(iter(shares.values()))
        total = torch.zeros_like(some)
        for whole, groups in self.terms:
            term = some.new_tensor(whole)
            for group in groups:
                term = term * shares[group] if group in shares else term
            total = total + term
        return total

    @property
    def total(self) -> float:
        """T at full width."""
        return sum(term.whole for term in self.terms)

    def at(self, width: float) -> float:
        """T of a sub-model with ceil(width n) units of every group of n."""
        shares = {group: kept(n, width) / n for group, n in self.sizes.items()}
        return sum(whole * math.prod(shares[group] for group in groups) for whole, groups in self.terms)


def multiply_adds(products: Iterable[Product], table: Units, *, elementwise: bool = False) -> Cost:
    """Multiply-adds of convolutions and linear layers for one example.

    Args:
        products: As traced.
        table: The units that are gated.
        elementwise: Whether what NPPM adds for normalisation and activation counts as well: 3 for each number that a
            convolution or linear layer gives.
    """
    terms: list[Term] = []
    for each in products:
        terms.append(Term(each.multiply_adds, _named(each.groups, table)))
        if elementwise:
            terms.append(Term(_NPPM * each.outputs, _named(() if each.made is None else (each.made,), table)))
    return Cost(_together(terms), dict(table.sizes))


def parameters(params: Params, table: Units) -> Cost:
    """Numbers of a model whose parameters are ``params`` at full width."""
    axes = {name: table.axes.get(name, ()) for name in params}
    terms = [Term(part.numel(), tuple(axis.group for axis in axes[name] if axis)) for name, part in params.items()]
    return Cost(_together(terms), dict(table.sizes))


def _named(groups: Iterable[str], table: Units) -> tuple[str, ...]:
    return tuple(sorted(group for group in groups if group in table.sizes))


def _together(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Terms that grow with the same groups are one."""
    sums: dict[tuple[str, ...], float] = {}
    for whole, groups in terms:
        groups = tuple(sorted(groups))
        sums[groups] = sums.get(groups, 0.0) + whole
    return tuple(Term(whole, groups) for groups, whole in sums.items())


def resource_loss(cost: Tensor, target: float) -> Tensor:
    """log(max(T, target) / target): 0 with gradient 0 up to the target, else with gradient 1 / T."""
    # The larger one is chosen before the logarithm: a draw of gates that are all 0 costs 0, where log has no slope.
    return torch.log(torch.where(cost <= target, target, cost) / target)


def exponent(budget: BudgetName, *, inner: bool) -> int:
    """The target is the client's capability p to this power, times the whole model's cost.

    At a width of p with all groups gated, multiply-adds are about p squared of the whole: with a target of p, gates
    would settle at about sqrt(p) of the units, and the cut to p would choose the rest. At a width of p with residual
    streams whole, they are about p.
    """
    return 1 if budget == "width" and inner else 2
