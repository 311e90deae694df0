"""What a capability is in parameters and multiply-adds, and which groups are cut."""

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fedsep import algorithms, data, models, tasks, tree
from fedsep.cohort import Cohort
from fedsep.core import FedSepError
from fedsep.models.budget import multiply_adds, of_multiply_adds, of_parameters
from fedsep.models.units import Units, kept, units
from fedsep.tasks.pure import Pure
from fedsep.train import fit

SHAPE = (1, 8, 8)


def small(*widths):
    model = Pure(models.small_cnn(SHAPE, 3, widths=widths or (12, 20), pool=1))
    return model, model.init(), units(model.module, SHAPE)


def first(table: Units, share: float):
    return {group: torch.arange(kept(n, share)) for group, n in table.sizes.items()}


def counted(model, params):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(params, torch.zeros(2, *SHAPE))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("which", ["parameters", "multiply-adds"])
@pytest.mark.parametrize("capability", [1.0, 0.4])
def test_the_share_is_the_largest_whose_sub_model_costs_at_most_p_squared(which, capability):
    """Against every share in steps of 1/60, each sliced and counted."""
    model, params, table = small()
    budget = of_parameters(table, params) if which == "parameters" else of_multiply_adds(table, params, model, SHAPE)

    def cost(share):
        part = table.cut(params, first(table, share))
        return tree.size(part) if which == "parameters" else counted(model, part)

    fit_in = [k / 60 for k in range(1, 61) if cost(k / 60) <= capability**2 * cost(1.0)]
    wanted = {group: kept(n, fit_in[-1]) for group, n in table.sizes.items()}
    assert {group: kept(n, budget(capability)) for group, n in table.sizes.items()} == wanted
    assert not budget.mistakes(capability)
    assert budget.at(1.0) == cost(1.0)


def test_multiply_adds_are_counted_without_computing():
    model, params, _ = small()
    assert multiply_adds(model, params, SHAPE) == counted(model, params)


def test_a_budget_that_one_unit_exceeds_is_refused_before_a_run():
    federation = data.digits(clients=3)
    task = tasks.classification(models.small_cnn(federation.shape, 10, widths=(4, 4), pool=1), shape=federation.shape)
    method = algorithms.fedsep_mask(task, budget="params", steps=1)
    says = r"budget=params cannot be met: .* capability 0\.0625 may have 0\.39%, and with one unit of each group"
    with pytest.raises(FedSepError, match=says) as refused:
        fit(method, task, federation, rounds=1, cohort=Cohort(2, (1.0, 0.0625)))
    assert "all_tied" not in str(refused.value)  # it is that already
    enough = float(re.search(r"use capabilities of (\S+) or more", str(refused.value))[1])
    assert not method.view.part.budget.mistakes(enough)
    assert method.view.part.budget.mistakes(enough - 2e-4)
    fit(method, task, federation, rounds=1, cohort=Cohort(2, (1.0, 0.5)))


@pytest.mark.parametrize("budget", ["params", "flops"])
def test_streams_that_stay_whole_may_be_why_a_budget_cannot_be_met(budget):
    federation = data.digits(clients=3)
    net = models.resnet(federation.shape, 10, blocks=(1,), width=8, norm="none")
    task = tasks.classification(net, shape=federation.shape)
    inner, tied = (algorithms.fedsep_mask(task, budget=budget, gates=gates, steps=1) for gates in ("inner", "all_tied"))
    assert [text.endswith("or gates=all_tied") for text in inner.view.mistakes([0.2])] == [True]
    assert not tied.view.mistakes([0.2])


@pytest.mark.parametrize("budget", ["params", "flops"])
def test_a_budget_chooses_among_the_widths_that_group_normalisation_allows(budget):
    """With 2 groups only even widths run; at 0.6, an odd one would be the largest that is cheap enough."""
    federation = data.digits(clients=3)
    net = models.resnet(federation.shape, 10, blocks=(1,), width=8, norm="group", groups=2)
    task = tasks.classification(net, shape=federation.shape)
    found = algorithms.fedsep_mask(task, budget=budget, steps=1, batch_size=16)
    part = found.view.part
    counts = {capability: part.counts(capability) for capability in (1.0, 0.6, 0.45)}
    assert all(n % 2 == 0 for each in counts.values() for n in each.values())
    assert set(counts[1.0].values()) == {8}
    for capability, each in counts.items():
        share, whole = max(each.values()) / 8, part.budget.at(1.0)
        assert part.budget.at(share) <= capability**2 * whole
        assert share == 1 or part.budget.at(share + 2 / 8) > capability**2 * whole
    fit(found, task, federation, rounds=1, cohort=Cohort(2, (1.0, 0.6)))
    says = r"a client of capability 0\.1 may have 1\.00%, and with the fewest channels that group normalisation allows"
    with pytest.raises(FedSepError, match=says):
        fit(found, task, federation, rounds=1, cohort=Cohort(2, (1.0, 0.1)))


@pytest.mark.parametrize(("share", "parameters", "adds"), [
    (0.5, 0.508, 0.507), (0.25, 0.262, 0.261), (0.125, 0.139, 0.138), (0.0625, 0.078, 0.076),
])  # fmt: skip
def test_inner_groups_alone_keep_about_a_share_of_a_resnet_18(share, parameters, adds):
    model = Pure(models.resnet((3, 32, 32), 10))
    params = model.init()
    table = _derived(model).inner()
    assert sorted(table.sizes.values()) == sorted([64] * 2 + [128] * 2 + [256] * 2 + [512] * 2)
    part = table.cut(params, first(table, share))
    assert tree.size(part) / tree.size(params) == pytest.approx(parameters, abs=6e-4)
    whole, sliced = (multiply_adds(model, each, (3, 32, 32)) for each in (params, part))
    assert sliced / whole == pytest.approx(adds, abs=6e-4)


def test_inner_groups_of_half_the_parameters_are_half_the_width():
    model = Pure(models.resnet((3, 32, 32), 10))
    table = _derived(model).inner()
    share = of_parameters(table, model.init())(0.5**0.5)
    assert share == pytest.approx(0.49, abs=0.01)


def _derived(model):
    from fedsep.models.tracing.deriving import derived, example

    return derived(model.module, example(model.module, (3, 8, 8)), ())


def test_where_nothing_is_inner_it_is_said():
    table = Units({"g": 4}, {}, (), {})
    with pytest.raises(FedSepError, match="gates must be all_tied"):
        table.inner()


def test_multiply_adds_need_a_module():
    from catalogue import UNITS, network

    with pytest.raises(FedSepError, match="budget=flops needs a task that has a module"):
        algorithms.kept_random(network, units=UNITS, budget="flops")
