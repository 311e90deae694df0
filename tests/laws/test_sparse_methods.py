"""ZeroFL, FedDST and Flash: FedAvg where nothing is sparse, loops in plain torch, masks that keep what they promise."""

import itertools

import pytest
import torch
from catalogue import Tiny, network, shards
from laws.test_reference_loops import batches
from weak import HEAD, INPUTS

from fedsep import algorithms, random, tree
from fedsep.core import FedSepError, Update
from fedsep.learners import sgd
from fedsep.learners.swat import Swat
from fedsep.servers.agree import rescaled
from fedsep.servers.sparse_mean import SparseMean, folded, voted
from fedsep.sparsity.density import erk
from fedsep.sparsity.masking import started
from fedsep.testing import play
from fedsep.testing.algorithms import expected, rehearse
from fedsep.testing.draws import context
from fedsep.testing.play import everybody

LOCAL = {"lr": 0.2, "steps": 3, "batch_size": 4}
OWN, ALL = {"outputs": HEAD}, {"own_classes": False}
LAYERS = ("0.weight", "1.weight")
N = [12, 9]


def played(algorithm, rounds=3, task: Tiny = network, capabilities=(1.0,), clients=3):
    return play(algorithm, task.init(), shards(task, clients), everybody(clients, rounds), capabilities=capabilities)


def model(algorithm, rounds=3, **options):
    return algorithm.model(played(algorithm, rounds, **options).states[-1])


def nonzero(params):
    return [int((params[name] != 0).sum()) for name in LAYERS]


# Where nothing is sparse


@pytest.mark.parametrize("classes", [OWN, ALL], ids=["own classes", "all outputs"])
@pytest.mark.parametrize("capabilities", [(1.0,), (1.0, 0.5)])
@pytest.mark.parametrize("method", [
    *(lambda v=v, a=a, **local: algorithms.zerofl(network, density=1.0, variant=v, average=a, weighting="uniform",
                                                  **local)
      for v in ("top_k_weights", "diff_on_top_k", "top_k_diff") for a in ("all", "sent")),
    lambda **local: algorithms.zerofl(network, density=1.0, extra=0.0, places="golomb", weighting="uniform", **local),
    lambda **local: algorithms.feddst(network, density=1.0, readjust=0.0, weighting="uniform", **local),
    lambda **local: algorithms.feddst(network, density=1.0, readjust=0.5, every=1, weighting="uniform", **local),
    lambda **local: algorithms.flash(network, density=1.0, first="uniform", variant="spdst", **local),
    lambda **local: algorithms.flash(network, density=1.0, first="erk", variant="jmwst", **local),
])  # fmt: skip
def test_without_sparsity_it_is_fedavg(method, capabilities, classes):
    plain = model(algorithms.fedavg(network, weighting="uniform", **LOCAL))
    torch.testing.assert_close(model(method(**classes, **LOCAL), capabilities=capabilities), plain, rtol=1e-12,
                               atol=1e-14)  # fmt: skip


@pytest.mark.parametrize("method", [algorithms.zerofl, algorithms.feddst])
def test_without_sparsity_it_is_fedavg_by_samples_by_default(method):
    plain = model(algorithms.fedavg(network, **LOCAL))
    torch.testing.assert_close(model(method(network, density=1.0, **OWN, **LOCAL)), plain, rtol=1e-12, atol=1e-14)


def test_without_sparsity_flash_is_fedavg_after_its_first_stage():
    plain, flash = (
        algorithms.fedavg(network, weighting="uniform", **LOCAL),
        algorithms.flash(network, density=1.0, **OWN, **LOCAL),
    )
    rounds = [{}, *everybody(3, 3)]  # of the first round nothing is left, whoever took part in it
    expected = plain.model(play(plain, network.init(), shards(network, 3), rounds).states[-1])
    torch.testing.assert_close(model(flash, 4), expected, rtol=1e-12, atol=1e-14)


# ZeroFL


def test_the_gradient_of_swat_by_hand():
    """delta W_masked backward, delta^T a_masked for the weights, which all have a gradient."""
    part, y = shards(network)[0].train.all(), network.init()
    task = Swat(network, LAYERS, 0.5)
    leaves = {name: value.clone().requires_grad_() for name, value in y.items()}
    gradient = dict(zip(leaves, torch.autograd.grad(task.loss(leaves, part), list(leaves.values())), strict=True))

    def top(t, share=0.5):
        k = max(1, round(share * t.numel()))
        return torch.where(t.abs() >= t.abs().flatten().topk(k).values.min(), t, 0.0)

    w0, w1 = top(y["0.weight"]), top(y["1.weight"])
    hidden = torch.tanh(part.x @ w0.T + y["0.bias"])
    out = hidden @ w1.T + y["1.bias"]
    torch.testing.assert_close(task.predict(y, part.x), out, rtol=1e-12, atol=1e-14)
    delta = (out.softmax(1) - torch.nn.functional.one_hot(part.y, 3)) / len(part.y)
    back = (delta @ w1) * (1 - hidden**2)
    expected = {"0.weight": back.T @ top(part.x), "0.bias": back.sum(0), "1.weight": delta.T @ top(hidden),
                "1.bias": delta.sum(0)}  # fmt: skip
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-13)
    assert all(bool((gradient[name] != 0).all()) for name in LAYERS)


def test_swat_of_convolutions_at_full_density_is_the_task():
    from fedsep import models, tasks

    task = tasks.classification(models.cnn((1, 16, 16), 3, width=3))
    names = tuple(name for name, part in task.init().items() if part.dim() > 1)
    x, y = random.normal(random.key(1), 5, 1, 16, 16), torch.tensor([0, 1, 2, 1, 0])
    gradients = []
    for each in (task, Swat(task, names, 1.0), Swat(task, names, 0.3)):
        leaves = {name: value.requires_grad_() for name, value in task.init().items()}
        loss = task.criterion(each.predict(leaves, x), y)
        gradients.append(dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True)))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-9, atol=1e-12)
    assert not torch.allclose(gradients[2]["conv2.weight"], gradients[0]["conv2.weight"])


@pytest.mark.parametrize("variant", ["top_k_weights", "diff_on_top_k", "top_k_diff"])
def test_what_zerofl_sends(variant):
    run = played(algorithms.zerofl(network, density=0.3, extra=0.2, variant=variant, served=1.0, **ALL, **LOCAL), 1)
    before, after = (run.states[n].x for n in (0, 1))
    for seat in run.seats[0].values():
        assert [len(seat.reply["values"][name]) for name in LAYERS] == [round(0.5 * n) for n in N]
    unchanged = [int((before[name] == after[name]).sum()) for name in LAYERS]
    if variant == "top_k_weights":  # what nobody sends is read as 0
        assert all(int((after[name] == 0).sum()) > 0 for name in LAYERS)
        assert unchanged == [0, 0]
    else:
        assert all(count > 0 for count in unchanged)


def test_zeros_dilute_or_do_not_by_hand():
    """One client of capability 1 sends all, one of 1/2 a quarter: where it sends nothing, a mean halves the change."""
    full = {"density": 1.0, "extra": 0.0, "scale": "params", "served": 1.0, "weighting": "uniform", **ALL, **LOCAL}
    changes = {}
    for average in ("all", "sent"):
        run = played(algorithms.zerofl(network, average=average, **full), 1, capabilities=(1.0, 0.5), clients=2)
        changes[average] = tree.sub(run.states[1].x, run.states[0].x)
    strong, weak = (run.seats[0][client].reply for client in (0, 1))
    assert [len(weak["values"][name]) for name in LAYERS] == [3, 2]
    view = algorithms.zerofl(network, average="sent", **full).view
    for name in LAYERS:
        mine = strong["values"][name].reshape(network.init()[name].shape)
        theirs, cover = (part[name] for part in view.paste(weak, run.states[0].x, context(0, capability=0.5)))
        torch.testing.assert_close(changes["all"][name], (mine + theirs) / 2)
        torch.testing.assert_close(changes["sent"][name], torch.where(cover > 0, (mine + theirs) / 2, mine))


def test_it_serves_as_sparse_as_it_trains_unless_told():
    run = played(algorithms.zerofl(network, density=0.5, **ALL, **LOCAL), 2)
    assert nonzero(algorithms.zerofl(network, density=0.5, **ALL, **LOCAL).model(run.states[-1])) == [6, 4]
    assert nonzero(algorithms.zerofl(network, density=0.5, served=1.0, **ALL, **LOCAL).model(run.states[-1])) == N


# FedDST


def test_feddst_keeps_its_masks_between_readjustments_and_its_numbers_always():
    method = algorithms.feddst(network, density=0.5, readjust=0.5, every=3, **ALL, **LOCAL)
    run = played(method, 7)
    masks = [state.x["mask"] for state in run.states]
    kept = [int(mask.sum()) for mask in masks[0].values()]
    for n, state in enumerate(run.states):
        assert [int(mask.sum()) for mask in state.x["mask"].values()] == kept
        assert all(bool((state.x["model"][name] * (1 - mask) == 0).all()) for name, mask in state.x["mask"].items())
        if n > 0 and (n - 1) % 3:
            assert all(torch.equal(masks[n][name], masks[n - 1][name]) for name in LAYERS)
    assert not all(torch.equal(masks[0][name], masks[1][name]) for name in LAYERS)
    assert [n for n, seats in enumerate(run.seats) if "places" in seats[0].reply] == [0, 3, 6]
    assert [n for n, seats in enumerate(run.seats) if "places" in seats[0].sent] == [0, 1, 4]


def test_every_local_step_stays_inside_the_masks():
    method = algorithms.feddst(network, density=0.4, readjust=0.0, **{**ALL, **LOCAL, "steps": 1}, momentum=0.5)
    state, part, ctx = method.init(network.init()), shards(network)[0], context(0)
    start, _ = method.codec.decode(method.view.cut(state.x, ctx), {}, part, ctx)
    for steps in (1, 2, 5):
        y, _ = sgd(network, lr=0.3, steps=steps, momentum=0.9, batch_size=4).learn(start, part, ctx)
        assert nonzero(y) == nonzero(start.y)


def test_feddst_equals_a_loop_in_plain_torch():
    """Two rounds without readjustment of three clients of unequal size: the mean by samples, inside one mask."""
    method, parts = algorithms.feddst(network, density=0.6, every=0, **ALL, **LOCAL), shards(network, 3)
    mask = method.init(network.init()).x["mask"]
    server = {n: p * mask[n] if n in mask else p for n, p in network.init().items()}
    for number in range(2):
        ends = []
        for c, part in enumerate(parts):
            y = {n: p.clone().requires_grad_() for n, p in server.items()}
            for x, targets in batches(part, context(number, client=c))[:3]:
                loss = network.criterion(network.predict(y, x), targets)
                g = dict(zip(y, torch.autograd.grad(loss, list(y.values())), strict=True))
                y = {n: ((y[n] - 0.2 * g[n]) * mask.get(n, 1)).detach().requires_grad_() for n in y}
            ends.append({n: p.detach() for n, p in y.items()})
        share = [part.train.size / sum(part.train.size for part in parts) for part in parts]
        server = {n: sum(w * y[n] for w, y in zip(share, ends, strict=True)) for n in server}
    torch.testing.assert_close(model(method, 2), server, rtol=1e-10, atol=1e-12)


X = started({"w": torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0, 0.0]])}, {"w": torch.tensor([[1.0, 1, 1, 1, 0, 0]])})


def reply(own, change, given=(1, 1, 1, 1, 0, 0), weight=1.0):
    own, given = (torch.tensor([mask], dtype=torch.float64) for mask in (own, given))
    value = {"model": {"w": torch.tensor([change]) * own}, "mask": {"w": own - given}}
    return Update(value, weight, {"model": {"w": own}, "mask": {"w": given}})


UPDATES = [
    reply((1, 1, 1, 0, 1, 0), [1.0, 1, 1, 9, 2, 9]),  # prunes the 4th, grows the 5th
    reply((1, 1, 0, 0, 1, 1), [4.0, 1, 9, 9, 5, 7], weight=2.0),  # prunes the 3rd and the 4th, grows both
    reply((0, 1, 0, 0, 0, 0), [9.0, 1, 9, 9, 9, 9], given=(0, 1, 0, 0, 0, 0)),  # was given the 2nd alone
]


def test_each_weight_is_averaged_over_those_that_hold_it():
    x, _ = SparseMean(lambda x, model, tally: {"mask": voted(x, tally)}).step(X, iter(UPDATES), ())
    assert x["model"]["w"].tolist() == [pytest.approx([4 + 3.0, 3 + 1.0, 2 + 1.0, 0.0, 4.0, 7.0])]
    assert x["mask"]["w"].tolist() == [[1, 1, 1, 0, 1, 1]]
    assert int(x["since"]) == 1


def test_what_a_client_was_not_given_it_does_not_vote_against():
    only = voted(X, folded(iter(UPDATES[2:]), X["mask"]))
    assert torch.equal(only["w"], X["mask"]["w"])
    all_prune = voted(X, folded(iter([reply((1, 1, 1, 0, 1, 0), [0.0] * 6)] * 2), X["mask"]))
    assert all_prune["w"].tolist() == [[1, 1, 1, 0, 1, 0]]


def test_masks_of_weak_clients_lie_inside_those_of_stronger_ones():
    method = algorithms.feddst(network, density=0.8, readjust=0.3, every=2, scale="width", **ALL, **LOCAL)
    run = played(method, 5, capabilities=(1.0, 0.5, 0.25))
    for number, state in enumerate(run.states[:-1]):
        given = [method.view.masking.given(state.x, context(number, capability=p)) for p in (1.0, 0.5, 0.25)]
        for strong, weak in itertools.pairwise(given):
            assert all(bool((weak[name] <= strong[name]).all()) for name in LAYERS)
        assert [int(mask.sum()) for mask in given[0].values()] == [
            int(m.sum()) for m in run.states[0].x["mask"].values()
        ]


@pytest.mark.parametrize(("scale", "power"), [("width", 1), ("params", 2)])
def test_a_weak_client_s_layers_are_as_dense_as_a_sparse_model_s(scale, power):
    method = algorithms.feddst(network, density=1.0, readjust=0.3, scale=scale, **ALL, **LOCAL)
    x, start = method.init(network.init()).x, network.init()
    for p in (0.9, 0.6, 0.4):
        own = method.view.masking.given(x, context(0, capability=p))
        wanted = erk([start[name] for name in LAYERS], p**power)
        counts = [max(1, round(density * n)) for density, n in zip(wanted, N, strict=True)]
        assert [int(own[name].sum()) for name in LAYERS] == counts
        assert len({count / n for count, n in zip(counts, N, strict=True)}) > 1  # layers of other shapes differ


# Flash


@pytest.mark.parametrize("density", [1.0, 0.9])
def test_without_a_first_stage_weak_clients_are_as_dense_as_a_sparse_model(density):
    method = algorithms.flash(network, density=density, first="erk", scale="width", **ALL, **LOCAL)
    x, start = method.init(network.init()).x, network.init()
    own = method.view.view.masking.given(x, context(0, capability=0.4))
    wanted = erk([start[name] for name in LAYERS], 0.4 * density)
    assert [int(own[name].sum()) for name in LAYERS] == [round(d * n) for d, n in zip(wanted, N, strict=True)]


def test_weak_clients_find_densities_from_a_part_of_the_masks_and_hold_layers_as_agreed():
    method = algorithms.flash(network, density=1.0, first_epochs=4, rate=0.5, scale="width", every=1, **ALL, **LOCAL)
    run = played(method, 4, capabilities=(0.5, 0.4, 0.3))
    for seat in run.seats[0].values():
        began = [max(1, round(seat.ctx.capability * n)) for n in N]
        assert int(seat.reply["counts"].sum()) == sum(began)
        assert seat.reply["counts"].tolist() != began
    agreed = run.states[1].x
    assert [int(mask.sum()) for mask in agreed["mask"].values()] == list(N)  # the server keeps all
    assert float((agreed["density"] * torch.tensor(N)).sum()) == pytest.approx(sum(N))
    assert float(agreed["density"].max()) > 1
    wanted = rescaled(agreed["density"].tolist(), N, 0.5)
    for state in run.states[1:]:
        assert torch.equal(state.x["density"], agreed["density"])  # no later look
        own = method.view.view.masking.given(state.x, context(1, capability=0.5))
        assert [int(mask.sum()) for mask in own.values()] == [round(d * n) for d, n in zip(wanted, N, strict=True)]


def test_a_layer_that_a_client_was_given_whole_may_come_back_in_part():
    method = algorithms.flash(network, density=1.0, first_epochs=4, rate=0.5, scale="width", every=1, **ALL, **LOCAL)
    run = rehearse(method, network, shards(network), rounds=3, capabilities=(0.5, 0.9))
    given, back = (seat["values"]["0.weight"] for seat in (run.seats[1][1].sent, run.seats[1][1].reply))
    assert (len(given), len(back)) == (12, 11)
    expected(method, run)


def test_the_first_stage_sends_counts_alone_and_starts_anew():
    method = algorithms.flash(network, density=0.5, variant="spdst", first_epochs=3, rate=0.5, **ALL, **LOCAL)
    run = played(method, 4)
    assert run.seats[0][0].sent == {}
    counts = torch.stack([seat.reply["counts"] for seat in run.seats[0].values()])
    assert counts.dtype == torch.int32
    assert all(int(row.sum()) == int(counts[0].sum()) for row in counts)  # moved, never lost
    agreed = run.states[1].x
    mean = (counts / torch.tensor(N)).mean(0)
    scale = 0.5 * sum(N) / float((mean * torch.tensor(N)).sum())
    torch.testing.assert_close(agreed["density"], mean * scale)
    kept = [int(mask.sum()) for mask in agreed["mask"].values()]
    assert kept == [round(float(d) * n) for d, n in zip(mean * scale, N, strict=True)]
    for name in LAYERS:
        assert torch.equal(agreed["model"][name], network.init()[name] * agreed["mask"][name])
        assert all(torch.equal(state.x["mask"][name], agreed["mask"][name]) for state in run.states[1:])
    assert not torch.equal(agreed["mask"]["0.weight"], run.states[0].x["mask"]["0.weight"])


def test_the_first_stage_waits_for_replies():
    method, parts = algorithms.flash(network, density=0.5, first_epochs=1, **ALL, **LOCAL), shards(network, 2)
    states = play(method, network.init(), parts, [{}, {0: False}, {0: True}, {0: True, 1: True}]).states
    assert [int(state.x["agreed"]) for state in states] == [0, 0, 0, 1, 1]


def test_the_masks_of_jmwst_are_the_largest_weights():
    method = algorithms.flash(network, density=0.5, first="uniform", rate=0.4, **ALL, **LOCAL)
    run = played(method, 5)
    before = run.states[0].x["mask"]
    for state in run.states:
        assert sum(int(mask.sum()) for mask in state.x["mask"].values()) in (10, 11)  # to a weight of each layer
        assert all(bool((state.x["model"][name] * (1 - mask) == 0).all()) for name, mask in state.x["mask"].items())
    assert any(not torch.equal(run.states[-1].x["mask"][name], before[name]) for name in LAYERS)


def test_two_runs_of_one_seed_are_one():
    for make in (algorithms.zerofl, algorithms.feddst, algorithms.flash):
        first, second = (model(make(network, **OWN, **LOCAL), 3) for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)
    one, other = (model(algorithms.flash(network, density=0.5, seed=seed, **ALL, **LOCAL), 3) for seed in (0, 1))
    assert not torch.equal(one["0.weight"] != 0, other["0.weight"] != 0)


@pytest.mark.parametrize("hidden", [3, 8, 21])
def test_positions_cost_four_bytes_a_value_as_int32_and_a_bit_a_weight_as_bitmask(hidden):
    task = Tiny(hidden=hidden)
    sizes = [INPUTS * hidden, hidden * 3]
    bytes_of = {}
    for places in ("int32", "bitmask"):
        run = played(algorithms.zerofl(task, density=0.3, extra=0.1, places=places, **ALL, **LOCAL), 1, task)
        bytes_of[places] = {name: tree.nbytes(part) for name, part in run.seats[0][0].reply.items()}
    kept = sum(round(0.4 * n) for n in sizes)
    assert bytes_of["int32"] == {"values": 8 * kept, "rest": 8 * (hidden + 3), "places": 4 * kept}  # values in float64
    assert bytes_of["bitmask"]["places"] == sum(-(-n // 8) for n in sizes)


def test_mistakes_are_refused_with_what_is_allowed():
    with pytest.raises(FedSepError, match="density must be > 0"):
        algorithms.feddst(network, density=0)
    with pytest.raises(FedSepError, match="layers is 'convolutions', and the model has no convolution"):
        algorithms.zerofl(network, layers="convolutions")
    with pytest.raises(FedSepError, match=r"every must stay 1 under scale=width"):
        algorithms.flash(network, scale="width", every=2, **ALL)
    with pytest.raises(FedSepError, match="variant must be"):
        algorithms.flash(network, variant="pdst")
