"""What a gated model costs: against torch's counter on sliced models, and the loss for costing more."""

import functools
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fedsep import models, random, tasks
from fedsep.core import Ctx
from fedsep.gates import Cost, Term, gate_scores, parameters, resource_loss, spread
from fedsep.models.units import kept

MODELS = {
    "cnn": (lambda: models.cnn((1, 16, 16), 10, width=8), (1, 16, 16)),
    "small_cnn": (lambda: models.small_cnn((1, 28, 28), 10), (1, 28, 28)),
    "mlp": (lambda: models.mlp((5,), 3, hidden=(8, 6)), (5,)),
    "resnet": (lambda: models.resnet((3, 8, 8), 10, width=4, blocks=(1, 2)), (3, 8, 8)),
    "strided": (lambda: models.resnet((3, 9, 9), 4, width=2, blocks=(1, 1), norm="none", scaler=False), (3, 9, 9)),
}
CAPABILITIES = (1.0, 0.5, 0.3, 0.25, 0.125, 0.0625)


@functools.cache
def task_of(name):
    make, shape = MODELS[name]
    return tasks.classification(make(), shape=shape)


def made(name, **options):
    return task_of(name), gate_scores(task_of(name), **options), MODELS[name][1]


def some(table, capability, seed=0):
    """Random units of every group."""
    return {g: random.permutation(random.fold(random.key(seed), i), n)[: kept(n, capability)]
            for i, (g, n) in enumerate(table.sizes.items())}  # fmt: skip


def counted(task, part, shape, examples=2):
    """Multiply-adds of an example, by torch."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        task.predict(part, torch.zeros(examples, *shape))
    return counter.get_total_flops() / 2 / examples


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("gates", ["all_tied", "inner"])
def test_multiply_adds_are_those_that_torch_counts_on_the_sliced_model(name, gates):
    task, scores, shape = made(name, gates=gates)
    table, params = scores.gating.units, task.init()
    for capability in CAPABILITIES:
        keep = some(table, capability)
        wanted = counted(task, table.cut(params, keep), shape)
        assert float(scores.cost(spread(keep, table.sizes, torch.ones(())))) == pytest.approx(wanted, rel=1e-12)
        assert scores.cost.at(capability) == pytest.approx(wanted, rel=1e-12)
    assert scores.cost.total == pytest.approx(counted(task, params, shape), rel=1e-12)


class LowRank(torch.nn.Module):
    """A kernel that is a product of two, whose rows and columns are units."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = (torch.nn.Linear(*sizes, bias=False) for sizes in ((4, 6), (3, 4)))
        self.head = torch.nn.Linear(6, 2)

    def forward(self, x):
        return self.head(torch.relu(x @ (self.left.weight @ self.right.weight).T))


def test_products_of_parameters_grow_with_rows_and_columns():
    """It is made once for all examples: three of them, as when it was traced."""
    task = tasks.classification(LowRank(), shape=(3,))
    scores = gate_scores(task)
    assert sorted(scores.gating.units.sizes.values()) == [4, 6]
    for capability in (1.0, 0.5, 0.3):
        keep = some(scores.gating.units, capability)
        wanted = counted(task, scores.gating.units.cut(task.init(), keep), (3,), 3)
        assert float(scores.cost(spread(keep, scores.gating.units.sizes, torch.ones(())))) == pytest.approx(wanted)


def test_gates_between_0_and_1_count_in_proportion():
    """By hand: 5 inputs, 8 and 6 hidden, 3 outputs."""
    _, scores, _ = made("mlp")
    one, two = torch.linspace(0.1, 0.8, 8), torch.linspace(0.2, 0.7, 6)
    wanted = 5 * one.sum() + one.sum() * two.sum() + 3 * two.sum()
    torch.testing.assert_close(scores.cost({"layer1": one, "layer2": two}), wanted)
    torch.testing.assert_close(scores.cost({"layer2": two}), 5 * 8 + 8 * two.sum() + 3 * two.sum())


@pytest.mark.parametrize("name", ["small_cnn", "resnet"])
def test_parameters_are_those_of_the_sliced_model(name):
    task, scores, _ = made(name, budget="params")
    table, params = scores.gating.units, task.init()
    for capability in CAPABILITIES:
        keep = some(table, capability)
        wanted = sum(part.numel() for part in table.cut(params, keep).values())
        assert float(scores.cost(spread(keep, table.sizes, torch.ones(())))) == pytest.approx(wanted)
    assert parameters(params, table) == scores.cost


def test_residual_streams_stay_whole_with_inner_gates():
    task, scores, _ = made("resnet", gates="inner")
    assert sorted(scores.gating.units.sizes) == ["stages.0.0.conv1", "stages.1.0.conv1", "stages.1.1.conv1"]
    assert scores.cost.at(0.5) / scores.cost.total == pytest.approx(0.5, abs=0.07)
    everything = made("resnet")[1]
    assert everything.cost.at(0.5) / everything.cost.total == pytest.approx(0.25, abs=0.07)
    table = models.units(task.model.module, (3, 8, 8))
    assert table.inner() == scores.gating.units
    assert (everything.exponent, scores.exponent) == (2, 1)


def test_normalisation_and_activation_count_as_in_nppm_where_they_shall():
    """Three operations for each number that a layer gives: 16 of 8 x 8, 32 of 4 x 4, 32 of 2 x 2 and 10."""
    task = tasks.classification(models.small_cnn((1, 8, 8), 10, pool=1), shape=(1, 8, 8))
    plain, more = (gate_scores(task, elementwise=each).cost.total for each in (False, True))
    assert more - plain == 3 * (16 * 64 + 32 * 16 + 32 * 4 + 10)


@pytest.mark.parametrize("gates", ["all_tied", "inner"])
@pytest.mark.parametrize("budget", ["width", "params", "flops"])
def test_the_target_is_p_squared_and_p_where_a_width_costs_that(budget, gates):
    scores = made("resnet", budget=budget, gates=gates)[1]
    share = 0.25 if (budget, gates) == ("width", "inner") else 0.25**2
    assert scores.target(Ctx(0, 0.25, random.key(1))) == pytest.approx(share * scores.cost.total)


def test_the_resource_loss_is_0_up_to_the_target_and_its_gradient_is_that_of_log_t():
    cost = Cost((Term(40.0, ("a", "b")), Term(12.0, ("b",)), Term(5.0, ())), {"a": 4, "b": 3})
    gates = {"a": torch.tensor([0.2, 0.9, 0.5, 0.4]), "b": torch.tensor([0.3, 0.6, 0.9])}
    sum_a, sum_b = gates["a"].sum(), gates["b"].sum()
    total = 40 * sum_a / 4 * sum_b / 3 + 12 * sum_b / 3 + 5
    torch.testing.assert_close(cost(gates), total)

    def loss(gates, target):
        return resource_loss(cost(gates), target)

    for target, over in ((float(total) * 0.5, True), (float(total) * 2, False)):
        leaves = {name: part.clone().requires_grad_() for name, part in gates.items()}
        value = loss(leaves, target)
        value.backward()
        assert float(value.detach()) == pytest.approx(math.log(2) if over else 0.0)
        slope_a = 40 / 4 * sum_b / 3 / total if over else torch.tensor(0.0)
        torch.testing.assert_close(leaves["a"].grad, slope_a.expand(4))
        for group, part in gates.items():
            for place in range(len(part)):
                step = torch.zeros_like(part)
                step[place] = 1e-5
                up, down = (loss({**gates, group: part + sign * step}, target) for sign in (1, -1))
                assert float(leaves[group].grad[place]) == pytest.approx(float(up - down) / 2e-5, abs=1e-8)


@pytest.mark.parametrize("total", [0.0, 2.0])
def test_gates_that_are_all_closed_cost_nothing_and_pull_at_nothing(total):
    """The logarithm of 0 has no slope; nor has the loss at the target."""
    cost = torch.tensor(total, requires_grad=True)
    value = resource_loss(cost, 2.0)
    value.backward()
    assert (float(value.detach()), float(cost.grad)) == (0.0, 0.0)


def test_the_resource_loss_falls_as_units_go_and_then_is_0():
    scores = made("small_cnn")[1]
    target = scores.cost.total / 16
    losses = [float(resource_loss(torch.tensor(scores.cost.at(p)), target)) for p in (1, 0.75, 0.5, 0.25, 0.1)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == pytest.approx(math.log(16))
    assert losses[-1] == 0.0
