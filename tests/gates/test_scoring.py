"""Scores of units by fitted gates: what they depend on, that the budget is met, and that a sub-model needs no more."""

import dataclasses

import pytest
import torch
from weak import INPUTS, OUTPUTS

from fedsep import models, random, tasks
from fedsep.core import Ctx, Decoded, FedSepError, Samples, Shard
from fedsep.gates import Free, Hypernetwork, gate_scores
from fedsep.learners.sgd import sgd
from fedsep.models.tracing.declared import table
from fedsep.models.units import kept


def shard(examples=40, classes=3, seed=1):
    """Classes that differ in their means."""
    y = torch.arange(examples) % classes
    x = random.normal(random.key(seed), examples, 6) + 2 * torch.eye(3, 6)[y]
    return Shard(Samples(x, y))


def trained(task, steps=100):
    """Parameters that have something to lose."""
    steps = sgd(task, lr=0.3, steps=steps, batch_size=20)
    return steps.learn(Decoded(task.init()), shard(120, seed=5), Ctx(0, 1.0, random.key(6)))[0]


TASK = tasks.classification(models.mlp((6,), 3, hidden=(12, 10)), shape=(6,))
PARAMS = trained(TASK)


def context(capability=0.5, seed=3):
    return Ctx(4, capability, random.key(seed))


FORMS = [{"form": "hypernetwork"}, {"form": "free"}, {"preset": "nppm"}, {"preset": "nppm", "form": "free"},
         {"gates": "inner"}, {"budget": "params"}, {"elementwise": True, "budget": "flops"}]  # fmt: skip


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_one_number_a_unit_and_the_same_for_the_same_key(options):
    scores, data, before = gate_scores(TASK, steps=3, **options), shard(), {n: p.clone() for n, p in PARAMS.items()}
    first, second = scores(PARAMS, data, context()), scores(PARAMS, data, context())
    assert {group: tuple(part.shape) for group, part in first.items()} == {"layer1": (12,), "layer2": (10,)}
    assert all(torch.equal(first[group], second[group]) for group in first)
    other = scores(PARAMS, data, context(seed=4))
    assert not any(torch.equal(first[group], other[group]) for group in first)
    assert all(torch.equal(PARAMS[name], part) for name, part in before.items())
    assert not any(part.requires_grad for part in first.values())


def drawn(scores, found):
    """The mean cost of the gated models that were trained."""
    draws = [scores.cost(scores.relaxation.draw(found, random.key(number))) for number in range(60)]
    return float(torch.stack(draws).mean())


@pytest.mark.parametrize("form", ["hypernetwork", "free"])
@pytest.mark.parametrize("capability", [0.7, 0.5])
def test_the_fit_goes_down_to_the_budget_but_not_far_below(form, capability):
    """From gates of about 1/2, at a rate at which Adam does not carry them far past the target."""
    scores = gate_scores(TASK, form=form, steps=40, batch_size=20, lr=0.03 if form == "free" else 0.01, strength=20.0)
    ctx = context(capability)
    whole = float(scores.cost({group: torch.ones(n) for group, n in scores.gating.units.sizes.items()}))
    assert whole == scores.cost.total > scores.target(ctx)
    assert 0.3 * scores.target(ctx) < drawn(scores, scores(PARAMS, shard(), ctx)) < 1.2 * scores.target(ctx)


def test_without_a_resource_loss_gates_stay_open():
    ctx = context(0.25)
    free, bound = (gate_scores(TASK, form="free", strength=strength, steps=40) for strength in (0.0, 4.0))
    costs = [drawn(each, each(PARAMS, shard(), ctx)) for each in (free, bound)]
    assert costs[0] > 2 * costs[1]


def test_gates_find_the_units_that_matter():
    """Half of the hidden units are cut off from the outputs before training: the best ones are among the others."""
    task = tasks.classification(models.mlp((6,), 3, hidden=(12,)), shape=(6,))
    params = trained(task)
    params["layer2.weight"][:, ::2] = 0.0
    for form in ("hypernetwork", "free"):
        found = gate_scores(task, form=form, steps=60)(params, shard(), context())["layer1"]
        assert sum(int(unit) % 2 for unit in found.topk(4).indices) >= 3
    exact = gate_scores(task, form="free", steps=30, strength=0.0)(params, shard(), context())["layer1"]
    assert exact[::2].tolist() == [0.0] * 6  # nothing moves a gate that changes nothing
    assert not bool((exact[1::2] == 0).any())


def test_phi_may_be_kept_and_fitted_on():
    scores, data, ctx = gate_scores(TASK, steps=3), shard(), context()
    anew = scores.fit(scores.init(ctx.key), PARAMS, data, ctx)
    assert all(torch.equal(part, scores(PARAMS, data, ctx)[group]) for group, part in scores.scores(anew).items())
    on = scores.fit(anew, PARAMS, data, context(seed=9))
    assert {name: part.shape for name, part in on.items()} == {name: part.shape for name, part in anew.items()}
    assert not torch.equal(scores.scores(on)["layer1"], scores.scores(anew)["layer1"])


KEEP = {"layer1": torch.tensor([7, 2, 9, 0]), "layer2": torch.tensor([1, 8, 3])}


def test_scores_of_a_held_sub_model_need_nothing_else():
    """In the order in which it holds them: a unit that is cut off from the outputs is found wherever it is."""
    scores, data, ctx = gate_scores(TASK, form="free", strength=0.0), shard(), context(0.25)
    params = {name: part.clone() for name, part in PARAMS.items()}
    params["layer3.weight"][:, 3] = 0.0
    for order, place in (([1, 8, 3], 2), ([3, 8, 1], 0)):
        keep = {**KEEP, "layer2": torch.tensor(order)}
        found = scores(scores.gating.units.cut(params, keep), data, ctx, keep)
        assert {group: len(part) for group, part in found.items()} == {"layer1": 4, "layer2": 3}
        assert found["layer2"][place] == 0.0
        assert int((found["layer2"] == 0).sum()) == 1


@pytest.mark.parametrize("form", ["hypernetwork", "free"])
def test_gates_of_a_held_sub_model_are_those_of_its_units(form):
    """With every unit held it is the whole model; of fewer, the budget counts those."""
    scores, data, ctx = gate_scores(TASK, form=form, steps=3), shard(), context(0.25)
    everything = {group: torch.arange(n) for group, n in scores.gating.units.sizes.items()}
    whole = scores(PARAMS, data, ctx)
    assert all(torch.equal(part, whole[group]) for group, part in scores(PARAMS, data, ctx, everything).items())
    part = scores.gating.units.cut(PARAMS, KEEP)
    opened = {group: torch.ones(len(index)) for group, index in KEEP.items()}
    # A linear layer multiplies each of its weights once.
    assert float(scores.cost(opened)) == pytest.approx(sum(part[f"layer{n}.weight"].numel() for n in (1, 2, 3)))
    assert all(bool(each.isfinite().all()) for each in scores(part, data, ctx, KEEP).values())


def test_validation_data_where_it_is_asked_for():
    both = Shard(shard().train, shard(seed=8).train)
    by_train, by_validation = (
        gate_scores(TASK, data=each, steps=3)(PARAMS, both, context()) for each in ("train", "validation")
    )
    assert not torch.equal(by_train["layer1"], by_validation["layer1"])
    swapped = gate_scores(TASK, steps=3)(PARAMS, Shard(both.validation), context())
    assert torch.equal(by_validation["layer1"], swapped["layer1"])
    with pytest.raises(FedSepError, match="gates are to be fitted to validation data, and there are none"):
        gate_scores(TASK, data="validation")(PARAMS, shard(), context())
    with pytest.raises(FedSepError, match="gates are to be fitted to validation data, and there are none"):
        gate_scores(TASK, data="validation")(PARAMS, Shard(shard().train, shard(0).train), context())


def test_scores_stay_finite_where_a_draw_closes_every_gate():
    """Of two units, from gates of which most are shut; the budget itself is met at once."""
    task = tasks.classification(models.mlp((6,), 3, hidden=(2,)), shape=(6,))
    scores = gate_scores(task, preset="nppm", form="free", offset=-4.0, steps=30, batch_size=20)
    found = scores(task.init(), shard(), context())
    assert bool(found["layer1"].isfinite().all())


def test_absent_classes_have_no_say_where_they_are_left_out():
    """Rows of the class that the client has not may hold anything."""
    data, ctx = shard(classes=2), context()
    other = {**PARAMS, "layer3.bias": PARAMS["layer3.bias"] + torch.tensor([0.0, 0.0, 5.0])}
    for number in (3, None):
        scores = gate_scores(TASK, classes=number, steps=3)
        same = torch.equal(scores(PARAMS, data, ctx)["layer1"], scores(other, data, ctx)["layer1"])
        assert same == (number is not None)


def test_no_minibatch_of_one_example_where_that_can_be():
    scores, ctx = gate_scores(TASK, steps=5, batch_size=20), context()
    assert [len(batch.y) for batch in scores.batches(shard(41), ctx)] == [20] * 5
    assert [len(batch.y) for batch in scores.batches(shard(45), ctx)] == [20, 20, 5, 20, 20]
    assert [len(batch.y) for batch in scores.batches(shard(1), ctx)] == [1] * 5


def test_a_function_instead_of_a_module_needs_its_units_and_the_shape_of_an_input():
    from catalogue import Tiny

    task = Tiny()
    units = table(task.init(), {"0.weight": ("hidden", None), "0.bias": ("hidden",), "1.weight": (None, "hidden")},
                  OUTPUTS)  # fmt: skip
    with pytest.raises(FedSepError, match="inputs must be given where the task does not say the shape of one"):
        gate_scores(task, units=units)
    scores = gate_scores(task, units=units, inputs=(INPUTS,))
    data = Shard(Samples(random.normal(random.key(1), 9, INPUTS), torch.arange(9) % OUTPUTS))
    assert scores(task.init(), data, context())["hidden"].shape == (units.sizes["hidden"],)


def test_static_batch_normalisation_and_residual_streams():
    task = tasks.classification(models.resnet((1, 8, 8), 3, width=4, blocks=(1, 1)), shape=(1, 8, 8))
    scores = gate_scores(task, steps=3, batch_size=8)
    data = Shard(Samples(random.normal(random.key(1), 17, 1, 8, 8), torch.arange(17) % 3))
    found = scores(task.init(), data, context(0.25))
    units = scores.gating.units
    assert {group: len(part) for group, part in found.items()} == dict(units.sizes)
    assert all(bool(part.isfinite().all()) for part in found.values())
    keep = {group: part.topk(kept(len(part), 0.5)).indices for group, part in found.items()}
    held = scores(units.cut(task.init(), keep), data, context(0.25), keep)
    assert all(len(part) == len(keep[group]) for group, part in held.items())


@pytest.mark.parametrize(("options", "says"), [
    ({"gates": "outer"}, "gates must be all_tied or inner"),
    ({"budget": "time"}, "budget must be one of width, params, flops"),
    ({"steps": 0}, "steps must be >= 1"),
    ({"batch_size": 1}, r"batch_size must be >= 2 \(got 1\)"),
    ({"temperature": 0.0}, "temperature must be > 0"),
    ({"strength": -1.0}, "strength must be >= 0"),
])  # fmt: skip
def test_mistakes(options, says):
    with pytest.raises(FedSepError, match=says):
        gate_scores(TASK, **options)


def test_inner_gates_need_units_outside_residual_streams():
    class Stream(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.head = torch.nn.Linear(6, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 3)

        def forward(self, x):
            x = self.one(x)
            return self.head(x + self.two(x))

    with pytest.raises(FedSepError, match="gates must be all_tied"):
        gate_scores(tasks.classification(Stream(), shape=(6,)), gates="inner")


def test_presets_and_what_is_given_instead():
    plain, nppm = gate_scores(TASK), gate_scores(TASK, preset="nppm")
    assert (plain.relaxation.temperature, plain.relaxation.offset, plain.adam.lr, plain.strength) == (
        0.5,
        0.0,
        0.1,
        4.0,
    )
    assert (nppm.relaxation.temperature, nppm.relaxation.offset, nppm.adam.lr) == (0.4, 3.0, 1e-3)
    assert (plain.relaxation.noise, nppm.relaxation.noise, nppm.adam.decay) == ("logistic", "gumbel", 1e-2)
    assert gate_scores(TASK, preset="nppm", form="free").adam.lr == 5e-2
    assert gate_scores(TASK, preset="nppm", offset=0.0, temperature=1.0, lr=0.2).relaxation.offset == 0.0
    assert isinstance(plain.network, Hypernetwork)
    assert isinstance(gate_scores(TASK, form="free").network, Free)
    assert dataclasses.is_dataclass(plain)
