"""Law: with both terms of Eq. (8) the server moves by the reduced first terms and the mean of the second ones."""

from functools import partial

import pytest
import torch
from catalogue import INPUTS, OUTPUTS, UNITS, network, shard, shards
from laws.test_submodels import after, task_of

from fedsep import algorithms, random, servers, tree, wires
from fedsep.core import FedSepError, Reply, Shard, Update
from fedsep.fedsep import ServerState
from fedsep.gates import Relaxed, SecondTerm, bounded, gate_scores, second_term
from fedsep.models.units import kept
from fedsep.scores import taylor
from fedsep.servers import Optimize, coordinate_median, coverage_mean, reduced
from fedsep.servers.both_terms import BothTerms, by_both_terms
from fedsep.servers.sgd import SGDRule
from fedsep.testing import play
from fedsep.testing.draws import context
from fedsep.testing.play import everybody

GATES = {"inputs": (INPUTS,), "form": "free", "steps": 3, "batch_size": 4}
DAMPING, BOUND = 0.02, 0.26  # shorter than the second term of the first client
LOCAL = {"units": UNITS, "scores": partial(gate_scores, **GATES), "lr": 0.2, "steps": 2, "batch_size": 4,
         "weight_decay": 0.1}  # fmt: skip


def method(terms="both", **more):
    options = {"damping": DAMPING, "bound": BOUND, "images": 99} if terms == "both" else {}
    return algorithms.fedsep_mask(network, terms=terms, **{**LOCAL, **options, **more})


def part(client):
    """A client that has the first two of three classes."""
    own = shard(network, client, 6 + 2 * client)
    return Shard(own.train._replace(y=own.train.y.remainder(2)))


PARTS = [part(client) for client in range(3)]
CAPABILITIES = (0.5, 1.0, 0.6)
ATTENDANCE = [{0: True, 1: True}, {0: True, 1: True, 2: True}]
"""In the second round the third client refreshes, the first does not, and the second keeps every unit."""


def test_it_is_sent_at_a_refresh_of_a_client_that_does_not_keep_every_unit_and_takes_a_whole_models_bytes():
    attendance = [{0: True, 1: True}, {0: True, 1: True}, {0: False, 1: True}, {0: True, 1: True}, {0: True}]
    played = play(method(), network.init(), PARTS, attendance, capabilities=CAPABILITIES)
    told = [["second" in seats[client].reply for client in sorted(seats)] for seats in played.seats]
    assert told == [[True, False], [False, False], [True, False], [True, False], [False]]
    for seat in (seats[0] for seats in played.seats):
        if "second" in seat.reply:
            assert tree.nbytes(seat.reply["second"]) == tree.nbytes(network.init())
            assert float(seat.info["encode_residual"]) < 1e-3


def test_as_many_units_as_there_are_is_every_unit_whatever_the_capability():
    capability = 0.9
    assert kept(UNITS.sizes["hidden"], capability) == UNITS.sizes["hidden"]
    [seat] = play(method(), network.init(), PARTS[:1], everybody(1, 1), capabilities=(capability,)).every_seat()
    assert seat.reply.keys() == {"model", "classes", "report"}


def by_hand(x, own, ctx, change, ranking):
    """The second term of one client: formula, bound, and the rows of the class that it has not."""
    scores = gate_scores(network, UNITS, OUTPUTS, **GATES)
    keep = {"hidden": ranking[: kept(3, ctx.capability)].sort().values}
    first = UNITS.paste(change, x, keep)
    first = {name: torch.cat([rows[:2], 0 * rows[2:]]) if name.startswith("1.") else rows
             for name, rows in first.items()}  # fmt: skip
    inner = Relaxed(scores, scores.local(own))
    phi = scores.fit(scores.init(ctx.key), x, own, ctx)
    assert torch.equal(scores.scores(phi)["hidden"].sort(descending=True).indices, ranking)
    term = second_term(inner, inner.masked, x, phi, first, own.train.all(), damping=DAMPING).value
    short = bounded(term, first, BOUND)
    return {name: torch.cat([rows[:2], 0 * rows[2:]]) if name.startswith("1.") else rows
            for name, rows in short.items()}, float(tree.norm(term)) > BOUND * float(tree.norm(first))  # fmt: skip


@pytest.mark.parametrize("weighting", ["uniform", "samples"])
@pytest.mark.parametrize("server", [None, servers.adam(), servers.sgd(lr=0.5, momentum=0.9)],
                         ids=["averaging", "adam", "momentum"])  # fmt: skip
def test_the_step_is_that_of_the_first_terms_and_of_the_mean_of_the_second_ones_by_hand(server, weighting):
    """Against the method of the first term alone, whose server averages; what it moves by is the first change."""
    both, first = method(server=server, weighting=weighting), method("first", weighting=weighting)
    played = play(both, network.init(), PARTS, ATTENDANCE, capabilities=CAPABILITIES, seed=2)  # not the first units
    rule = server or SGDRule()
    state, cut_short = rule.init(network.init()), []
    for number, seats in enumerate(played.seats):
        x = played.states[number].x["model"]
        alone, seconds, weights = [], tree.zeros_like(x), 0.0
        for client, seat in seats.items():
            reply, _, _ = first.update(seat.sent, seat.before, PARTS[client], seat.ctx)
            alone.append(Reply(client, seat.ctx, reply, PARTS[client].train.size))
            weight = PARTS[client].train.size if weighting == "samples" else 1.0
            weights += weight
            assert all(torch.equal(reply["model"][name], seat.reply["model"][name]) for name in x)
            if "second" in seat.reply:
                ranking = reply["report"]["ranking"]["hidden"].long()
                term, short = by_hand(x, PARTS[client], seat.ctx, reply["model"], ranking)
                seconds, cut_short = tree.add(seconds, term, weight), [*cut_short, short]
                assert float(tree.norm(term)) > 0.01 * float(tree.norm(reply["model"]))
        scored = {name: value for name, value in played.states[number].x.items() if name != "second"}
        moved = first.model(first.aggregate(ServerState(scored, (), number), iter(alone))[0])
        change = tree.add(tree.sub(moved, x), seconds, 1 / weights)
        wanted, state = rule.step(x, change, state)
        torch.testing.assert_close(both.model(played.states[number + 1]), wanted, rtol=1e-9, atol=1e-12)
    assert len(cut_short) == 2
    assert cut_short[0]
    assert not any(bool(part.any()) for part in played.states[-1].x["second"].values())


def test_at_full_capability_it_is_fedavg():
    local = {"lr": 0.1, "steps": 2, "batch_size": 4}
    plain = after(algorithms.fedavg(task_of(), weighting="uniform", **local))
    got = after(algorithms.fedsep_mask(task_of(), terms="both", **local))
    torch.testing.assert_close(got, plain, rtol=1e-9, atol=1e-11)


def test_what_was_not_trained_moves_but_no_row_of_a_class_that_nobody_has():
    played = play(method(), network.init(), PARTS[:1], everybody(1, 1), capabilities=(0.3,))
    before, after = (played.states[number].x["model"] for number in (0, 1))
    moved = {name: (before[name] != after[name]) for name in before}
    assert bool(moved["0.weight"].any(1).all())
    assert moved["1.bias"].tolist() == [True, True, False]


def test_a_client_moves_no_row_of_a_class_that_it_told_it_has_not_whatever_it_sends():
    ctx = context(0, capability=0.5)
    both = method()
    state = both.init(network.init())
    sent = both.broadcast(state, ctx)
    reply, _, _ = both.update(sent, both.enroll(sent, ctx), PARTS[0], ctx)
    reply["second"] = {name: torch.ones_like(part) for name, part in reply["second"].items()}
    change = both.read(state, Reply(0, ctx, reply)).value["second"]
    assert change["0.weight"].all()
    assert change["1.bias"].tolist() == [1.0, 1.0, 0.0]
    assert change["1.weight"].any(1).tolist() == [True, True, False]


def test_a_reduction_of_the_users_own_reduces_both_terms():
    ones = {"w": torch.ones(2)}
    updates = [Update({"first": {"w": torch.tensor([a, 9.0])}, "second": {"w": torch.tensor([b, 0.0])}}, 1.0,
                      {"first": {"w": torch.tensor([1.0, 0.0])}, "second": ones})
               for a, b in ((1.0, 10.0), (2.0, 20.0), (7.0, 90.0))]  # fmt: skip
    x = {"w": torch.zeros(2)}
    for rule in (reduced(coordinate_median()), {"w": reduced(coordinate_median())}):
        server = by_both_terms(Optimize(rule))
        assert server.step(x, iter(updates), server.init(x))[0]["w"].tolist() == [22.0, 0.0]
    assert by_both_terms(Optimize(reduce=coverage_mean)).reduce == BothTerms(coverage_mean)
    assert by_both_terms(Optimize()).step(x, iter([]), ()) == (x, ())


@pytest.mark.parametrize("own_classes", [True, False])
def test_it_goes_by_the_uplink_of_the_first_term(own_classes):
    for wire, names in ((wires.qsgd(15), {"norms", "codes"}), (wires.dense(dtype="bfloat16"), network.init().keys())):
        whole = method(uplink=wire, own_classes=own_classes)
        [seat] = play(whole, network.init(), PARTS[:1], everybody(1, 1), capabilities=(0.5,)).every_seat()
        assert seat.reply["second"].keys() == seat.reply["model"].keys() == names


def test_the_examples_are_as_many_as_were_asked_for_of_what_gates_are_fitted_to():
    ctx, x = context(0, capability=0.5), network.init()
    own = Shard(shard(network).train, validation=shard(network, 1).train)
    first = {name: random.normal(random.key(4), *part.shape) for name, part in x.items()}
    for data, samples in (("train", own.train), ("validation", own.validation)):
        scores = gate_scores(network, UNITS, data=data, **GATES)
        phi = scores.init(ctx.key)
        got = SecondTerm(scores, 1, DAMPING, 1e9)(x, phi, first, own, ctx).value
        alone = [second_term(inner, inner.masked, x, phi, first, samples.take(torch.tensor([number])), damping=DAMPING)
                 for inner in [Relaxed(scores, network)] for number in range(samples.size)]  # fmt: skip
        assert sum(torch.allclose(got["0.weight"], each.value["0.weight"]) for each in alone) == 1


def test_a_client_without_the_data_of_its_gates_is_told_so():
    scores = partial(gate_scores, data="validation", **GATES)
    with pytest.raises(FedSepError, match="set validation in data"):
        play(method(scores=scores), network.init(), PARTS[:1], everybody(1, 1), capabilities=(0.5,))


@pytest.mark.parametrize(("more", "said"), [
    ({"scores": "taylor"}, r"^fedsep_mask with terms=both: scores must be gates, .* \(got taylor\)$"),
    ({"scores": taylor}, r"scores must be gates, .* \(got Taylor\)$"),
    ({"scored_on": "held"}, r"^fedsep_mask with terms=both: scored_on must be full: .* \(got held\)$"),
    ({"common": 0.5}, r"^fedsep_mask with terms=both: common must be 0: .* \(got 0.5\)$"),
    ({"common": 1.5}, "common must be >= 0 and <= 1"),
    ({"scores": "taylor", "scored_on": "held"}, r"scores must be gates, .*; scored_on must be full"),
    ({"terms": "second"}, "terms must be first or both"),
    ({"damping": 0.0}, "damping must be > 0"),
    ({"bound": -1.0}, "bound must be > 0"),
])  # fmt: skip
def test_what_cannot_be_is_refused(more, said):
    with pytest.raises(FedSepError, match=said):
        method(**{"terms": "both", **more})


def test_without_the_second_term_nothing_is_kept_or_sent_for_it():
    plain = method("first")
    played = play(plain, network.init(), shards(network), everybody(2, 1), capabilities=(0.5,))
    assert played.states[-1].x.keys() == {"model", "scores"}
    assert all("second" not in seat.reply for seat in played.every_seat())
    assert isinstance(plain.server.server, Optimize)
    assert plain.server.server.reduce is coverage_mean
