"""The two mechanisms around methods: what they add, what they bound, and the laws that they keep."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from catalogue import HEAD, linear, network, shards
from torch.testing import assert_close

from fedsep import algorithms, operators, random, servers, tree, wires
from fedsep.core import Ctx, FedSepError, Reply, Update
from fedsep.privacy import central, distributed, dp_sgd
from fedsep.testing import algorithms as laws

CLIENTS, CLIP, NOISE = 3, 0.4, 1.5


def fedavg(task=network, **options):
    return algorithms.fedavg(task, weighting="uniform", steps=2, batch_size=4, **options)


def sketch(**options):
    return algorithms.fedsep_linear(network, p=6, period=2, steps=2, batch_size=4, server_lr=1.0, **options)


def quantised(**options):
    return algorithms.fedsep_quantised(network, p=6, period=2, steps=2, batch_size=4, server_lr=1.0, **options)


def privately(method, *, noise=NOISE, clip=CLIP, replies=CLIENTS, secret=1, **options):
    return central(method, clip=clip, noise=noise, replies=replies, secret=secret, **options)


def shared(method, *, noise=NOISE, clip=CLIP, replies=CLIENTS, fewest=CLIENTS, secret=1, **options):
    return distributed(method, clip=clip, noise=noise, replies=replies, fewest=fewest, secret=secret, **options)


METHODS = {
    "central fedavg with a downlink": lambda: privately(fedavg(downlink=wires.lloyd_max(bits=2))),
    "central fedavg in one bit with error feedback": lambda: privately(
        fedavg(uplink=wires.error_feedback(wires.sign()))
    ),
    "central top-k": lambda: privately(algorithms.topk_ef(network, k=3, weighting="uniform", steps=2, batch_size=4)),
    "central sketch": lambda: privately(sketch()),
    "central quantised sketch": lambda: privately(quantised()),
    "distributed fedavg": lambda: shared(fedavg()),
    "distributed sketch": lambda: shared(sketch()),
    "dp-sgd": lambda: dp_sgd(fedavg(), clip=1.0, noise=1.0, batch_size=4, secret=1),
}
method_of = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS.keys())


@method_of
def test_a_private_method_keeps_the_laws_that_ask_nothing_of_the_mean(make):
    """All but those on rounds without replies, in which noise still comes, and on equal replies acting as one."""
    algorithm, parts = make(), shards(network, CLIENTS)
    laws.protocol(algorithm)
    laws.pairs(algorithm, network)
    laws.purity(algorithm, network, parts)
    played = laws.rehearse(algorithm, network, parts)
    laws.model(algorithm, network, played)
    laws.payloads(algorithm, played)
    laws.expected(algorithm, played)
    laws.order(algorithm, parts, played, 1e-9)
    laws.dropped(algorithm, network, parts)


def invitation(state, client, round=0):
    return Ctx(round, 1.0, random.fold(random.key(round), client))


def round_of(algorithm, state, changes, weights=None):
    """The state after a round in which these changes arrived."""
    seats = [invitation(state, client, state.round) for client in range(len(changes))]
    replies = [Reply(n, seat, None, change=Update(c)) for n, (seat, c) in enumerate(zip(seats, changes, strict=True))]
    return algorithm.aggregate(state, iter(replies))[0]


def change_of(value):
    return tree.map(lambda part: torch.full_like(part, value), network.init())


def moved(before, after):
    return tree.ravel(tree.sub(after.x, before.x))[0]


def test_changes_are_clipped_then_averaged_over_a_fixed_number():
    d = network.d
    algorithm = privately(fedavg(), noise=1e-12, replies=10)
    state = algorithm.init(network.init())
    small, long = 0.5 * CLIP / math.sqrt(d), 7.0
    after = round_of(algorithm, state, [change_of(small), change_of(long), change_of(-long)])
    expected = (small + CLIP / math.sqrt(d) - CLIP / math.sqrt(d)) / 10
    assert_close(moved(state, after), torch.full((d,), expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("others", [0, 1, 4])
def test_one_client_more_moves_the_sum_by_the_clipping_norm_at_most(others):
    algorithm = privately(fedavg(), replies=10)
    state = algorithm.init(network.init())
    rest = [change_of(0.01 * n) for n in range(others)]
    one, two = (round_of(algorithm, state, rest + more) for more in ([], [change_of(123.0)]))
    assert float(torch.linalg.vector_norm(moved(one, two))) == pytest.approx(CLIP / 10, rel=1e-9)


def test_one_client_more_moves_the_sum_of_a_sketch_by_the_norm_in_its_own_space():
    algorithm = privately(sketch(), replies=10)
    state = algorithm.init(network.init())
    one, two = (round_of(algorithm, state, changes) for changes in ([], [{"omega": torch.full((6,), 50.0)}]))
    assert float((two.x["omega"] - one.x["omega"]).norm()) == pytest.approx(CLIP / 10, rel=1e-9)


def spread(draws):
    return float(torch.cat(draws).square().mean().sqrt())


def test_the_noise_has_the_promised_scale_also_where_nobody_replies():
    """Standard deviation noise clip / replies in each coordinate of x, round after round."""
    algorithm = privately(algorithms.fedavg(dataclasses.replace(linear, hidden=40), weighting="uniform"), replies=5)
    state = algorithm.init(dataclasses.replace(linear, hidden=40).init())
    steps = []
    for _ in range(40):
        after = algorithm.aggregate(state, iter(()))[0]
        steps.append(moved(state, after))
        state = after
    total = sum(len(each) for each in steps)
    assert spread(steps) == pytest.approx(NOISE * CLIP / 5, rel=5 / math.sqrt(2 * total))
    assert abs(float(torch.corrcoef(torch.stack(steps[:2]))[0, 1])) < 5 / math.sqrt(len(steps[0]))


def test_central_and_distributed_noise_have_the_same_law():
    """The variance of the step, over rounds in which the changes are 0: all replies of ``fewest`` come."""
    task, replies = dataclasses.replace(linear, hidden=40), 4
    zeros = tree.map(torch.zeros_like, task.init())
    made = {
        "central": privately(fedavg(task), replies=replies),
        "distributed": shared(fedavg(task), replies=replies, fewest=replies),
    }
    found = {}
    for name, algorithm in made.items():
        state, steps = algorithm.init(task.init()), []
        for round in range(30):
            seats = [invitation(state, client, round) for client in range(replies)]
            packed = [algorithm.uplink.pack(zeros, algorithm.uplink.init(zeros), seat)[0] for seat in seats]
            replied = [Reply(client, seat, part) for client, (seat, part) in enumerate(zip(seats, packed, strict=True))]
            after = algorithm.aggregate(state, iter(replied))[0]
            steps.append(moved(state, after))
            state = after
        found[name] = spread(steps)
    tolerance = 5 / math.sqrt(2 * 30 * tree.size(zeros))
    assert found["central"] == pytest.approx(NOISE * CLIP / replies, rel=tolerance)
    assert found["distributed"] == pytest.approx(NOISE * CLIP / replies, rel=tolerance)


def test_a_share_is_larger_the_fewer_must_do_and_covers_a_clipped_change():
    like = {"w": torch.full((20_000,), 3.0)}
    for fewest in (1, 4):
        wire = shared(fedavg(), fewest=fewest, replies=4).uplink
        sent, _ = wire.pack(like, wire.init(like), invitation(None, 0))
        noise = sent["w"] - CLIP / math.sqrt(20_000)
        assert float(noise.std()) == pytest.approx(NOISE * CLIP / math.sqrt(fewest), rel=0.03)
        assert abs(float(noise.mean())) < 5 * NOISE * CLIP / math.sqrt(fewest * 20_000)


def test_without_a_secret_no_message_and_no_run_has_the_noise_of_another():
    like = {"w": torch.zeros(8)}
    wire = shared(fedavg(), secret=None).uplink
    one, two = (wire.pack(like, (), invitation(None, 0))[0]["w"] for _ in range(2))
    assert not torch.equal(one, two)
    algorithm = privately(fedavg(), secret=None)
    first, second = (algorithm.init(network.init()) for _ in range(2))
    assert not torch.equal(first.optimizer.secret, second.optimizer.secret)
    assert algorithm.cohort_seed(first) != algorithm.cohort_seed(second)


def test_noise_does_not_follow_from_the_runs_seed_and_a_given_secret_gives_it_again():
    states = [privately(fedavg(), secret=s, seed=k).init(network.init()) for s, k in ((1, 0), (1, 0), (1, 1), (2, 0))]
    algorithm = privately(fedavg())
    steps = [moved(state, algorithm.aggregate(state, iter(()))[0]) for state in states]
    assert torch.equal(steps[0], steps[1])
    assert not any(torch.equal(steps[0], other) for other in steps[2:])


def test_no_noise_comes_twice_when_a_sketch_is_re_drawn():
    algorithm = privately(sketch())
    state, seen = algorithm.init(network.init()), []
    for _ in range(6):
        after = algorithm.aggregate(state, iter(()))[0]
        folded = after.x["omega"].abs().sum() == 0
        seen.append(after.x["history"][-1] if folded else after.x["omega"])
        assert int(after.optimizer.round) == state.round + 1
        assert algorithm.cohort_seed(after) != algorithm.cohort_seed(state)
        assert torch.equal(after.optimizer.secret, state.optimizer.secret)
        state = after
    assert len({tuple(each.tolist()) for each in seen}) == 6


def test_the_server_of_a_distributed_method_adds_nothing_and_stays_where_nobody_replied():
    algorithm = shared(fedavg(), replies=10)
    state = algorithm.init(network.init())
    assert torch.equal(moved(state, algorithm.aggregate(state, iter(()))[0]), torch.zeros(network.d))
    after = round_of(algorithm, state, [change_of(0.1), change_of(0.2)])
    assert_close(moved(state, after), torch.full((network.d,), 0.03), rtol=1e-12, atol=1e-14)


def test_momentum_and_adaptive_servers_read_only_the_noisy_mean():
    rule = servers.sgd(lr=0.5, momentum=0.9)
    plain, under = privately(fedavg()), privately(fedavg(server=rule))
    state, other = plain.init(network.init()), under.init(network.init())
    after, later = (round_of(a, s, [change_of(0.01)]) for a, s in ((plain, state), (under, other)))
    assert_close(0.5 * moved(state, after), moved(other, later))


@pytest.mark.parametrize("weight", [2.0, 0.5])
def test_weights_and_covers_are_refused_when_they_come(weight):
    algorithm = privately(fedavg())
    state = algorithm.init(network.init())
    for update in (Update(change_of(0.1), weight), Update(change_of(0.1), 1.0, change_of(1.0))):
        with pytest.raises(FedSepError, match="must count the same"):
            algorithm.server.step(state.x, iter([update]), state.optimizer)


REFUSED = {
    "samples as weights": (lambda: privately(algorithms.fedavg(network)), "method must have weighting: uniform"),
    "private twice": (lambda: privately(privately(fedavg())), "method must not be private already"),
    "a server that reads single replies": (
        lambda: privately(algorithms.fetchsgd(network, p=15, rows=3, k=4)),
        "method must have a server that averages changes",
    ),
    "a reduction of its own": (
        lambda: privately(fedavg(server=servers.reduced(servers.coordinate_median()))),
        "reduce by the plain mean",
    ),
    "coverage": (
        lambda: privately(dataclasses.replace(fedavg(), server=servers.Optimize(reduce=servers.coverage_mean))),
        "reduce by the plain mean",
    ),
    "classes of their own": (
        lambda: privately(algorithms.zerofl(network, weighting="uniform", outputs=HEAD)),
        r"reduce by the plain mean: .* \(own_classes averages .*: set own_classes: false\)",
    ),
    "no noise": (lambda: privately(fedavg(), noise=0.0), "noise must be > 0"),
    "no bound": (lambda: privately(fedavg(), clip=-1.0), "clip must be > 0"),
    "no delta": (lambda: privately(fedavg(), delta=0.0), "delta must be > 0"),
    "half precision around shares": (
        lambda: shared(fedavg(uplink=wires.dense(dtype="bfloat16"))),
        "must send its changes as they are",
    ),
    "one bit around shares": (lambda: shared(quantised()), "privacy.central takes any uplink"),
    "more than there are": (lambda: shared(fedavg(), fewest=4, replies=3), "fewest must be at most replies, 3"),
}


def test_what_is_told_to_be_set_is_enough():
    privately(algorithms.zerofl(network, weighting="uniform", own_classes=False))
    with pytest.raises(FedSepError) as refused:
        privately(dataclasses.replace(fedavg(), server=servers.Optimize(reduce=servers.coverage_mean)))
    assert "own_classes" not in str(refused.value)


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_would_not_be_private_is_refused(make, message):
    with pytest.raises(FedSepError, match=message):
        make()


def test_a_sketch_of_another_operator_is_as_good():
    laws.rehearse(privately(sketch(operator=operators.dct)), network, shards(network, CLIENTS))
