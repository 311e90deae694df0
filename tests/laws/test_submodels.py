"""Law: a sub-model method touches what its clients hold and nothing else; where all hold everything it is FedAvg."""

import functools
import itertools

import pytest
import torch
from catalogue import INPUTS, OUTPUTS, UNITS, network, shards
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedsep import algorithms, models, random, tasks, tree
from fedsep.core import Batch, Ctx, Decoded, FedSepError, Samples, Shard, Update
from fedsep.learners.own_classes import Masked, present
from fedsep.learners.sgd import sgd
from fedsep.models.units import kept, units
from fedsep.servers import coverage_mean, mean
from fedsep.tasks.ensemble import parted
from fedsep.testing import check_view, play
from fedsep.testing.draws import context, random_like
from fedsep.testing.play import everybody
from fedsep.testing.views import adjoint
from fedsep.views import Random, Rolling, SharedRandom, Static, Submodel
from fedsep.views.submodel import Importance

SHAPE, CLASSES = (2, 4, 4), 3
LOCAL = {"lr": 0.1, "steps": 2, "batch_size": 4}
PLANS = [Static(), Rolling(), Random(), SharedRandom(3)]


@functools.cache
def task_of(norm: str = "static"):
    """A residual network with a stream over two blocks, and one that starts with a projection."""
    torch.set_default_dtype(torch.float64)
    module = models.resnet(SHAPE, CLASSES, blocks=(2, 1), width=4, norm=norm)
    return tasks.classification(module, shape=SHAPE)


def parts(classes=range(CLASSES), clients: int = 2, size: int = 8) -> list[Shard]:
    """Clients of equal sizes that have all of ``classes``."""
    labels = torch.tensor(list(classes))
    return [
        Shard(Samples(random.normal(random.key(50 + client), size, *SHAPE), labels[torch.arange(size) % len(labels)]))
        for client in range(clients)
    ]


def states(algorithm, task, own, rounds: int = 3, capabilities=(1.0,)):
    return play(algorithm, task.init(), own, everybody(len(own), rounds), cross=lambda payload: payload,
                capabilities=capabilities).states  # fmt: skip


def after(algorithm, task=None, own=None, **more):
    task = task or task_of()
    return algorithm.model(states(algorithm, task, own or parts(), **more)[-1])


FULL = {
    "heterofl": {}, "fedrolex": {}, "federated_dropout": {}, "exclude": {"least": 1.0}, "homogeneous": {},
    "fjord": {"widths": (1.0,), "weighting": "uniform"}, "kept_random": {}, "shared_random": {},
    "fedsep_mask": {}, "fedsep_shared": {"rolling": 0.4},
}  # fmt: skip


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("norm", ["static", "group"])
def test_at_full_capability_every_method_is_fedavg(name, norm):
    task = task_of(norm)
    plain = after(algorithms.fedavg(task, weighting="uniform", **LOCAL), task)
    got = after(getattr(algorithms, name)(task, **FULL[name], **LOCAL), task)
    torch.testing.assert_close(got, plain, rtol=1e-9, atol=1e-11)


def test_units_that_are_not_tied_are_not_fedavg_at_full_capability():
    plain = after(algorithms.fedavg(task_of(), weighting="uniform", **LOCAL), rounds=1)
    got = after(algorithms.federated_dropout(task_of(), untied=True, **LOCAL), rounds=1)
    assert not torch.allclose(got["stages.0.0.conv1.weight"], plain["stages.0.0.conv1.weight"], rtol=1e-3)


def test_in_its_first_round_fedrolex_is_heterofl():
    models = [after(method(task_of(), **LOCAL), rounds=1, capabilities=(1.0, 0.5))
              for method in (algorithms.heterofl, algorithms.fedrolex)]  # fmt: skip
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


@pytest.mark.parametrize("norm", ["static", "group", "none"])
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: type(plan).__name__)
def test_the_view_keeps_the_laws_of_views(plan, norm):
    task = task_of(norm)
    view = Submodel(units(task.model.module, SHAPE), plan)
    for number, capability in ((0, 1.0), (3, 0.5), (7, 0.3), (1, 0.01)):
        ctx = context(number, capability=capability)
        check_view(view, task.init(), ctx=ctx)
        adjoint(view, task.init(), ctx)


@given(round=st.integers(0, 200), capability=st.floats(0.01, 1.0), plan=st.sampled_from(PLANS))
def test_cut_of_paste_is_the_identity_and_touches_nothing_else(round, capability, plan):
    table = UNITS
    view, x, ctx = Submodel(table, plan), network.init(), context(round, capability=capability)
    change = random_like(view.like(x, ctx), round)
    value, cover = view.paste(change, x, ctx)
    assert all(torch.equal(view.cut(value, ctx)[name], change[name]) for name in x)
    assert all(torch.equal(value[name], value[name] * cover[name]) for name in x)
    assert all(int(cover[name].sum()) == change[name].numel() for name in x)


def test_sub_models_have_the_size_that_was_asked_for_and_tied_layers_the_same_units():
    table = units(task_of().model.module, SHAPE)
    for plan in PLANS:
        ctx = context(5, capability=0.4)
        keep = Submodel(table, plan).keep(ctx)
        assert {group: len(index) for group, index in keep.items()} == {g: kept(n, 0.4) for g, n in table.sizes.items()}
        assert all(len(set(index.tolist())) == len(index) for index in keep.values())
    assert table.axes["stem.weight"][0] == table.axes["stages.0.1.conv2.weight"][0]


def test_narrower_prefixes_lie_inside_wider_ones():
    sets = [set(Static()(9, kept(9, p), 0, context(3)).tolist()) for p in (0.1, 0.3, 0.6, 1.0)]
    assert all(a < b for a, b in itertools.pairwise(sets))


def test_the_window_rolls_evenly_and_comes_round():
    n, count = 7, 3
    windows = [Rolling()(n, count, 0, context(t)).tolist() for t in range(2 * n)]
    assert windows[:n] == windows[n:]
    assert windows[0] == [0, 1, 2]
    assert windows[6] == [6, 0, 1]
    met = torch.tensor(windows[:n]).flatten().bincount()
    assert met.tolist() == [count] * n
    assert {unit for window in windows[4 : 4 + n - count + 1] for unit in window} == set(range(n))


def test_random_units_are_met_in_proportion_and_differ_between_clients_and_groups():
    n, count, draws = 8, 3, 600
    met = torch.cat([Random()(n, count, 0, context(t)) for t in range(draws)]).bincount(minlength=n)
    expected, deviation = draws * count / n, (draws * count / n * (1 - count / n)) ** 0.5
    assert float((met - expected).abs().max()) < 4 * deviation
    first, other, group = (Random()(64, 32, g, context(1, client=c)).tolist() for c, g in ((0, 0), (1, 0), (0, 1)))
    assert first != other
    assert first != group


def test_outside_of_what_is_held_nothing_changes():
    task = task_of()
    before = task.init()
    table = units(task.model.module, SHAPE)
    got = after(algorithms.heterofl(task, weight_decay=0.1, **LOCAL), rounds=2, capabilities=(0.5, 0.25))
    cover = Submodel(table).paste(Submodel(table).cut(before, context(0, capability=0.5)), before,
                                  context(0, capability=0.5))[1]  # fmt: skip
    for name, part in got.items():
        outside = cover[name] == 0
        assert torch.equal(part[outside], before[name][outside])
        assert bool((part != before[name])[~outside].any())


def test_coverage_mean_and_mean_on_two_clients_by_hand():
    """Client A holds both coordinates and moves them by 2 and 4; client B holds the first and moves it by 6."""
    a = Update({"w": torch.tensor([2.0, 4.0])}, 1.0, {"w": torch.tensor([1.0, 1.0])})
    b = Update({"w": torch.tensor([6.0, 0.0])}, 1.0, {"w": torch.tensor([1.0, 0.0])})
    assert coverage_mean(iter([a, b]))["w"].tolist() == [4.0, 4.0]
    assert mean(iter([a, b]))["w"].tolist() == [4.0, 2.0]
    full = [a, a._replace(value={"w": torch.tensor([0.0, 2.0])})]
    assert torch.equal(coverage_mean(iter(full))["w"], mean(iter(full))["w"])


def test_scores_of_absent_classes_are_zero_and_their_rows_have_no_gradient():
    params, own = network.init(), present(torch.tensor([0, 2, 2]), OUTPUTS)
    assert own.tolist() == [True, False, True]
    masked = Masked(network, own)
    x, y = random.normal(random.key(1), 5, INPUTS), torch.tensor([0, 2, 0, 2, 2])
    outputs = masked.predict(params, x)
    assert not outputs[:, 1].any()
    assert torch.equal(outputs[:, ::2], network.predict(params, x)[:, ::2])
    leaves = {name: part.requires_grad_() for name, part in params.items()}
    weight, bias = torch.autograd.grad(masked.loss(leaves, Batch(x, y)), [leaves["1.weight"], leaves["1.bias"]])
    assert not weight[1].any()
    assert not bias[1].any()
    assert bool(weight[::2].any(1).all())
    everything = Masked(network, torch.ones(OUTPUTS, dtype=torch.bool))
    assert torch.equal(everything.loss(params, Batch(x, y)), network.loss(params, Batch(x, y)))


@pytest.mark.parametrize(("make", "outputs", "right"), [
    (tasks.binary, 1, False), (tasks.binary, 2, True), (tasks.regression, 1, False), (tasks.regression, 3, False),
])  # fmt: skip
def test_to_distil_takes_scores_of_classes(make, outputs, right):
    module = models.mlp((5,), outputs, hidden=(4,))
    settings = {"units": units(module, (5,)), "own_classes": False, "lr": 0.1, "steps": 1}
    algorithms.fjord(make(module), **settings)
    if right:
        algorithms.fjord(make(module), distil=True, **settings)
        return
    with pytest.raises(FedSepError, match=rf"distil must be False for {make.__name__} without outputs for two"):
        algorithms.fjord(make(module), distil=True, **settings)


@pytest.mark.parametrize("name", [
    "heterofl", "fedrolex", "federated_dropout", "fjord", "homogeneous", "exclude",
    "fedsep_mask", "fedsep_shared", "fedsep_importance", "kept_random", "shared_random",
])  # fmt: skip
def test_rows_of_classes_that_nobody_has_stay_under_weight_decay(name):
    task = task_of()
    before = task.init()
    method = getattr(algorithms, name)(task, weight_decay=0.5, momentum=0.5, **LOCAL)
    got = after(method, own=parts(classes=(0, 1)), capabilities=(1.0, 0.5))
    for head in ("head.weight", "head.bias"):
        assert torch.equal(got[head][2], before[head][2])
        assert not torch.equal(got[head][:2], before[head][:2])


def test_a_class_is_moved_by_the_clients_that_have_it():
    """Two clients at capability 1, classes {0, 1} and {0, 2}: rows 1 and 2 are what one client alone makes of them."""
    task = task_of("group")
    both = [*parts(classes=(0, 1), clients=1), *parts(classes=(0, 2), clients=2)[1:]]
    method = algorithms.heterofl(task, **LOCAL)
    state = method.init(task.init())
    alone = []
    for client, shard in enumerate(both):
        ctx = context(0, client=client)
        sent = method.broadcast(state, ctx)
        reply, _, _ = method.update(sent, method.enroll(sent, ctx), shard, ctx)
        alone.append(reply["model"]["head.weight"])
    change = after(method, task, both, rounds=1)["head.weight"] - task.init()["head.weight"]
    torch.testing.assert_close(change[1], alone[0][1])
    torch.testing.assert_close(change[2], alone[1][2])
    torch.testing.assert_close(change[0], (alone[0][0] + alone[1][0]) / 2)


def test_an_idle_client_is_sent_nothing_and_changes_nothing():
    method = algorithms.exclude(network, least=0.5, units=UNITS, **LOCAL)
    own = shards(network)
    played = play(method, network.init(), own, everybody(2, 2), capabilities=(1.0, 0.3))
    assert all(not seats[1].sent and not seats[1].reply["model"] for seats in played.seats)
    alone = algorithms.heterofl(network, units=UNITS, **LOCAL)
    only = play(alone, network.init(), own[:1], everybody(1, 2))
    assert all(torch.equal(a, b) for a, b in zip(method.model(played.states[-1]).values(),
                                                 alone.model(only.states[-1]).values(), strict=True))  # fmt: skip
    idle = algorithms.exclude(network, least=0.5, units=UNITS, **LOCAL)
    silent = play(idle, network.init(), own, everybody(2, 2), capabilities=(0.3,))
    assert all(torch.equal(a, b) for a, b in zip(idle.model(silent.states[-1]).values(), network.init().values(),
                                                 strict=True))  # fmt: skip


def test_ordered_dropout_trains_each_prefix_as_often_and_none_above_the_capability():
    fjord = algorithms.fjord(network, units=UNITS, widths=(0.3, 0.6, 1.0), own_classes=False, **LOCAL)
    learner = fjord.learner.learner
    drawn = [learner.width(0.7, random.fold(random.key(1), n)) for n in range(1000)]
    assert set(drawn) == {0.3, 0.6}
    assert abs(drawn.count(0.3) - 500) < 4 * 15.9
    assert learner.width(0.2, random.key(1)) == 0.2


def test_one_step_of_ordered_dropout_moves_the_prefix_that_it_drew():
    own = shards(network)[0]
    for seed in range(6):
        ctx = Ctx(0, 1.0, random.key(seed))
        fjord = algorithms.fjord(network, units=UNITS, widths=(0.3, 0.6, 1.0), own_classes=False, lr=0.1, steps=1)
        learner = fjord.learner.learner
        state = fjord.init(network.init())
        reply, _, _ = fjord.update(fjord.broadcast(state, ctx), fjord.enroll(state.x, ctx), own, ctx)
        width = learner.width(1.0, random.fold(random.fold(ctx.key, int.from_bytes(b"dropout", "big")), 0))
        moved = reply["0.bias"].nonzero().flatten().tolist()
        assert moved == list(range(kept(3, width)))


def test_distillation_teaches_the_narrow_prefix_what_the_whole_gives():
    """The gradient is that of both losses; where the prefix is all the client has, that of the labels alone."""
    own, start = shards(network)[0], network.init()
    fjord = algorithms.fjord(network, units=UNITS, widths=(0.3,), distil=True, own_classes=False, lr=1.0, steps=1,
                             batch_size=None)  # fmt: skip
    ctx = Ctx(0, 1.0, random.key(1))
    reply, _, _ = fjord.update(start, fjord.enroll(start, ctx), own, ctx)
    leaves = {name: part.clone().requires_grad_() for name, part in start.items()}
    batch = own.train.all()
    whole = network.predict(leaves, batch.x)
    narrow = {"0.weight": leaves["0.weight"][:1], "0.bias": leaves["0.bias"][:1], "1.weight": leaves["1.weight"][:, :1],
              "1.bias": leaves["1.bias"]}  # fmt: skip
    part = network.predict(narrow, batch.x).log_softmax(-1)
    loss = network.criterion(whole, batch.y) - (whole.detach().softmax(-1) * part).sum(-1).mean()
    gradient = torch.autograd.grad(loss, list(leaves.values()))
    torch.testing.assert_close(reply, {name: -g for name, g in zip(leaves, gradient, strict=True)})
    weak = ctx._replace(capability=0.3)
    alone, _, _ = fjord.update(narrow, fjord.enroll(narrow, weak), own, weak)
    plain, _ = sgd(network, lr=1.0, steps=1, batch_size=None).learn(Decoded(tree.map(Tensor.detach, narrow)), own, weak)
    torch.testing.assert_close(alone, tree.sub(plain, narrow))


def test_a_narrow_homogeneous_model_is_a_model_of_that_width():
    method = algorithms.homogeneous(task_of("none"), width=0.5, **LOCAL)
    params = method.task.init()
    assert params["stem.weight"].shape[0] == 2
    assert params["stages.1.0.conv1.weight"].shape[:2] == (4, 2)
    whole = task_of("none").init()
    torch.testing.assert_close(params["stages.1.0.conv1.weight"], whole["stages.1.0.conv1.weight"][:4, :2] * 2**0.5)
    x = random.normal(random.key(1), 3, *SHAPE)
    # Its scalers do nothing, where those of a sub-model of the whole model do.
    assert not torch.allclose(method.task.predict(params, x), task_of("none").predict(params, x))
    unscaled = models.resnet(SHAPE, CLASSES, blocks=(2, 1), width=2, norm="none", scaler=False)
    torch.testing.assert_close(method.task.predict(params, x), tasks.classification(unscaled).predict(params, x))
    got = after(method, method.task)
    assert {name: part.shape for name, part in got.items()} == {name: part.shape for name, part in params.items()}


def test_one_block_at_full_capability_is_fedavg():
    task = task_of()
    method = algorithms.splitmix(task, blocks=1, **LOCAL)
    got = parted(after(method, method.task))[0]
    torch.testing.assert_close(got, after(algorithms.fedavg(task, weighting="uniform", **LOCAL)), rtol=1e-9, atol=1e-11)


def test_blocks_are_models_of_their_own_whose_outputs_are_averaged():
    method = algorithms.splitmix(task_of(), blocks=2, **LOCAL)
    blocks = parted(method.task.init())
    assert set(blocks) == {0, 1}
    assert not torch.equal(blocks[0]["stem.weight"], blocks[1]["stem.weight"])
    x = random.normal(random.key(1), 5, *SHAPE)
    each = [method.task.block.predict(part, x) for part in blocks.values()]
    torch.testing.assert_close(method.task.predict(method.task.init(), x), (each[0] + each[1]) / 2)
    state = method.init(method.task.init())
    alone = method.narrower(state, method.model(state), 0.5)
    torch.testing.assert_close(method.task.predict(alone, x), each[0])
    assert parted(method.narrower(state, method.model(state), 0.25))[0]["stem.weight"].shape[0] == 1
    apart = algorithms.homogeneous(task_of(), width=0.5, **LOCAL)
    assert all(torch.equal(part, blocks[0][name]) for name, part in apart.task.init().items())


def test_a_client_trains_its_blocks_as_if_each_were_alone():
    method = algorithms.splitmix(task_of(), blocks=2, clip=0.1, **LOCAL)
    state, shard, ctx = method.init(method.task.init()), parts()[0], context(0)
    sent = method.broadcast(state, ctx)
    reply, _, _ = method.update(sent, method.enroll(sent, ctx), shard, ctx)
    for number, block in parted(sent).items():
        alone, _ = sgd(method.task.block, clip=0.1, **LOCAL).learn(Decoded(block), shard, ctx)
        torch.testing.assert_close(parted(reply["model"])[number], tree.sub(alone, block))


def test_blocks_are_averaged_by_the_importances_of_their_own_units():
    """One number a unit from the local steps on that block; a client of less than a block counts by its share."""
    method = algorithms.splitmix(network, units=UNITS, blocks=2, reduce="importance", own_classes=False, **LOCAL)
    state, own = method.init(method.task.init()), shards(network)[0]
    ctx = context(0)
    sent = method.broadcast(state, ctx)
    reply, _, _ = method.update(sent, method.enroll(sent, ctx), own, ctx)
    assert set(reply["importance"]) == {"0.hidden", "1.hidden"}
    for number, block in parted(sent).items():
        squares = torch.zeros(2)
        for step in sgd(method.task.block, **LOCAL).trail(Decoded(block), own, ctx):
            squares += step.gradient["0.weight"].square().sum(1) + step.gradient["0.bias"].square()
        torch.testing.assert_close(reply["importance"][f"{number}.hidden"], squares.sqrt())
    reply["importance"] = {"0.hidden": torch.tensor([3.0, 1.0]), "1.hidden": torch.tensor([1.0, 1.0])}
    _, cover = method.view.paste(reply, state.x, ctx)
    assert cover["0.0.bias"].tolist() == [1.5, 0.5]
    assert cover["1.0.bias"].tolist() == [1.0, 1.0]
    weak = context(0, capability=0.2)  # 0.4 of one block, which is a unit of its two
    sent = method.broadcast(state, weak)
    told, _, _ = method.update(sent, method.enroll(sent, weak), own, weak)
    [number] = parted(sent)
    _, cover = method.view.paste(told, state.x, weak)
    assert cover[f"{number}.0.bias"].tolist() == [0.4, 0.0]
    assert not cover[f"{1 - number}.0.bias"].any()


@pytest.mark.parametrize("reduce", ["importance", "shuffled"])
def test_blocks_of_one_unit_have_no_more_important_one(reduce):
    make = functools.partial(algorithms.splitmix, network, units=UNITS, blocks=3, **LOCAL)
    plain, other = (after(method, method.task, shards(network), capabilities=(1.0, 0.7))
                    for method in (make(), make(reduce=reduce)))  # fmt: skip
    torch.testing.assert_close(plain, other, rtol=1e-12, atol=1e-14)


def test_clients_get_as_many_blocks_as_they_can_hold_each_as_often():
    view = algorithms.splitmix(network, units=UNITS, blocks=3, **LOCAL).view
    assert [len(view.drawn(context(0, capability=p))) for p in (0.1, 1 / 3, 0.5, 2 / 3, 1.0)] == [1, 1, 1, 2, 3]
    met = torch.tensor([view.drawn(context(t, capability=0.4))[0] for t in range(600)]).bincount()
    assert float((met - 200).abs().max()) < 4 * (600 * 2 / 9) ** 0.5


@pytest.mark.parametrize("name", [*FULL, "fjord"])
def test_two_runs_with_one_seed_are_the_same_bits(name):
    how = {"scores": "taylor"} if name == "fedsep_mask" else {}  # gates need a module
    make = functools.partial(getattr(algorithms, name), network, units=UNITS, **how, **LOCAL)
    one, two = (after(make(), network, shards(network), capabilities=(1.0, 0.5, 0.3)) for _ in range(2))
    assert all(torch.equal(one[part], two[part]) for part in one)


@pytest.mark.parametrize(("call", "says"), [
    (lambda: algorithms.heterofl(network), "units must be given, or the task must say the shape"),
    (lambda: algorithms.heterofl(network, units=UNITS, reduce="median"), "reduce must be one of"),
    (lambda: algorithms.exclude(network, units=UNITS, least=0.0), "least must be > 0"),
    (lambda: algorithms.fjord(network, units=UNITS, widths=(0.5, 1.5)), "widths must be > 0 and <= 1"),
    (lambda: algorithms.homogeneous(network, units=UNITS, width=float("nan")), "width must be"),
])  # fmt: skip
def test_what_cannot_be_is_refused(call, says):
    with pytest.raises(FedSepError, match=says):
        call()


def reply_of(importance, client: int = 0, change: float = 1.0, ctx=None):
    """A reply of a client of the tiny network whose change is the same everywhere."""
    ctx = ctx or context(0, client=client, capability=0.5)
    view = Submodel(UNITS, importance=Importance())
    like = view.like(network.init(), ctx)
    model = tree.map(lambda part: torch.full_like(part, change), like["model"])
    return view.paste({"model": model, "importance": {"hidden": torch.tensor(importance)}}, network.init(), ctx)


def test_equal_importances_give_the_coverage_mean():
    weighed = [Update(*_parts(reply_of([3.0, 3.0], client, change))) for client, change in ((0, 1.0), (1, 5.0))]
    plain = [update._replace(cover=tree.map(lambda part: (part > 0).to(part), update.cover)) for update in weighed]
    torch.testing.assert_close(coverage_mean(iter(weighed)), coverage_mean(iter(plain)))


def test_a_clients_importances_times_a_constant_change_nothing():
    for scale in (1e-6, 7.0):
        torch.testing.assert_close(reply_of([1.0 * scale, 3.0 * scale]), reply_of([1.0, 3.0]))
    even = reply_of([0.0, 0.0])[1]
    torch.testing.assert_close(even, reply_of([1.0, 1.0])[1])


def test_importances_weigh_units_by_hand():
    """Clients A and B change all by 1 and 5; unit 0 is three times as important to A as unit 1, to B the opposite."""
    a, b = (Update(*_parts(reply_of(numbers, client, change)))
            for client, numbers, change in ((0, [3.0, 1.0], 1.0), (1, [1.0, 3.0], 5.0)))  # fmt: skip
    change = coverage_mean(iter([a, b]))
    torch.testing.assert_close(change["0.bias"], torch.tensor([1.5 * 1 + 0.5 * 5, 0.5 * 1 + 1.5 * 5, 0.0]) / 2.0)
    torch.testing.assert_close(change["1.weight"][0], change["0.bias"])  # the head's columns read the units
    torch.testing.assert_close(change["1.bias"], torch.full((OUTPUTS,), 3.0))


def test_a_weaker_client_weighs_less():
    weak, strong = (reply_of([1.0] * kept(3, p), ctx=context(0, capability=p))[1]["0.bias"][0] for p in (0.25, 1.0))
    assert strong == 4 * weak


def test_shuffled_importances_are_the_same_numbers_elsewhere():
    ctx = context(3)
    told = {"hidden": torch.arange(1.0, 13.0)}
    shuffled, plain = Importance(shuffled=True).weights(told, ctx)["hidden"], Importance().weights(told, ctx)["hidden"]
    assert not torch.equal(shuffled, plain)
    assert torch.equal(shuffled.sort().values, plain)
    assert torch.equal(shuffled, Importance(shuffled=True).weights(told, ctx)["hidden"])


def test_importance_is_the_root_of_summed_squared_gradients():
    own = shards(network)[0]
    method = algorithms.heterofl(network, units=UNITS, reduce="importance", own_classes=False, lr=0.5, steps=2,
                                 batch_size=None)  # fmt: skip
    ctx, y = context(0), network.init()
    reply, _, _ = method.update(y, method.enroll(y, ctx), own, ctx)
    squares = torch.zeros(3)
    for _ in range(2):
        leaves = {name: part.clone().requires_grad_() for name, part in y.items()}
        parts = torch.autograd.grad(network.loss(leaves, own.train.all()), list(leaves.values()))
        gradient = dict(zip(leaves, parts, strict=True))
        squares += gradient["0.weight"].square().sum(1) + gradient["0.bias"].square()
        y = {name: y[name] - 0.5 * gradient[name] for name in y}
    torch.testing.assert_close(reply["importance"]["hidden"], squares.sqrt())


def _parts(pasted):
    value, cover = pasted
    return value, 1.0, cover
