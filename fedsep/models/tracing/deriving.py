"""The table of units from one forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedsep import random
from fedsep.core import FedSepError
from fedsep.models.tracing.marks import Group, Mark, Marks, resolved, tie
from fedsep.models.tracing.rules import RULES
from fedsep.models.tracing.tracer import Tracer, fresh
from fedsep.models.units import Axis, Units
from fedsep.tasks.impurities import label
from fedsep.tasks.pure import Pure

_EXAMPLES = 3  # odd, so that it is not taken for a width; more than one, for batch normalisation


def example(module: nn.Module, inputs: Sequence[int] | Tensor) -> Tensor:
    """Some inputs of the shape given, in the type of the module's parameters, or numbers of symbols."""
    if isinstance(inputs, Tensor):
        return inputs
    symbols = getattr(module, "symbols", None)
    if symbols is not None:
        return random.integers(random.key(1), symbols, _EXAMPLES, *inputs)
    like = next(module.parameters(), torch.zeros(()))
    return random.normal(random.key(1), _EXAMPLES, *inputs).to(like)


def derived(module: nn.Module, example: Tensor, whole: Sequence[str]) -> Units:
    """The table, followed through the module.

    Raises:
        FedSepError: An operation is not understood, or there is nothing to slice.
    """
    known = {name for name, _ in module.named_modules()}
    for name in whole:
        if name not in known:
            raise FedSepError(f"units: whole must name layers of the model (got {name!r})")
    tracer, marks, out = _followed(module, example, whole)
    return _table(module, marks, _outputs(tracer, out, marks))


def outputs(module: nn.Module, example: Tensor) -> tuple[str, ...] | None:
    """Parameters whose rows are the model's outputs; None where these cannot be followed back to any."""
    try:
        tracer, marks, out = _followed(module, example, ())
    except Exception:  # an operation that takes other arguments than its rule foresees
        return None
    last = tracer.of(out)[-1] if out.dim() else None
    return None if last is None or last.group.lost else _outputs(tracer, out, marks)


def _followed(module: nn.Module, example: Tensor, whole: Sequence[str]) -> tuple[Tracer, dict[str, Marks], Tensor]:
    """One forward pass: what followed it, the parameters' marks, and what it gave."""
    params = Pure(module).init()
    tracer = Tracer(RULES, whole)
    marks = {name: fresh(part) for name, part in params.items()}
    for name, part in params.items():
        tracer.set(part, marks[name])
    tracer.set(example, (None,) * example.dim())
    with tracer.watching(module):
        out = Pure(module)(params, example)
    return tracer, marks, out


def _outputs(tracer: Tracer, out: Tensor, marks: dict[str, Marks]) -> tuple[str, ...]:
    """The model's outputs are never sliced; the parameters whose rows they are."""
    last = tracer.of(out)[-1]
    for mark in tracer.of(out):
        tie(mark, None)
    rows = {name: resolved(each[0]).group for name, each in marks.items() if each and each[0] is not None}
    return tuple(name for name, group in rows.items() if last is not None and group is resolved(last).group)


def _table(module: nn.Module, marks: dict[str, Marks], outputs: tuple[str, ...]) -> Units:
    found: dict[Group, list[tuple[str, int]]] = {}
    for name, each in marks.items():
        for dim, mark in enumerate(each):
            if mark is not None:
                found.setdefault(resolved(mark).group, []).append((name, dim))
    # A group that one dimension counts alone is made or read by nothing: it belongs to a layer that does not run.
    # Not so where it reads what an operation that is not understood made of units.
    sliced = {group: members for group, members in found.items()
              if not group.whole and (len(members) > 1 or group.lost)}  # fmt: skip
    _refuse_held(module, sliced)
    if not sliced:
        raise FedSepError("units: the model has no layer between its inputs and outputs that could be made narrower")
    names = _names(sliced)
    axes = {name: tuple(_axis(mark, names) for mark in each) for name, each in marks.items()}
    return Units(
        {names[group]: group.size for group in sliced},
        {name: each for name, each in axes.items() if any(each)},
        outputs,
        {names[group]: tuple(group.divisors) for group in sliced if group.divisors},
    )


def _refuse_held(module: nn.Module, sliced: dict[Group, list[tuple[str, int]]]) -> None:
    reasons = dict.fromkeys(held for group in sliced for held in group.held)
    if not reasons:
        return
    lines = [f"  - {label(each.layer, module.get_submodule(each.layer))}: {each.reason}." for each in reasons]
    layers = ", ".join(dict.fromkeys(repr(each.layer) for each in reasons if each.layer))
    rows = sorted({name for group in sliced if group.held for name, _ in sliced[group]})
    declare = ", ".join(f"{name!r}: ('GROUP', ...)" for name in rows[:3]) + (", ..." if len(rows) > 3 else "")
    advice = f"keep what meets these layers whole with whole=[{layers}], or " if layers else ""
    raise FedSepError(
        "units: it cannot be told which channels belong together:\n" + "\n".join(lines) + f"\n{advice}"
        f"write the table by hand with declare={{{declare}}}: the group of each dimension, None where it stays whole"
    )


def _names(sliced: dict[Group, list[tuple[str, int]]]) -> dict[Group, str]:
    """Each group is called after the first layer that makes its units."""
    names: dict[Group, str] = {}
    for group, members in sliced.items():
        first, dim = next((each for each in members if each[1] == 0), members[0])
        layer = first.rpartition(".")[0] or first
        possible = (layer, first, f"{first} {dim}")  # a layer's two parameters, or one's two dimensions
        names[group] = next(name for name in possible if name not in names.values())
    return names


def _axis(mark: Mark | None, names: dict[Group, str]) -> Axis | None:
    if mark is None:
        return None
    mark = resolved(mark)
    return Axis(names[mark.group], mark.outer, mark.inner) if mark.group in names else None
