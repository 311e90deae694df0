"""Servers: two means, momentum and the FedOpt rules against references of some ten lines, on named parts of x."""

import pytest
import torch
from catalogue import network

from fedsep.core import FedSepError, Update
from fedsep.servers import Optimize, adam, coverage_mean, mean, sgd, yogi
from fedsep.testing import check_server
from fedsep.testing.draws import random_like

X = {
    "w": torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64),
    "b": torch.tensor([0.1, 0.2], dtype=torch.float64),
}
RULES = {
    "averaging": sgd(),
    "a rate": sgd(lr=0.3),
    "momentum": sgd(lr=0.5, momentum=0.9),
    "adam": adam(),
    "yogi": yogi(),
}


def updates(count: int = 3, rounds: int = 1):
    return [[Update(random_like(X, 10 * n + c), 1.0 + c) for c in range(count)] for n in range(rounds)]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("reduce", [mean, coverage_mean], ids=["mean", "coverage_mean"])
def test_every_rule_keeps_the_laws_of_servers(rule, reduce):
    check_server(Optimize(rule, reduce), network.init())


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_and_on_named_parts(rule):
    x = {"model": X, "anchor": {"w": torch.ones(3)}, "clock": torch.tensor(3)}
    check_server(Optimize({"model": rule}), x, like={"model": X})


def test_named_parts_have_rules_and_states_of_their_own():
    x = {"slow": torch.zeros(2), "fast": torch.zeros(2), "still": torch.ones(2)}
    server = Optimize({"slow": sgd(lr=0.1), "fast": sgd(lr=1.0, momentum=0.5)})
    state = server.init(x)
    assert state.keys() == {"slow", "fast"}
    one = {"slow": torch.ones(2), "fast": torch.ones(2)}
    x, state = server.step(x, [Update(one)], state)
    x, state = server.step(x, [Update(one)], state)
    assert x["slow"].tolist() == pytest.approx([0.2] * 2)
    assert x["fast"].tolist() == pytest.approx([2.5] * 2)
    assert x["still"].tolist() == [1.0] * 2


def held(change, cover):
    return {name: change[name] * cover[name] for name in change}


def test_mean_divides_by_all_replies_and_coverage_mean_by_those_that_hold_a_coordinate():
    covers = [{"w": torch.tensor([[1.0, 1.0], [1.0, 0.0]]), "b": torch.tensor([1.0, 0.0])},
              {"w": torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "b": torch.tensor([1.0, 0.0])}]  # fmt: skip
    weights, changes = [2.0, 3.0], [held(random_like(X, n), cover) for n, cover in enumerate(covers)]
    given = [Update(*parts) for parts in zip(changes, weights, covers, strict=True)]
    plain, covered = mean(given), coverage_mean(given)
    for name, part in X.items():
        for place in range(part.numel()):
            values = [float(change[name].reshape(-1)[place]) for change in changes]
            holds = [float(cover[name].reshape(-1)[place]) for cover in covers]
            total = sum(w * v for w, v in zip(weights, values, strict=True))
            holders = sum(w * h for w, h in zip(weights, holds, strict=True))
            assert float(plain[name].reshape(-1)[place]) == pytest.approx(total / 5.0)
            assert float(covered[name].reshape(-1)[place]) == pytest.approx(total / holders if holders else 0.0)


def test_with_full_covers_the_two_means_agree():
    given = updates()[0]
    torch.testing.assert_close(mean(given), coverage_mean(given), rtol=1e-12, atol=1e-14)
    assert mean(iter(())) is None
    assert coverage_mean(iter(())) is None


def test_a_coordinate_that_nobody_holds_stays():
    update = Update({"w": torch.full((2, 2), 7.0), "b": torch.zeros(2)}, 1.0, {"w": torch.eye(2), "b": torch.ones(2)})
    x, _ = (server := Optimize(sgd(), coverage_mean)).step(X, [update], server.init(X))
    assert torch.equal(x["w"][0, 1], X["w"][0, 1])
    assert x["w"][0, 0] == X["w"][0, 0] + 7


def reduced(round_updates):
    total = sum(update.weight for update in round_updates)
    return {name: sum(update.value[name] * update.weight for update in round_updates) / total for name in X}


def test_momentum_is_that_of_the_paper():
    server, x, lr, beta = Optimize(sgd(lr=0.5, momentum=0.9)), X, 0.5, 0.9
    state, mine, v = server.init(x), x, {name: torch.zeros_like(part) for name, part in x.items()}
    for given in updates(rounds=4):
        mine, state = server.step(mine, given, state)
        change = reduced(given)
        v = {name: beta * v[name] + change[name] for name in x}
        x = {name: x[name] + lr * v[name] for name in x}
    torch.testing.assert_close(mine, x, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["adam", "yogi"])
def test_adaptive_rules_are_those_of_the_paper(kind):
    """Algorithm 2 of arXiv:2003.00295, v_{-1} = tau^2, no bias correction."""
    lr, b1, b2, tau = 0.05, 0.8, 0.95, 0.01
    server = Optimize({"adam": adam, "yogi": yogi}[kind](lr=lr, beta1=b1, beta2=b2, tau=tau))
    x, mine, state = X, X, server.init(X)
    m = {name: torch.zeros_like(part) for name, part in x.items()}
    v = {name: torch.full_like(part, tau**2) for name, part in x.items()}
    for given in updates(rounds=5):
        mine, state = server.step(mine, given, state)
        delta = reduced(given)
        for name in x:
            m[name] = b1 * m[name] + (1 - b1) * delta[name]
            if kind == "adam":
                v[name] = b2 * v[name] + (1 - b2) * delta[name] ** 2
            else:
                v[name] = v[name] - (1 - b2) * delta[name] ** 2 * torch.sign(v[name] - delta[name] ** 2)
        x = {name: x[name] + lr * m[name] / (torch.sqrt(v[name]) + tau) for name in x}
    torch.testing.assert_close(mine, x, rtol=1e-12, atol=1e-14)


def test_replies_are_folded_as_they_come():
    taken = []

    def one_by_one():
        for n in range(50):
            assert len(taken) == n, "each update is folded before the next is asked for"
            value = {name: torch.ones_like(part) for name, part in X.items()}
            taken.append(n)
            yield Update(value)

    server = Optimize()
    x, _ = server.step(X, one_by_one(), server.init(X))
    torch.testing.assert_close(x["b"], X["b"] + 1)
    assert len(taken) == 50


@pytest.mark.parametrize(("rule", "wrong", "says"), [
    (sgd, {"lr": 0.0}, "lr must be > 0"), (sgd, {"momentum": 1.0}, "momentum must be >= 0 and < 1"),
    (adam, {"tau": 0.0, "beta1": 1.0}, r"beta1 must be .*; tau must be > 0"), (yogi, {"beta2": -0.1}, "beta2 must be"),
])  # fmt: skip
def test_numbers_out_of_range_are_refused(rule, wrong, says):
    with pytest.raises(FedSepError, match=says):
        rule(**wrong)


def test_updates_that_weigh_nothing_move_nothing():
    from fedsep.core import Update
    from fedsep.servers.reduce import mean

    assert mean([Update({"w": torch.ones(2)}, 0.0)]) is None
