"""Gates on units: what is multiplied, that zeroed is sliced, and which models are refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedsep import models, random, tasks
from fedsep.core import FedSepError
from fedsep.gates import Gating, gating_of, hard, spread
from fedsep.models.tracing.declared import table as declared
from fedsep.models.tracing.multiplying import Reader, multiplied
from fedsep.models.units import Units, kept, units
from fedsep.tasks.pure import Pure

SHAPE = (3, 8, 8)


class Mix(nn.Module):
    """x W, W used as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(random.normal(random.key(3), 4 * 256, 5))

    def forward(self, x):
        return x @ self.matrix


class Sigmoids(nn.Module):
    """A convolution and its transpose around an activation that is not 0 at 0, and a matrix that is used as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.back = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.mix = Mix()
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        x = torch.sigmoid(self.back(torch.sigmoid(self.first(x))))
        return self.head(torch.sigmoid(self.mix(x.flatten(1))))


def general(task, seed=2):
    return {name: part + 0.3 * random.normal(random.fold(random.key(seed), number), *part.shape)
            for number, (name, part) in enumerate(task.init().items())}  # fmt: skip


def some(table, share, seed=0):
    return {g: random.permutation(random.fold(random.key(seed), i), n)[: kept(n, share)]
            for i, (g, n) in enumerate(table.sizes.items())}  # fmt: skip


MADE = {
    "small_cnn": lambda: models.small_cnn(SHAPE, 4, pool=1, widths=(6, 8)),
    "mlp": lambda: models.mlp(SHAPE, 4, hidden=(6, 5)),
    "static": lambda: models.resnet(SHAPE, 4, blocks=(1, 1), width=6),
    "none": lambda: models.resnet(SHAPE, 4, blocks=(2, 1), width=4, norm="none"),
    "sigmoids": Sigmoids,
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("inner", [False, True])
def test_zeroed_is_sliced_scalers_and_all(name, inner):
    task = tasks.classification(MADE[name](), shape=SHAPE)
    table = units(task.model.module, SHAPE)
    table = table.inner() if inner else table
    gating, params = gating_of(task, table), general(task)
    x = random.normal(random.key(4), 5, *SHAPE)
    for share in (0.5, 0.2):
        keep = some(table, share)
        wanted = task.predict(table.cut(params, keep), x)
        got = task.predict(gating(params, spread(keep, table.sizes, torch.ones(()))), x)
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
    everything = {group: torch.ones(n) for group, n in table.sizes.items()}
    torch.testing.assert_close(task.predict(gating(params, everything), x), task.predict(params, x))


def test_a_gate_multiplies_what_the_next_layer_reads_once():
    """By hand on a hidden layer whose activation is not homogeneous."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.two(torch.tanh(self.one(x)))

    task = tasks.classification(Net(), shape=(3,))
    params, a, x = general(task), torch.tensor([0.1, 0.5, 0.0, 0.9]), random.normal(random.key(1), 6, 3)
    hidden = torch.tanh(F.linear(x, params["one.weight"], params["one.bias"]))
    wanted = F.linear(a * hidden, params["two.weight"], params["two.bias"])
    gating = gating_of(task, units(task.model.module, (3,)))
    torch.testing.assert_close(task.predict(gating(params, {"one": a}), x), wanted)


def test_a_gate_is_on_every_way_out_of_a_residual_stream_and_behind_its_normalisation():
    task = tasks.classification(models.resnet(SHAPE, 4, blocks=(1, 1), width=4), shape=SHAPE)
    gating = gating_of(task, units(task.model.module, SHAPE))
    first, second = "stages.0.0", "stages.1.0"
    read = [f"{first}.conv1", f"{first}.conv2", f"{second}.conv1", f"{second}.shortcut", f"{second}.conv2", "head"]
    assert set(gating.readers) == {Reader(f"{name}.weight", 1) for name in read}
    assert gating.scalers["stages.1.0.norm1.0"] == "stem"


def test_readers_of_transposed_convolutions_and_of_matrices_used_as_they_are():
    task = tasks.classification(Sigmoids(), shape=SHAPE)
    gating = gating_of(task, units(task.model.module, SHAPE))
    assert gating.readers == (Reader("back.weight", 0), Reader("mix.matrix", 0), Reader("head.weight", 1))


def test_soft_gates_of_a_scaled_layer_are_scaled_by_their_sum():
    task = tasks.classification(models.small_cnn((1, 4, 4), 2, pool=1, widths=(4,)), shape=(1, 4, 4))
    params, a = general(task), torch.tensor([0.1, 0.5, 0.3, 0.9])
    x = random.normal(random.key(1), 6, 1, 4, 4)
    maps = F.relu(F.conv2d(x, params["convs.0.weight"], params["convs.0.bias"], padding=1)) * (4 / a.sum())
    wanted = F.linear((a[:, None, None] * maps).flatten(1), params["head.weight"], params["head.bias"])
    gating = gating_of(task, units(task.model.module, (1, 4, 4)))
    torch.testing.assert_close(task.predict(gating(params, {"convs.0": a}), x), wanted)
    none = {"convs.0": torch.zeros(4)}
    torch.testing.assert_close(task.predict(gating(params, none), x), params["head.bias"].expand(6, 2))


def test_gates_of_a_sub_model_are_those_of_the_whole_with_0_elsewhere():
    task = tasks.classification(models.small_cnn(SHAPE, 4, pool=1, widths=(6, 8)), shape=SHAPE)
    table = units(task.model.module, SHAPE)
    gating, params, keep = gating_of(task, table), general(task), some(table, 0.5)
    a = {g: random.uniform(random.fold(random.key(5), i), len(part)) for i, (g, part) in enumerate(keep.items())}
    whole = {g: torch.zeros(n).index_copy(0, keep[g], a[g]) for g, n in table.sizes.items()}
    x = random.normal(random.key(4), 5, *SHAPE)
    torch.testing.assert_close(
        task.predict(gating(table.cut(params, keep), a), x), task.predict(gating(params, whole), x)
    )


def test_hard_gates_pass_the_derivative_straight_through():
    a = torch.tensor([0.2, 0.5, 0.8], requires_grad=True)
    [gate] = hard({"g": a}).values()
    assert gate.tolist() == [0.0, 1.0, 1.0]
    (gate * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert a.grad is not None
    assert a.grad.tolist() == [1.0, 2.0, 3.0]


def test_a_table_in_which_a_residual_stream_is_not_tied_is_refused():
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.one(x)
            return self.head(x + torch.tanh(self.two(x)))

    task = tasks.classification(Residual(), shape=(3,))
    untied = declared(
        task.init(),
        {"one.weight": ("a", None), "one.bias": ("a",), "two.weight": ("b", "a"), "two.bias": ("b",),
         "head.weight": (None, "b")},
        2,
    )  # fmt: skip
    with pytest.raises(FedSepError, match="groups 'a' and 'b' are the same units where the model adds them"):
        gating_of(task, untied)


def test_units_that_are_read_by_other_units_are_refused():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.head = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(5, 2)

        def forward(self, x):
            return self.head((self.query(x) @ self.key(x).mT).sum(-1))

    module = Attention()
    table = declared(
        Pure(module).init(), {"query.weight": ("a", None), "query.bias": ("a",), "key.weight": ("a", None),
                              "key.bias": ("a",)}, 2,
    )  # fmt: skip
    with pytest.raises(FedSepError, match="layer '' reads units of group 'a' by something else than a parameter"):
        multiplied(table, Pure(module), Pure(module).init(), torch.zeros(2, 5, 3), module)


def test_units_that_nothing_reads_are_refused():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    table = Units({"a": 4}, declared(Pure(module).init(), {"0.weight": ("a", None), "0.bias": ("a",)}, 4).axes)
    with pytest.raises(FedSepError, match="no convolution or linear layer reads the units of group 'a' \\(layers 0\\)"):
        multiplied(table, Pure(module), Pure(module).init(), torch.zeros(2, 3), module)


def test_a_model_that_scales_by_its_width_in_a_way_of_its_own_is_refused():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.one(x)
            return self.two(x * (4 / x.shape[1]))

    module = Own()
    axes = {"one.weight": ("a", None), "one.bias": ("a",), "two.weight": (None, "a")}
    table = declared(Pure(module).init(), axes, 2)
    with pytest.raises(FedSepError, match="does not compute what the sub-model of the other units computes"):
        gating_of(tasks.classification(module, shape=(3,)), table)


def test_gates_of_groups_that_are_not_named_are_open():
    task = tasks.classification(models.mlp(SHAPE, 4, hidden=(6, 5)), shape=SHAPE)
    gating, params = gating_of(task, units(task.model.module, SHAPE)), general(task)
    assert isinstance(gating, Gating)
    assert all(torch.equal(part, params[name]) for name, part in gating(params, {}).items())
