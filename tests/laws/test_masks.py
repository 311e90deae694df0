"""Law: what the mask methods rank is what is cut; the rankings of both ends agree, whatever is lost on the way."""

import itertools
import math
import weakref
from dataclasses import replace

import pytest
import torch
from catalogue import HIDDEN, UNITS, network, shard, shards
from hypothesis import given, settings
from hypothesis import strategies as st
from laws.test_submodels import LOCAL, SHAPE, parts, task_of
from torch.nn import functional as F

from fedsep import algorithms, models, random, tasks, tree
from fedsep.core import Ctx, Failure, FedSepError, Invitation, Reply, Samples, Update
from fedsep.models.ranking import chosen, in_common, natural, places, ranked, read_ranking, renewed
from fedsep.models.units import Axis, Units, kept, units
from fedsep.replies import Gate
from fedsep.scores import activation, taylor
from fedsep.scores.activation import Activation
from fedsep.servers import Optimize, mean
from fedsep.servers.keep_scores import KeepScores
from fedsep.tasks.pure import Pure
from fedsep.testing import check_view, play
from fedsep.testing.draws import context
from fedsep.testing.play import everybody
from fedsep.views import KeptRandom, Random, Refresh, Rolling
from fedsep.views.shared import nearest, relative, scaled

WEAK = (0.5, 0.3)


def by_hand(by_shard):
    """Scores that are given: of a client by its number of examples."""
    return lambda task, table, classes: lambda y, shard, ctx, keep: _at(by_shard[shard.train.size], keep)


def _at(scores, keep):
    whole = {"hidden": torch.tensor(scores)}
    return whole if keep is None else {"hidden": whole["hidden"][keep["hidden"]]}


# --- rankings


@pytest.mark.parametrize("scored_on", ["full", "held"])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_no_ranking(wrong, scored_on):
    scores = by_hand({8: [1.0, wrong, *[0.0] * (HIDDEN - 2)]})
    method = algorithms.fedsep_mask(network, units=UNITS, scored_on=scored_on, scores=scores, **LOCAL)
    ctx = context(0)
    sent = method.broadcast(method.init(network.init()), ctx)
    with pytest.raises(FedSepError, match="scores of the units of group 'hidden' must be finite"):
        method.update(sent, method.enroll(sent, ctx), shard(network, size=8), ctx)


def test_a_function_that_makes_no_scorer_of_task_units_and_classes_is_refused():
    for scores in (lambda task: None, 3):
        with pytest.raises(FedSepError, match="scores must "):
            algorithms.fedsep_mask(network, units=UNITS, scores=scores, **LOCAL)


@given(scores=st.lists(st.integers(0, 3), min_size=1, max_size=20), capability=st.floats(0.01, 1.0))
def test_the_best_are_kept_exactly_as_many_as_asked_for_and_of_equals_the_first(scores, capability):
    n = len(scores)
    order = ranked({"g": torch.tensor(scores, dtype=torch.float64)})["g"]
    got = chosen(order, kept(n, capability), 0.0, 5).tolist()
    by_hand_ = sorted(
        sorted(range(n), key=lambda unit: (-scores[unit], unit))[: max(1, math.ceil(capability * n - 1e-9))]
    )
    assert got == by_hand_


@given(seed=st.integers(0, 99), n=st.integers(1, 20), share=st.floats(0.01, 1), rolling=st.floats(0, 1),
       round=st.integers(0, 99))  # fmt: skip
def test_a_rolling_part_keeps_the_best_and_comes_round_the_rest(seed, n, share, rolling, round):
    order, count = random.permutation(random.key(seed), n), kept(n, share)
    moving = int(rolling * count + 1e-9)
    got = chosen(order, count, rolling, round).tolist()
    assert len(set(got)) == count
    assert set(order[: count - moving].tolist()) <= set(got)
    if moving:
        rest = n - count + moving
        met = {unit for t in range(rest) for unit in chosen(order, count, rolling, round + t).tolist()}
        assert met == set(range(n))


def test_all_rolling_is_the_window_of_fedrolex():
    for n, count, t in itertools.product((1, 5, 8), (1, 3), range(9)):
        if count <= n:
            window = Rolling()(n, count, 0, context(t)).sort().values
            assert torch.equal(chosen(random.permutation(random.key(1), n), count, 1.0, t), window)


def test_places_rank_as_the_ranking_does():
    order = {"g": random.permutation(random.key(4), 9)}
    assert torch.equal(ranked(places(order))["g"], order["g"])
    assert places(order)["g"].sort().values.tolist() == pytest.approx([(i + 1) / 9 for i in range(9)])


@given(seed=st.integers(0, 99), n=st.sampled_from([1, 5, 64]), percent=st.integers(0, 100))
def test_what_clients_have_in_common_weighs_as_much_as_it_is_told(seed, n, percent):
    """By hand: the mean of every unit's places in two orders, in whole numbers."""
    order = random.permutation(random.key(seed), n)
    places_ = order.tolist()
    mean = [(100 - percent) * places_.index(unit) + percent * unit for unit in range(n)]
    by_hand = sorted(range(n), key=lambda unit: (mean[unit], unit))
    assert in_common({"g": order}, percent / 100)["g"].tolist() == (by_hand if percent else places_)


def test_how_much_of_a_quarter_is_alike_is_as_the_docstring_says():
    orders = [random.permutation(random.key(seed), 32) for seed in range(1000)]
    for weight, alike in ((0.0, 0.25), (0.5, 0.59), (0.75, 0.84), (0.875, 0.94)):
        quarters = torch.stack([in_common({"g": order}, weight)["g"][:8] for order in orders])
        assert float((quarters < 8).double().mean()) == pytest.approx(alike, abs=0.01)


@pytest.mark.parametrize("scored_on", ["full", "held"])
def test_a_client_ranks_by_its_scores_and_by_what_is_in_common(scored_on):
    """Of units 0, 1, 2 the held ones are 0 and 2, which the client ranks 2, 0."""
    rising = by_hand({8: [float(unit) for unit in range(HIDDEN)]})
    how = {"units": UNITS, "scores": rising, "scored_on": scored_on, "refresh_every": 1, **LOCAL}
    report = {"ranking": {"hidden": torch.tensor([2, 0, 1], dtype=torch.int16)}}
    ctx = context(0, capability=0.5)._replace(report=report)

    def ranking(common):
        method = algorithms.fedsep_mask(network, common=common, **how)
        sent = method.broadcast(method.init(network.init()), ctx)
        reply = method.update(sent, method.enroll(sent, ctx), shard(network, size=8), ctx)[0]
        return reply["report"]["ranking"]["hidden"].tolist()

    own, numbers = ([2, 1, 0], [0, 1, 2]) if scored_on == "full" else ([2, 0, 1], [0, 2, 1])
    assert ranking(0.0) == ranking(0.25) == own
    assert ranking(0.5) == ranking(0.75) == ranking(1.0) == numbers  # of equals the first


def test_with_all_in_common_it_is_heterofl():
    how = {"units": UNITS, **LOCAL}
    masks = [algorithms.fedsep_mask(network, scores="taylor", common=share, **how) for share in (1.0, 0.0)]

    def trained(method):
        alike = {"shards": shards(network, 4), "attendance": everybody(4, 5), "capabilities": (0.7, 0.2, 1.0, 0.4)}
        return method.model(play(method, network.init(), **alike).states[-1])["0.weight"]

    nested, same, own = map(trained, [algorithms.heterofl(network, **how), *masks])
    assert torch.equal(nested, same)
    assert not torch.equal(nested, own)


def test_a_control_draws_what_is_not_in_common():
    ctx = context(0)
    assert torch.equal(KeptRandom()(40, 10, 0, ctx), Random()(40, 40, 0, ctx)[:10])
    assert torch.equal(KeptRandom(1.0)(40, 10, 0, ctx), torch.arange(10))
    apart = [int((KeptRandom(weight)(40, 10, 0, ctx) >= 10).sum()) for weight in (0.0, 0.5, 0.75, 1.0)]
    assert apart == sorted(apart, reverse=True)
    assert apart[0] > apart[2] > 0


def test_scored_units_come_first_and_the_others_stay_in_their_order():
    got = renewed({"g": torch.tensor([4, 2, 0, 1, 3])}, {"g": torch.tensor([0, 2, 4])}, {"g": torch.tensor([2, 0, 1])})
    assert got["g"].tolist() == [4, 0, 2, 1, 3]


# --- when


@pytest.mark.parametrize("every", [1, 2, 3, 4, 5, None])
@pytest.mark.parametrize("held", [False, True])
def test_scores_are_due_at_every_so_many_accepted_participations(every, held):
    """Against a plain counter, over rounds from which the client stays away, and replies that are lost."""
    method = algorithms.fedsep_mask(
        network, units=UNITS, scores="taylor", refresh_every=every, scored_on="held" if held else "full", **LOCAL
    )
    draws = random.uniform(random.key(9), 40, 2)
    attendance = [{0: bool(lost > 0.3)} if there > 0.25 else {} for there, lost in draws.tolist()]
    played = play(method, network.init(), shards(network, 1), attendance, capabilities=WEAK)
    since, met = None, set()
    for seats in played.seats:
        for seat in seats.values():
            due = since is None or (every is not None and since >= every)
            met.add(due)
            whole = seat.sent["0.weight"].shape[0] == HIDDEN
            assert whole == (due and not held)
            if every is None or every <= 2:
                assert ("report" in seat.reply) == due
            if seat.accepted:
                since = 1 if due else since + 1
    assert met == ({True} if every == 1 else {True, False})


def test_a_refresh_is_counted_by_what_both_ends_know():
    key = random.key(0)
    stamped = Refresh(2).stamps(Ctx(5, 1.0, key))
    assert not Refresh(2).due(Ctx(9, 1.0, key, 5, stamped))
    assert Refresh(2).due(Ctx(12, 1.0, key, 9, stamped))
    assert not Refresh(None).due(Ctx(12, 1.0, key, 9, {}))


# --- personal


def test_a_client_trains_and_reports_the_best_by_its_own_scores_and_is_cut_from_them_at_any_capability():
    method = algorithms.fedsep_mask(
        network, units=UNITS, own_classes=False, scores=by_hand({6: [1.0, 5.0, 3.0]}), **LOCAL
    )
    state, own, ctx = method.init(network.init()), shards(network, 1)[0], context(0, capability=0.5)
    sent = method.broadcast(state, ctx)
    assert all(torch.equal(sent[name], part) for name, part in network.init().items())
    reply, _, _ = method.update(sent, method.enroll(sent, ctx), own, ctx)
    assert reply["report"]["ranking"]["hidden"].tolist() == [1, 2, 0]
    change = method.read(state, Reply(0, ctx, reply))
    assert change.value["model"]["0.weight"].any(1).tolist() == [False, True, True]
    assert change.cover["model"]["0.bias"].tolist() == [0.0, 1.0, 1.0]
    alone = network.init()
    alone = {"0.weight": alone["0.weight"][1:], "0.bias": alone["0.bias"][1:], "1.weight": alone["1.weight"][:, 1:],
             "1.bias": alone["1.bias"]}  # fmt: skip
    plain = algorithms.fedavg(network, **LOCAL).update(alone, method.enroll(sent, ctx), own, ctx)[0]
    torch.testing.assert_close(reply["model"], plain)
    for capability, wanted in ((0.3, [1]), (0.5, [1, 2]), (1.0, [0, 1, 2])):
        later = context(1, seen=0, capability=capability)._replace(report=reply["report"])
        assert torch.equal(method.broadcast(state, later)["0.bias"], network.init()["0.bias"][wanted])


def test_on_the_sub_model_nothing_else_is_ever_sent_and_better_units_come_in_by_the_window():
    scores = by_hand({6: [1.0, 5.0, 9.0]})
    method = algorithms.fedsep_mask(network, units=UNITS, scores=scores, scored_on="held", rolling=0.5, refresh_every=1,
                                    own_classes=False, **LOCAL)  # fmt: skip
    played = play(method, network.init(), shards(network, 1), everybody(1, 4), capabilities=(0.5,))
    assert all(seat.sent["0.bias"].numel() == 2 for seat in played.every_seat())
    rankings = [seat.reply["report"]["ranking"]["hidden"].tolist() for seat in played.every_seat()]
    # Held are units 0 and 1, then 1 with the window at 1 of (0, 2), then 2 with the window at 0 of (0, 1), ...
    assert rankings == [[1, 0, 2], [2, 1, 0], [2, 0, 1], [2, 1, 0]]


def test_the_server_would_serve_the_units_with_the_best_places_on_average():
    scores = by_hand({6: [1.0, 5.0, 3.0], 8: [9.0, 7.0, 1.0]})
    method = algorithms.fedsep_mask(network, units=UNITS, scores=scores, memory=0.0, **LOCAL)
    state = play(method, network.init(), shards(network), everybody(2, 1), capabilities=WEAK).states[-1]
    assert state.x["scores"]["hidden"].tolist() == pytest.approx([(1 + 3) / 6, (3 + 2) / 6, (2 + 1) / 6])
    params = method.model(state)
    assert torch.equal(method.narrower(state, params, 0.5)["0.bias"], params["0.bias"][[0, 1]])
    assert torch.equal(method.narrower(state, params, 0.3)["0.bias"], params["0.bias"][[1]])


@pytest.mark.parametrize("spoil", [lambda order: order.flip(0) * 0, lambda order: order + 1, lambda order: -order])
def test_a_ranking_that_is_none_is_refused(spoil):
    method = algorithms.fedsep_mask(network, units=UNITS, scores="taylor", **LOCAL)
    state, own, ctx = method.init(network.init()), shards(network, 1)[0], context(0, capability=0.5)
    reply, _, _ = method.update(method.broadcast(state, ctx), method.enroll({}, ctx), own, ctx)
    gate = Gate(method, state, [Invitation(0, ctx), Invitation(1, ctx)])
    assert not isinstance(gate.passed(Reply(0, ctx, reply)), Failure)
    reply["report"]["ranking"]["hidden"] = spoil(reply["report"]["ranking"]["hidden"])
    refused = gate.passed(Reply(1, ctx, reply))
    assert isinstance(refused, Failure)
    assert "each of its 3 units once" in refused.reason


def test_groups_of_any_size_are_reported_in_as_few_bytes_as_hold_their_numbers():
    method = algorithms.fedsep_mask(task_of(), **LOCAL)
    ctx = context(0, capability=0.5)
    ranking = natural({"small": 2**15, "large": 2**15 + 1})
    short = {group: part.element_size() for group, part in _shortened(ranking).items()}
    assert short == {"small": 2, "large": 4}
    assert torch.equal(read_ranking(_shortened(ranking), {"large": 2**15 + 1})["large"], ranking["large"])
    told = method.view.like(method.init(task_of().init()).x, ctx)["report"]["ranking"]
    assert tree.nbytes(told) == 2 * sum(units(task_of().model.module, SHAPE).sizes.values())


def _shortened(ranking):
    from fedsep.models.ranking import shortened

    return shortened(ranking, {group: len(order) for group, order in ranking.items()})


# --- shared


@pytest.mark.parametrize("reduce", ["coverage_mean", "mean"])
@pytest.mark.parametrize("held", [False, True])
def test_the_servers_ranking_is_that_of_ten_lines(held, reduce):
    """s <- memory s + (1 - memory) mean of what clients said of the units they scored, scaled to the server's mean."""
    given = {6: [1.0, 5.0, 3.0], 8: [2.0, 2.0, 8.0]}
    how = {"scored_on": "held" if held else "full", "reduce": reduce, "rolling": 0.5, "refresh_every": 1}
    method = algorithms.fedsep_shared(network, units=UNITS, scores=by_hand(given), memory=0.6, **how, **LOCAL)
    capabilities = (1.0, 0.5)
    played = play(method, network.init(), shards(network), everybody(2, 6), capabilities=capabilities)
    s = [1.0, 1.0, 1.0]
    for number, state in enumerate(played.states[1:]):
        said = [[], [], []]
        order = sorted(range(3), key=lambda unit: (-s[unit], unit))
        for told, count in zip(given.values(), (3, 2), strict=True):
            best, moving = order[: count - count // 2], count // 2
            rest = sorted(order[count - moving :])
            window = [rest[(number + i) % len(rest)] for i in range(moving)]
            at = [*best, *window] if held else [0, 1, 2]
            for unit in at:
                said[unit].append(told[unit] * sum(s[u] for u in at) / sum(told[u] for u in at))
        s = [0.6 * old + 0.4 * sum(new) / len(new) if new else old for old, new in zip(s, said, strict=True)]
        assert state.x["scores"]["hidden"][0].tolist() == pytest.approx(s)
    assert played.states[-1].x["scores"]["hidden"][0].argmax() != 0


def test_all_clients_of_a_round_train_nested_units_and_are_told_which():
    given = {6: [1.0, 5.0, 3.0], 8: [1.0, 7.0, 8.0]}
    method = algorithms.fedsep_shared(network, units=UNITS, scores=by_hand(given), memory=0.0, refresh_every=3, **LOCAL)
    played = play(method, network.init(), shards(network), everybody(2, 4), capabilities=WEAK)
    first, later = played.seats[0], played.seats[1]
    assert [seat.sent["keep"]["hidden"].tolist() for seat in first.values()] == [[0, 1], [0]]
    assert [seat.sent["keep"]["hidden"].tolist() for seat in later.values()] == [[1, 2], [1]]
    assert [tree.size(seat.sent["model"]) for seat in first.values()] == [network.d] * 2
    assert [seat.sent["model"]["0.bias"].numel() for seat in later.values()] == [2, 1]
    told = ["scores" in seats[0].reply for seats in played.seats]
    assert told == [True, False, False, True]


def test_clients_of_two_kinds_part_into_clusters():
    """Two clients for whom other units matter, each beside one like it."""
    given = {6: [9.0, 1.0, 1.0], 7: [8.0, 1.0, 2.0], 8: [1.0, 1.0, 9.0], 9: [2.0, 1.0, 8.0]}
    own = [shard(network, size=size) for size in given]
    for held in (False, True):
        method = algorithms.fedsep_shared(network, units=UNITS, scores=by_hand(given), clusters=2, memory=0.5, seed=1,
                                          scored_on="held" if held else "full", rolling=0.5 if held else 0.0,
                                          **LOCAL)  # fmt: skip
        played = play(method, network.init(), own, everybody(4, 14), capabilities=(0.7,) if held else (0.3,))
        kept_ = [seat.sent["keep"]["hidden"].tolist() for seat in played.seats[-1].values()]
        if held:
            best = [ranked(method.view._scores(played.states[-1].x, _after(played, c)))["hidden"][0] for c in range(4)]
            assert [int(unit) for unit in best] == [0, 0, 2, 2]
        else:
            assert kept_ == [[0], [0], [2], [2]]


def _after(played, client):
    """The context of a client's next round."""
    seats = [seats[client] for seats in played.seats]
    report = [seat.reply["report"] for seat in seats if "report" in seat.reply][-1]
    return seats[-1].ctx._replace(report=report, seen=seats[-1].ctx.round)


def test_scores_are_scaled_to_the_servers_mean_and_negative_ones_count_from_the_lowest():
    known = torch.tensor([2.0, 4.0])
    assert scaled(torch.tensor([1.0, 3.0]), known).tolist() == [1.5, 4.5]
    assert scaled(torch.tensor([10.0, 30.0]), known).tolist() == [1.5, 4.5]
    assert scaled(torch.tensor([0.0, 0.0]), known).tolist() == [2.0, 4.0]
    assert scaled(torch.tensor([7.0]), known[:1]).tolist() == [2.0]
    assert relative(torch.tensor([-1.0, 0.0, 4.0])).tolist() == [0.0, 0.5, 2.5]


def test_the_nearest_cluster_is_that_of_the_same_shape():
    scores = {"g": torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])}
    every = {"g": torch.arange(3)}
    assert nearest(scores, {"g": torch.tensor([0.0, 1.0, 9.0])}, every) == 0
    assert nearest(scores, {"g": torch.tensor([90.0, 10.0, 0.0])}, every) == 1
    assert nearest(scores, {"g": torch.tensor([5.0, 1.0])}, {"g": torch.tensor([0, 2])}) == 1


def test_a_report_about_other_units_is_refused():
    method = algorithms.fedsep_shared(network, units=UNITS, clusters=2, scored_on="held", **LOCAL)
    state, own, ctx = method.init(network.init()), shards(network, 1)[0], context(0, capability=0.5)
    reply, _, _ = method.update(method.broadcast(state, ctx), method.enroll({}, ctx), own, ctx)
    method.read(state, Reply(0, ctx, reply))
    reply["report"]["units"] = {"hidden": torch.tensor([7, 8], dtype=torch.int16)}
    with pytest.raises(FedSepError, match="other units than the client was sent"):
        method.read(state, Reply(0, ctx, reply))


def test_the_servers_memory_does_not_grow_with_the_cohort():
    """Of the replies of a round at most two are alive at a time: the one that is folded and the one before."""
    x = {"model": {"w": torch.zeros(3)}, "scores": {"g": torch.ones(1, 2)}}
    alive, most = [], 0

    def updates():
        nonlocal most
        for number in range(20):
            value = {
                "model": {"w": torch.full((3,), float(number))},
                "scores": {"g": torch.full((1, 2), float(number))},
            }
            cover = {"model": {"w": torch.ones(3)}, "scores": {"g": torch.tensor([[1.0, 0.0]])}}
            alive.append(weakref.ref(value["model"]["w"]))
            alive.append(weakref.ref(value["scores"]["g"]))
            yield Update(value, 1.0, cover)
            del value, cover
            most = max(most, sum(ref() is not None for ref in alive))

    server = KeepScores(Optimize(reduce=mean), memory=0.5)
    moved, _ = server.step(x, updates(), server.init(x))
    assert moved["model"]["w"].tolist() == [9.5] * 3
    assert moved["scores"]["g"].tolist() == [[0.5 + 0.5 * 9.5, 1.0]]
    assert most <= 4


# --- controls


def test_kept_random_draws_once_for_each_client_and_shared_random_once_a_round_for_all():
    kept_ = algorithms.kept_random(network, units=UNITS, **LOCAL).view
    first = context(0, client=0, capability=0.5)
    report = {"key": first.key}
    later = [context(t, client=0, seen=0, capability=0.5)._replace(report=report) for t in range(1, 6)]
    assert all(torch.equal(kept_.keep(ctx)["hidden"], kept_.keep(first)["hidden"]) for ctx in later)
    wide = [kept_.plan(64, 32, 0, context(0, client=client)).tolist() for client in range(2)]
    assert wide[0] != wide[1]
    shared = algorithms.shared_random(network, units=UNITS, seed=4, **LOCAL).view
    rounds = [[shared.plan(64, 32, 0, context(t, client=client)).tolist() for client in range(2)] for t in range(2)]
    assert rounds[0][0] == rounds[0][1]
    assert rounds[0][0] != rounds[1][0]
    assert shared.plan(64, 16, 0, context(0)).tolist() == rounds[0][0][:16]


# --- scores


def test_a_taylor_score_is_the_slope_of_the_loss_in_the_units_size():
    """Finite differences: all that makes a unit times 1 + h."""
    task, own = task_of("group"), parts()[0]
    table = units(task.model.module, SHAPE)
    score = taylor(task, table, images=8, batch_size=8)(task.init(), own, context(0), None)
    assert {group: len(part) for group, part in score.items()} == table.sizes
    made = {name: axes[0].group for name, axes in table.axes.items() if axes[0] is not None}
    for group, unit in (("stem", 1), ("stages.0.1.conv1", 2)):
        losses = []
        for h in (1e-4, -1e-4):
            y = task.init()
            for name in (name for name, of in made.items() if of == group):
                y[name][unit] *= 1 + h
            losses.append(float(task.loss(y, own.train.all())))
        assert float(score[group][unit]) == pytest.approx(abs(losses[0] - losses[1]) / 2e-4, rel=1e-5)


def test_scores_are_means_over_minibatches_on_the_clients_own_classes():
    own = parts(classes=(0, 2))[0]
    task = task_of("group")
    table = units(task.model.module, SHAPE)
    whole = taylor(task, table, 3, images=8, batch_size=4)(task.init(), own, context(0), None)
    assert torch.isfinite(whole["stem"]).all()
    unmasked = taylor(task, table, images=8, batch_size=4)(task.init(), own, context(0), None)
    assert not torch.allclose(whole["stem"], unmasked["stem"])
    assert taylor(task, table, images=5, batch_size=4)(task.init(), own, context(0), None)  # a batch of one is left out


def small():
    return tasks.classification(models.small_cnn((1, 8, 8), 3, widths=(4, 6), pool=1), shape=(1, 8, 8))


def test_an_activation_score_is_the_mean_size_of_what_the_next_layer_reads():
    task, key = small(), random.key(3)
    own = parts()[0].with_train(parts()[0].train._replace(x=random.normal(key, 8, 1, 8, 8)))
    table, params = units(task.model.module, (1, 8, 8)), task.init()
    first = F.max_pool2d(F.relu(F.conv2d(own.train.x, params["convs.0.weight"], params["convs.0.bias"], padding=1)), 2)
    second = F.relu(F.conv2d(first, params["convs.1.weight"], params["convs.1.bias"], padding=1))
    score = activation(task, table)(params, own, context(0), None)
    torch.testing.assert_close(score["convs.0"], first.mean((0, 2, 3)))
    torch.testing.assert_close(score["convs.1"], second.mean((0, 2, 3)))


def test_activation_and_taylor_scores_of_transposed_convolutions():
    """An activation is what the transposed kernel is given; a unit's Taylor score that of a gate on what makes it."""
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ConvTranspose2d(4, 6, 3, bias=False),
                                 torch.nn.Flatten(), torch.nn.Linear(6 * 64, 3))  # fmt: skip
    task = tasks.classification(module, shape=(1, 8, 8))
    own = parts()[0].with_train(parts()[0].train._replace(x=random.normal(random.key(3), 8, 1, 8, 8)))
    table, params = units(module, (1, 8, 8)), task.init()
    conv, up = table.sizes
    first = F.conv2d(own.train.x, params["0.weight"], params["0.bias"])
    second = F.conv_transpose2d(first, params["1.weight"])
    score = activation(task, table)(params, own, context(0), None)
    torch.testing.assert_close(score[conv], first.abs().mean((0, 2, 3)))
    torch.testing.assert_close(score[up], second.abs().mean((0, 2, 3)))
    gate = torch.ones(6, requires_grad=True)
    loss = F.cross_entropy(F.linear((second * gate[:, None, None]).flatten(1), params["3.weight"], params["3.bias"]),
                           own.train.y)  # fmt: skip
    wanted = torch.autograd.grad(loss, gate)[0].abs()
    torch.testing.assert_close(taylor(task, table)(params, own, context(0), None)[up], wanted)


def test_an_embedding_reads_no_units():
    class Words(torch.nn.Module):
        def __init__(self, tied):
            super().__init__()
            self.table, self.head, self.tied = torch.nn.Embedding(11, 6), torch.nn.Linear(6, 3), tied
            self.scale = torch.nn.Parameter(torch.ones(6))

        def forward(self, x):
            x = self.table(x.long()).mean(1) * self.scale
            return F.linear(x, self.table.weight) if self.tied else self.head(x)

    tokens = torch.arange(32.0).reshape(8, 4) % 11
    own = parts()[0].with_train(Samples(tokens, torch.arange(8) % 3))
    free, tied = (tasks.classification(Words(each)) for each in (False, True))
    params = free.init()
    score = activation(free, units(free.model.module, tokens[:3]))(params, own, context(0), None)["scale"]
    torch.testing.assert_close(score, params["table.weight"][tokens.long()].mean(1).abs().mean(0))
    with pytest.raises(FedSepError, match=r"needs a layer that reads each group \(none reads scale\)"):
        activation(tied, units(tied.model.module, tokens[:3]))


def test_a_linear_layer_reads_the_last_dimension_and_others_the_second():
    x = torch.arange(24.0).reshape(2, 4, 3) - 5
    table = Units({"g": 3}, {"0.weight": (None, Axis("g"))})
    model = Pure(torch.nn.Sequential(torch.nn.Linear(3, 1)))
    own = parts()[0].with_train(Samples(x, torch.zeros(2, dtype=torch.int64)))
    score = Activation(model, table)(model.init(), own, context(0), None)["g"]
    torch.testing.assert_close(score, x.abs().mean((0, 1)))
    model = Pure(torch.nn.Sequential(torch.nn.Conv1d(4, 1, 1)))
    score = Activation(model, replace(table, sizes={"g": 4}))(model.init(), own, context(0), None)["g"]
    torch.testing.assert_close(score, x.abs().mean((0, 2)))


@pytest.mark.parametrize("make", [taylor, activation])
def test_on_the_held_sub_model_held_units_are_scored_alone(make):
    task, own = small(), parts()[0]
    own = own.with_train(own.train._replace(x=random.normal(random.key(3), 8, 1, 8, 8)))
    table, params = units(task.model.module, (1, 8, 8)), task.init()
    keep = {"convs.0": torch.tensor([1, 3]), "convs.1": torch.tensor([0, 2, 5])}
    part = make(task, table)(table.cut(params, keep), own, context(0), keep)
    assert {group: len(score) for group, score in part.items()} == {"convs.0": 2, "convs.1": 3}
    everything = natural(table.sizes)
    whole = make(task, table)(params, own, context(0), None)
    torch.testing.assert_close(make(task, table)(params, own, context(0), everything), whole)
    assert not torch.allclose(part["convs.0"], whole["convs.0"][[1, 3]])  # the other units are gone, and seen to be


def test_kinds_of_scores_that_a_task_has_not_are_refused():
    with pytest.raises(FedSepError, match="activation needs a task whose model is a module"):
        algorithms.fedsep_mask(network, units=UNITS, scores="activation")
    with pytest.raises(FedSepError, match="scores must be one of gates, taylor, activation, or what makes"):
        algorithms.fedsep_mask(network, units=UNITS, scores="tailor")


# --- what is cut


@pytest.mark.parametrize("name", ["fedsep_mask", "fedsep_shared", "kept_random", "shared_random"])
@pytest.mark.parametrize("scored_on", ["full", "held"])
def test_residual_streams_stay_whole_where_only_inner_groups_are_cut(name, scored_on):
    if scored_on == "held" and "random" in name:
        return
    how = {} if "random" in name else {"scored_on": scored_on}
    method = getattr(algorithms, name)(task_of(), gates="inner", reduce="importance", **how, **LOCAL)
    played = play(method, task_of().init(), parts(), everybody(2, 3), capabilities=(0.5, 0.25))
    for seat in played.every_seat():
        model = seat.reply["model"]
        assert model["stem.weight"].shape[0] == 4
        assert model["stages.0.0.conv1.weight"].shape[0] == kept(4, seat.ctx.capability)
        assert "stem" not in seat.reply["importance"]


@pytest.mark.parametrize("name", ["fedsep_mask", "fedsep_shared"])
@pytest.mark.parametrize("scored_on", ["full", "held"])
def test_the_views_keep_the_laws_of_views(name, scored_on):
    method = getattr(algorithms, name)(task_of("group"), scored_on=scored_on, rolling=0.5, **LOCAL)
    x = method.init(task_of("group").init()).x
    for number, capability in ((0, 1.0), (3, 0.5), (7, 0.3), (1, 0.01)):
        ctx = context(number, capability=capability)
        check_view(method.view, x, ctx=ctx)
        told = method.view.like(x, ctx)
        later = context(number + 1, capability=0.4, seen=number)._replace(report=told.get("report"))
        check_view(method.view, x, ctx=later)


@settings(max_examples=15, deadline=None)
@given(capability=st.floats(0.02, 1.0), round=st.integers(0, 9))
def test_every_layer_of_a_client_has_exactly_its_share(capability, round):
    method = algorithms.fedsep_mask(task_of(), **LOCAL)
    table = units(task_of().model.module, SHAPE)
    state = method.init(task_of().init())
    ctx = context(round, capability=capability)
    sent = method.broadcast(state, ctx)
    reply, _, _ = method.update(sent, method.enroll(sent, ctx), parts()[0], ctx)
    for name, axes in table.axes.items():
        for dim, axis in enumerate(axes):
            if axis is not None:
                count = max(1, math.ceil(capability * table.sizes[axis.group] - 1e-9))
                assert reply["model"][name].shape[dim] == count * axis.outer * axis.inner
    again = context(round + 1, seen=round, capability=capability)._replace(report=reply["report"])
    assert {n: p.shape for n, p in method.broadcast(state, again).items()} == {
        n: p.shape for n, p in reply["model"].items()}  # fmt: skip
