"""ZeroFL, FedDST and Flash with clients that have few classes: the others' scores, rows and masks are let alone."""

import functools

import pytest
import torch
from catalogue import Tiny, network, shards
from weak import HEAD, INPUTS, OUTPUTS

from fedsep import algorithms, models, random, tasks, tree, wires
from fedsep.class_rows import ClassRows, OwnRows, found
from fedsep.core import Decoded, FedSepError, Samples, Shard
from fedsep.gradients import value_and_gradient
from fedsep.learners import sgd
from fedsep.learners.batches import minibatches
from fedsep.learners.own_classes import Masked, present
from fedsep.sparsity.growth import grown_by_chance, grown_by_gradient
from fedsep.testing import play
from fedsep.testing.draws import context
from fedsep.testing.play import everybody

LOCAL = {"lr": 0.2, "steps": 3, "batch_size": 4}
METHODS = {
    **{f"zerofl {variant} {average}": functools.partial(algorithms.zerofl, density=0.5, extra=0.2, variant=variant,
                                                        average=average, served=1.0)
       for variant in ("top_k_weights", "diff_on_top_k", "top_k_diff") for average in ("all", "sent")},
    "feddst": functools.partial(algorithms.feddst, density=0.6, readjust=0.5, every=1),
    "feddst by capability": functools.partial(algorithms.feddst, density=0.8, readjust=0.4, every=2, scale="width"),
    "flash of one mask": functools.partial(algorithms.flash, density=0.7, first="uniform", variant="spdst"),
    "flash of a first stage": functools.partial(algorithms.flash, density=0.7, first_epochs=2, variant="spdst"),
    "flash": functools.partial(algorithms.flash, density=0.7, first_epochs=2, rate=0.4),
}  # fmt: skip


def part(classes, client=0, size=8):
    """A client that has these classes alone."""
    key, labels = random.fold(random.key(300), client), torch.tensor(list(classes))
    return Shard(Samples(random.normal(key, size, INPUTS), labels[torch.arange(size) % len(labels)]))


def states(method, own, rounds=3, capabilities=(1.0,)):
    return play(method, network.init(), own, everybody(len(own), rounds), cross=lambda payload: payload,
                capabilities=capabilities).states  # fmt: skip


def reply(method, own, number=0, state=None):
    state, ctx = state or method.init(network.init()), context(number)
    sent = method.broadcast(state, ctx)
    return method.update(sent, method.enroll(sent, ctx), own, ctx)[0]


@pytest.mark.parametrize("capabilities", [(1.0,), (1.0, 0.5)])
@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
def test_with_all_classes_everywhere_nothing_changes(make, capabilities):
    own = shards(network, 3)
    one, other = (states(make(network, **classes, **LOCAL), own, 4, capabilities)[-1].x
                  for classes in ({"outputs": HEAD}, {"own_classes": False}))  # fmt: skip
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", METHODS)
def test_rows_of_classes_that_nobody_has_stay_under_weight_decay(name):
    method = METHODS[name](network, outputs=HEAD, weight_decay=0.5, momentum=0.5, **LOCAL)
    played = states(method, [part((0, 1), client) for client in range(2)], 4)
    start, end = (method.model(played[n]) for n in (1, -1))  # Flash starts anew after its first stage
    for head in HEAD:
        same = torch.equal(end[head][2], start[head][2])
        # Of a layer the server of ``jmwst`` keeps the largest weights, whosever they are.
        assert same or (name == "flash" and bool(((end[head] == start[head]) | (end[head] == 0))[2].all()))
        assert not torch.equal(end[head][:2], start[head][:2])


DENSE = {
    "zerofl": {"density": 1.0, "weighting": "uniform"},
    "zerofl of what is sent": {"density": 1.0, "average": "sent", "weighting": "uniform"},
    "feddst": {"density": 1.0, "weighting": "uniform"},
    "flash": {"density": 1.0, "first": "uniform"},
}


@pytest.mark.parametrize("name", DENSE)
def test_a_class_is_moved_by_the_clients_that_have_it_on_the_loss_of_their_own(name):
    """Two clients, classes {0, 1} and {0, 2}: rows 1 and 2 are what one client alone makes of them."""
    both, x = [part((0, 1), 0), part((0, 2), 1)], network.init()
    method = getattr(algorithms, name.split()[0])(network, outputs=HEAD, **DENSE[name], **LOCAL)
    changes = []
    for client, own in enumerate(both):
        task = Masked(network, present(own.train.y, OUTPUTS))
        y, _ = sgd(task, **LOCAL).learn(Decoded(x), own, context(0, client=client))
        changes.append(tree.sub(y, x))
    a, b = changes
    got = tree.sub(method.model(states(method, both, 1)[-1]), x)
    for head in HEAD:
        assert not a[head][2].any()
        assert not b[head][1].any()
        torch.testing.assert_close(got[head], torch.stack([(a[head][0] + b[head][0]) / 2, a[head][1], b[head][2]]))
    torch.testing.assert_close(got["0.weight"], (a["0.weight"] + b["0.weight"]) / 2)


def test_the_first_stage_of_flash_is_on_the_loss_of_ones_own():
    own, task = part((0, 1)), Tiny(hidden=8)
    first = functools.partial(algorithms.flash, task, density=0.5, first_epochs=2, rate=0.9, **LOCAL)
    mine, every = (method.codec.decode({}, {}, own, context(0))[0]
                   for method in (first(outputs=HEAD), first(own_classes=False)))  # fmt: skip
    initial = first(outputs=HEAD).codec.masked.initial
    y0 = task.init()["1.weight"] * initial["1.weight"]
    assert torch.equal(mine.y["1.weight"][2], y0[2])
    assert not torch.equal(every.y["1.weight"][2], y0[2])
    assert torch.equal(mine.residual["1.weight"][2], initial["1.weight"][2])
    assert not torch.equal(mine.residual["0.weight"], initial["0.weight"])


@pytest.mark.parametrize("name", ["feddst", "flash"])
@pytest.mark.parametrize("decay", [0.0, 2.0])
def test_masks_move_in_the_rows_of_ones_own_classes_alone(name, decay):
    task = Tiny(hidden=8)
    make = {"feddst": functools.partial(algorithms.feddst, readjust=0.9, every=1),
            "flash": functools.partial(algorithms.flash, first="uniform", rate=0.9)}[name]  # fmt: skip
    method, own, ctx = make(task, density=0.5, outputs=HEAD, weight_decay=decay, **LOCAL), part((0,)), context(1)
    state = method.init(task.init())
    sent = method.broadcast(state, ctx)
    told, _, _ = method.update(sent, method.enroll(sent, ctx), own, ctx)
    value, cover = method.view.paste(told, state.x, ctx)
    assert bool((value["mask"]["1.weight"][0] != 0).any())
    assert not value["mask"]["1.weight"][1:].any()
    assert bool((value["mask"]["0.weight"] != 0).any())
    assert sum(int(part.sum()) for part in value["mask"].values()) == 0  # as many weights as before
    assert [bool(row.any()) for row in cover["model"]["1.weight"]] == [True, False, False]
    assert cover["model"]["1.bias"].tolist() == [1.0, 0.0, 0.0]


def test_what_grows_is_found_on_the_loss_of_ones_own():
    own, ctx, y = part((0, 1)), context(0), network.init()
    method = algorithms.feddst(network, density=0.5, readjust=0.9, every=1, outputs=HEAD, **LOCAL)
    masks = method.init(y).x["mask"]
    [batch] = minibatches(own.train, random.fold(ctx.key, 8101), 4, 1)
    task = Masked(network, present(own.train.y, OUTPUTS))
    _, gradient = value_and_gradient(lambda y: task.loss(y, batch), y)
    rows = OwnRows(HEAD, torch.tensor([0, 1]))
    expected = grown_by_gradient(rows.cut(y), rows.cut(masks), rows.cut(gradient), 0.9)
    got = method.codec.late(y, masks, own, ctx)
    assert torch.equal(got["0.weight"], expected["0.weight"])
    assert torch.equal(got["1.weight"][:2], expected["1.weight"])
    assert torch.equal(got["1.weight"][2], masks["1.weight"][2])


def test_a_client_votes_for_the_masks_of_rows_that_it_does_not_train():
    """Else Flash would take the layer for as sparse as the client's classes are few."""
    method = algorithms.flash(network, density=0.7, first="uniform", rate=0.4, outputs=HEAD, **LOCAL)
    played = states(method, [part((0,)), part((1,), 1)], 3)
    kept = [sum(int(mask.sum()) for mask in state.x["mask"].values()) for state in played]
    densities = torch.stack([state.x["density"] for state in played])
    assert max(kept) - min(kept) <= 1
    assert float((densities[:, 1] - densities[0, 1]).abs().max()) < 0.2
    assert float(played[-1].x["mask"]["1.weight"].sum()) >= 4


@pytest.mark.parametrize("name", METHODS)
def test_what_is_told_of_other_classes_is_not_read(name):
    """Whatever a reply says of them."""
    method = METHODS[name](network, outputs=HEAD, **LOCAL)
    state = states(method, [part((0,))], 2)[-1]
    ctx = context(2)
    told = method.view.like(state.x, ctx)
    told = {"model": tree.map(lambda part: part + 1 if part.is_floating_point() else part, told["model"]),
            "classes": torch.tensor([0b101], dtype=torch.uint8)}  # fmt: skip
    value, cover = method.view.paste(told, state.x, ctx)
    value, cover = (each.get("model", each) for each in (value, cover))
    for head in HEAD:
        assert not value[head][1].any()
        assert not cover[head][1].any()
    assert bool(value["1.bias"][[0, 2]].all())


@pytest.mark.parametrize("variant", ["top_k_weights", "diff_on_top_k", "top_k_diff"])
def test_zerofl_sends_of_its_own_classes_first(variant):
    own = part((1,))
    few, many = (algorithms.zerofl(network, density=density, extra=0.1, variant=variant, outputs=HEAD, weight_decay=0.5,
                                   **LOCAL) for density in (0.2, 0.5))  # fmt: skip
    for method, count in ((few, 3), (many, 5)):
        told = reply(method, own)
        assert len(told["model"]["values"]["1.weight"]) == count
        at = places(method, told)
        assert int(at[1].sum()) == 3
        assert int(at.sum()) == count


def places(method, told):
    """Where in the head the client sent something."""
    flat = torch.zeros(9)
    flat[method.codec.upload.code.unpack(told["model"]["places"]["1.weight"], 0, 9)] = 1
    return flat.reshape(3, 3)


def test_a_wire_sends_the_change_and_classes_go_as_they_are():
    own = [part((0, 1)), part((0, 2), 1)]
    method = algorithms.feddst(network, density=1.0, uplink=wires.qsgd(15), outputs=HEAD, **LOCAL)
    told = reply(method, own[0])
    assert set(told["model"]) == {"norms", "codes"}
    assert told["classes"].tolist() == [3]
    states(method, own)


def test_where_a_clients_rows_are_empty_nothing_moves_there():
    y = {"a": torch.tensor([[4.0, 3.0, 2.0, 1.0]]), "head": torch.tensor([[1.0, 2.0]])}
    masks = {"a": torch.tensor([[1.0, 1.0, 0.0, 0.0]]), "head": torch.zeros(1, 2)}
    grown = grown_by_gradient(y, masks, tree.map(torch.ones_like, y), 0.5)
    assert grown["a"].tolist() == [[1, 0, 1, 0]]
    assert grown["head"].tolist() == [[0, 0]]
    moved = grown_by_chance(y, masks, 0.5, random.key(1))
    assert int(sum(mask.sum() for mask in moved.values())) == 2


@pytest.mark.parametrize(("make", "shape", "names"), [
    (models.small_cnn, (1, 28, 28), ("head.weight", "head.bias")),
    (functools.partial(models.resnet, width=2, blocks=(1, 1)), (3, 8, 8), ("head.weight", "head.bias")),
    (models.mlp, (5,), ("layer2.weight", "layer2.bias")),
])  # fmt: skip
def test_the_rows_of_classes_are_found_in_the_module(make, shape, names):
    assert found(tasks.classification(make(shape, 7), shape=shape), None) == ClassRows(7, names)


POOLED = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Unflatten(1, (2, 2)), torch.nn.AvgPool1d(2),
                             torch.nn.Flatten())  # fmt: skip
"""Its two outputs are means of two rows each."""
MAKE = [algorithms.zerofl, algorithms.feddst, algorithms.flash]
NET = models.mlp((5,), 2, hidden=(4,))


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize(("task", "more", "says"), [
    (network, {}, r"own_classes needs to know .* shape=federation.shape.* or give own_classes=False"),
    (tasks.classification(NET), {}, "own_classes needs to know which rows"),
    (tasks.binary(NET), {}, "own_classes must be False for binary"),
    (tasks.regression(NET), {}, "own_classes must be False for regression"),
    (tasks.classification(POOLED, shape=(5,)), {}, "own_classes must be False where no layer's rows are the model's"),
    (network, {"outputs": ()}, "own_classes must be False where no layer's rows"),
    (network, {"outputs": ("1.weight", "1.scale")}, "outputs must name parameters with a row .*no such parameter"),
    (Tiny(hidden=5), {"outputs": ("0.bias", "1.bias")}, r"outputs must name .* rows: 5, 3"),
])  # fmt: skip
def test_what_has_no_classes_of_its_own_is_refused(make, task, more, says):
    with pytest.raises(FedSepError, match=says):
        make(task, **more)
    make(task, own_classes=False)


def test_symbols_of_a_text_are_its_own_classes():
    text = torch.tensor([[0, 3], [3, 5]], dtype=torch.uint8)
    assert present(text, 6).tolist() == [True, False, False, True, False, True]
    assert present(text.flatten().long(), 5).tolist() == [True, False, False, True, False]
