"""ZeroFL, FedDST, Flash and one width for all, averaged by what units are worth to clients, where each holds them."""

import functools

import pytest
import torch
from catalogue import UNITS, network, shards
from laws.test_sparse_own_classes import LOCAL, METHODS, reply, states
from weak import HEAD

from fedsep import algorithms, data, models, tasks, tree
from fedsep.core import FedSepError, Reply
from fedsep.testing.draws import context
from fedsep.train import Cohort, fit

ALL = {**METHODS, "homogeneous": functools.partial(algorithms.homogeneous, width=0.7)}
ALL["homogeneous of the whole"] = functools.partial(algorithms.homogeneous)
CLASSES = ({"outputs": HEAD}, {"own_classes": False})


def made(make, reduce, **more):
    classes = {"own_classes": more.pop("own_classes", False)}
    return make(network, units=UNITS, reduce=reduce, **classes, **more, **LOCAL)


def two_replies(method, say):
    """A round's replies of clients that say so of their units, in the second stage where there are two."""
    state, own = method.init((method.task or network).init()), shards(network, 2)
    if "agreed" in (state.x if isinstance(state.x, dict) else {}) and not int(state.x["agreed"]):
        method, state = method, states(method, own, 1)[-1]
    replies = []
    for client, part in enumerate(own):
        ctx = context(state.round, client=client)
        sent = method.broadcast(state, ctx)
        told, _, _ = method.update(sent, method.enroll(sent, ctx), part, ctx)
        if "importance" in told:
            told = {**told, "importance": say(told["importance"], client)}
        replies.append(Reply(client, ctx, told, part.train.size))
    return state, replies


def after(method, say=lambda numbers, client: numbers):
    state, replies = two_replies(method, say)
    return method.model(method.aggregate(state, replies)[0])


@pytest.mark.parametrize("reduce", ["importance", "shuffled"])
@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_equal_importances_give_the_methods_own_mean(make, reduce):
    equal = after(made(make, reduce), lambda numbers, client: tree.map(lambda part: 0 * part + 7.0, numbers))
    torch.testing.assert_close(equal, after(made(make, "coverage_mean")), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_a_clients_importances_times_a_constant_change_nothing(make):
    method = made(make, "importance")
    larger = after(method, lambda numbers, client: tree.scale(numbers, 1e3 if client else 1.0))
    torch.testing.assert_close(larger, after(method), rtol=1e-9, atol=1e-12)
    assert any(not torch.allclose(part, larger[name]) for name, part in after(made(make, "coverage_mean")).items())


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
def test_a_weight_is_averaged_over_those_that_hold_it_by_its_units_importance(make):
    """Of three units; the head's columns read them, its bias belongs to none."""
    numbers = torch.tensor([[1.0, 2.0, 6.0], [4.0, 1.0, 1.0]])
    method, plain = made(make, "importance"), made(make, "coverage_mean")
    state, replies = two_replies(method, lambda told, client: {"hidden": numbers[client]})
    ratios = numbers / numbers.mean(1, keepdim=True)
    wanted = {"0.weight": ratios[:, :, None], "0.bias": ratios, "1.weight": ratios[:, None], "1.bias": torch.ones(2, 1)}
    for number, each in enumerate(replies):
        cover = method.read(state, each).cover
        bare = {name: part for name, part in each.payload.items() if name != "importance"}
        own = plain.read(state, each._replace(payload=bare["model"])).cover
        held = tree.map(torch.ones_like, network.init()) if own is None else own.get("model", own)
        for name, part in cover.get("model", cover).items():
            torch.testing.assert_close(part, held[name] * wanted[name][number].expand_as(held[name]))


@pytest.mark.parametrize(("scale", "weight"), [("constant", 1.0), ("width", 0.5), ("params", 0.5)])
def test_capability_counts_where_it_decides_what_a_client_holds(scale, weight):
    method = made(functools.partial(algorithms.feddst, density=0.9, readjust=0.0, scale=scale), "importance")
    state, part, ctx = method.init(network.init()), shards(network, 1)[0], context(0, capability=0.5)
    sent = method.broadcast(state, ctx)
    told, _, _ = method.update(sent, method.enroll(sent, ctx), part, ctx)
    told["importance"] = {"hidden": torch.ones(3)}
    cover = method.read(state, Reply(0, ctx, told)).cover["model"]["0.bias"]
    assert cover.tolist() == [weight] * 3


def test_importances_are_those_of_whole_units_whatever_the_masks_left():
    """The gradient of all weights that make a unit, at the model in its masks, and with no mask that of heterofl's."""
    whole = made(functools.partial(algorithms.feddst, density=1.0), "importance")
    theirs = algorithms.heterofl(network, units=UNITS, reduce="importance", own_classes=False, **LOCAL)
    part = shards(network, 1)[0]
    torch.testing.assert_close(reply(whole, part)["importance"], reply(theirs, part)["importance"])


def test_units_are_found_in_a_module_and_asked_for_elsewhere():
    federation = data.digits(clients=3)
    task = tasks.classification(models.small_cnn(federation.shape, 10, widths=(4, 4), pool=1), shape=federation.shape)
    for make in (algorithms.zerofl, algorithms.feddst, algorithms.flash, algorithms.homogeneous):
        run = fit(make(task, reduce="importance", steps=1), task, federation, rounds=2, cohort=Cohort(2, (1.0, 0.5)))
        assert torch.isfinite(torch.tensor(run.summary["metrics"]["accuracy"]["last"]))
    with pytest.raises(FedSepError, match="units must be given"):
        algorithms.feddst(network, outputs=HEAD, reduce="importance")
    algorithms.feddst(network, outputs=HEAD)  # which needs none
