"""Every prediction of section 3.1 holds, and each experiment notices when the code or the formula is wrong."""

from dataclasses import replace

import pytest
import torch

import fedsep.codecs.implicit as codec
from fedsep import tree
from fedsep.implicit import Solution
from fedsep.learners.sgd import SGD
from fedsep.recipes import find
from fedsep.servers.sgd import SGDRule
from fedsep.theory import EXPERIMENTS, apart, bound, condition, corollary, floor, lemmas, neumann, theorem
from fedsep.theory.quadratic import quadratic
from fedsep.theory.recipe import read
from fedsep.theory.settings import Settings
from fedsep.theory.stationarity import client_gradients

SMOKE = read(find("theory/smoke"))


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda one: one.__name__)
def test_predictions_hold(experiment):
    found = experiment(SMOKE, 0)
    assert [check for check in found.checks if not check.holds] == []
    assert any(check.relation != "reported" for check in found.checks)
    assert all(line.x for picture in found.pictures for line in picture.lines)


def short_series(product, v, *, terms, step, symmetric=True):
    """The Neumann series with its last term forgotten."""
    return codec_neumann(product, v, terms=max(terms - 1, 0), step=step, symmetric=symmetric)


def unscaled_series(product, v, *, terms, step, symmetric=True):
    """The Neumann series without its factor tau."""
    value, residual = codec_neumann(product, v, terms=terms, step=step, symmetric=symmetric)
    return Solution(tree.scale(value, 1 / step), residual)


codec_neumann = codec.neumann
learn, decode, server, cross = SGD.learn, codec.Implicit.decode, SGDRule.step, codec.cross_product


def longer_decode(self, x, memory, shard, ctx):
    return decode(replace(self, decode_steps=self.decode_steps + 1), x, memory, shard, ctx)


def faster_learning(self, start, shard, ctx):
    return learn(replace(self, lr=1.5 * self.lr), start, shard, ctx)


def ascent(self, x, change, state):
    return server(self, x, tree.scale(change, -1.0), state)


def negative(*arguments):
    return tree.scale(cross(*arguments), -1.0)


def one_minibatch(self):
    return 1


FAULTS = [  # one of every experiment
    (neumann.neumann_factor, codec, "neumann", short_series),
    (neumann.encode_bias, codec, "neumann", short_series),
    (neumann.encode_variance, codec.Implicit, "_batch_count", one_minibatch),
    (lemmas.decode_contraction, codec.Implicit, "decode", longer_decode),
    (lemmas.drift, SGD, "learn", faster_learning),
    (condition.hypergradient, codec, "cross_product", negative),
    (floor.corollary_floor, codec, "neumann", short_series),
    (corollary.corollary_rate, SGDRule, "step", ascent),
    (client_gradients, SGDRule, "step", ascent),
    (condition.condition_number, codec, "neumann", short_series),
]
MORE_FAULTS = [
    (neumann.neumann_factor, codec, "neumann", unscaled_series),
    (neumann.encode_bias, codec, "cross_product", negative),
    (neumann.encode_bias, codec.Implicit, "_batch_count", one_minibatch),
    (neumann.encode_variance, codec, "neumann", short_series),
    (floor.corollary_floor, codec.Implicit, "decode", longer_decode),
    (floor.corollary_floor, SGDRule, "step", ascent),
]


@pytest.mark.parametrize(
    ("experiment", "owner", "name", "fault"),
    [*FAULTS, *(pytest.param(*fault, marks=pytest.mark.slow) for fault in MORE_FAULTS)],
    ids=lambda one: getattr(one, "__name__", str(one)),
)
def test_a_fault_in_the_code_is_noticed(monkeypatch, experiment, owner, name, fault):
    monkeypatch.setattr(owner, name, fault)
    assert not experiment(SMOKE, 0).holds


ALONE = sorted({source.parts[0] for source in apart._SOURCES if len(source.parts) == 1})


@pytest.mark.parametrize("part", ALONE)
def test_each_term_of_the_bound_is_needed(monkeypatch, part):
    """Without the term, the bound is broken where only the term's own source of error is on."""

    def without(*arguments, **named):
        return {name: 0.0 if name == part else size for name, size in bound.terms(*arguments, **named).items()}

    sources = [source for source in apart._SOURCES if source.parts == (part,)]
    monkeypatch.setattr(apart, "terms", without)
    monkeypatch.setattr(apart, "_SOURCES", tuple(sources))
    assert not apart.theorem_terms(SMOKE, 0).holds


def test_the_theorem_fails_beyond_its_step_sizes():
    """eta eta_g far above 1 / (2 I Lbar): x runs away, and the left side passes the right one."""
    bed = quadratic(0, clients=2, mu=0.5, noise=theorem.NOISE)
    _, settings = theorem.tuned(bed, Settings(terms=4, encode_batch=4, batch=4, decode_steps=8), 12)
    got, known = theorem.measure(bed, settings, 12, SMOKE, 0)
    assert got.gradient + got.step <= sum(bound.terms(known, settings, 12).values())
    wild = replace(settings, server_lr=400 * settings.server_lr)
    got, _ = theorem.measure(bed, wild, 12, SMOKE, 0)
    # with the constants of the run that is stable: those of one that runs away grow with it
    assert got.gradient + got.step > sum(bound.terms(known, wild, 12).values())


def test_terms_scale_as_the_theorem_says():
    known = bound.Constants(3, 0.5, 4.0, 7.0, 2.0, 0.3, 0.2, 0.6, 5.0)
    base = Settings(terms=2, encode_batch=4, batch=4, decode_steps=3, steps=2, lr=0.1, server_lr=0.05)
    now = bound.terms(known, base, 10)

    def ratio(part, constants=known, count=10, **changed):
        return bound.terms(constants, replace(base, **changed), count)[part] / now[part]

    assert ratio("start", count=20) == pytest.approx(1 / 2)
    assert ratio("start", server_lr=0.1) == pytest.approx(1 / 2)
    assert ratio("encode noise", constants=replace(known, clients=6)) == pytest.approx(1 / 2)
    assert ratio("encode noise", steps=4) == pytest.approx(2)
    assert ratio("learning noise", constants=replace(known, clients=6)) == pytest.approx(1 / 2)
    assert ratio("learning noise", batch=8) == pytest.approx(1 / 2)
    assert ratio("drift", steps=4) == pytest.approx((3 / 1) ** 2)
    assert ratio("drift", steps=1) == 0
    assert ratio("drift", lr=0.2) == pytest.approx(4)
    assert ratio("drift noise", batch=8) == pytest.approx(1 / 2)
    assert ratio("decode noise", decode_lr=0.25) == pytest.approx(1 / 2)
    assert ratio("Neumann bias", terms=3) == pytest.approx((1 - 0.9 * 0.5) ** 2)
    assert ratio("decode", decode_steps=4) == pytest.approx(1 - 0.5 * 0.5)
    written = bound.terms(known, base, 10, printed=True)
    assert written["encode noise"] * base.steps == pytest.approx(now["encode noise"])
    assert written["learning noise"] == 0
    assert written["drift"] == pytest.approx(4 * now["drift"])


def test_the_corollary_s_rates_balance_the_terms_they_were_chosen_for():
    known = bound.Constants(3, 0.5, 4.0, 7.0, 2.0, 0.3, 0.0, 0.0, 5.0)
    base = Settings(encode_batch=4, steps=2)
    for count, part in ((10**12, "encode noise"), (10**4, "drift")):
        rates = bound.corollary(known, base, count)
        assert rates.lr < 1
        assert rates.server_lr == pytest.approx(1 / (2 * 2 * 4.0))
        found = bound.terms(known, replace(base, lr=rates.lr, server_lr=rates.server_lr), count, printed=True)
        assert found[part] == pytest.approx(found["start"])
    assert bound.corollary(known, base, 1).decode_lr == 0.5
    assert bound.corollary(known, base, 10**4).decode_lr == pytest.approx(1e-2)


def test_a_path_is_that_of_the_round_which_is_played():
    """The last watched point, one learning step on, is the y that the client really encoded."""
    bed = quadratic(0, clients=2)
    settings = Settings(steps=3, lr=0.2, server_lr=0.5, terms=5)
    before, after, *_ = list(theorem.rounds(bed, settings, 2))
    y0, last = before.path[0], before.path[-1]
    y = last - 0.2 * bed.slopes(last)
    mean = [bed.cross[m].mT @ neumann.series(bed.hessian[m], settings) for m in range(2)]
    sent = torch.stack([(y - y0)[m] @ mean[m].mT for m in range(2)]).mean(0)
    torch.testing.assert_close(after.x, before.x + 0.5 * sent)
