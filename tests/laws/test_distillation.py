"""FedDF, DS-FL and Fed-ET: what they are without distillation, by hand with it, and what they refuse."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from catalogue import network, shards
from weak import INPUTS, OUTPUTS, narrow_net, public

from fedsep import algorithms, data, models, random, tasks, tree, wires
from fedsep.cohort import Cohort
from fedsep.core import FedSepError, Reply, Update
from fedsep.learners.descent import Descent, divergence
from fedsep.options import Evaluate
from fedsep.pairs import findings
from fedsep.servers.agreed_labels import sharpened
from fedsep.servers.consensus import Opinions, lesson, lesson_loss, opinion
from fedsep.testing import play
from fedsep.testing.draws import context
from fedsep.testing.play import everybody
from fedsep.train import fit

LOCAL = {"lr": 0.2, "steps": 3, "batch_size": 4}


def played(algorithm, rounds=3, capabilities=(1.0,), clients=3):
    return play(
        algorithm, network.init(), shards(network, clients), everybody(clients, rounds), capabilities=capabilities
    )


def probabilities(seed, count=5, classes=4):
    return random.normal(random.key(seed), count, classes).softmax(-1)


def entropy(p):
    return -torch.special.xlogy(p, p).sum(-1)


# The steps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_student_that_is_its_teacher_stays_to_the_bit(optimizer, dtype):
    z, w = random.normal(random.key(1), 40, 6).to(dtype), random.normal(random.key(2), 6, 4).to(dtype)
    teacher = (z @ w + 5.0).softmax(-1)  # the same up to rounding
    descent = Descent(50, 7, 0.1, optimizer)
    fitted = descent.fit({"w": w}, 40, lambda y, i: divergence(teacher[i], z[i] @ y["w"]), random.key(3))
    assert torch.equal(fitted["w"], w)


def test_the_divergence_and_its_gradient():
    target, logits = probabilities(1), random.normal(random.key(2), 5, 4).requires_grad_()
    value = divergence(target, logits)
    expected = (target * (target.log() - logits.log_softmax(-1))).sum(-1).mean()
    torch.testing.assert_close(value, expected)
    [mine] = torch.autograd.grad(value, logits)
    [plain] = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(mine, plain)
    assert divergence(target, target.log() + 3).abs() < 1e-15
    one_hot = F.one_hot(torch.tensor([0, 1, 2, 3, 0]), 4).double()
    torch.testing.assert_close(divergence(one_hot, logits.detach()), F.cross_entropy(logits.detach(), one_hot))


@pytest.mark.parametrize(("optimizer", "torchs"), [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_the_steps_are_torchs(optimizer, torchs):
    z, target, start = random.normal(random.key(1), 12, 6), probabilities(4, 12), random.normal(random.key(2), 6, 4)
    descent, key = Descent(9, 5, 0.05, optimizer, clip=0.1, cosine=True), random.key(5)
    mine = descent.fit({"w": start}, 12, lambda y, i: divergence(target[i], z[i] @ y["w"]), key)["w"]
    w = start.clone().requires_grad_()
    step = torchs([w], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(step, 9)
    for index in descent.minibatches(12, key):
        step.zero_grad()
        F.kl_div((z[index] @ w).log_softmax(-1), target[index], reduction="batchmean").backward()
        w.grad *= (0.1 / w.grad.norm()).clamp_max(1.0)  # torch's own clipping adds 1e-6 to the norm
        step.step()
        schedule.step()
    torch.testing.assert_close(mine, w.detach(), rtol=1e-7, atol=1e-9)


def test_minibatches_meet_every_example_once_in_an_epoch():
    descent = Descent(7, 5, 0.1)
    batches = list(descent.minibatches(12, random.key(1)))
    assert [len(batch) for batch in batches] == [5, 5, 2, 5, 5, 2, 5]
    assert sorted(torch.cat(batches[:3]).tolist()) == list(range(12))
    assert descent.examples(12) == 12
    assert descent.examples(100) == 35


# FedDF


@pytest.mark.parametrize("weighting", ["uniform", "samples"])
def test_without_steps_one_architecture_is_fedavg(weighting):
    plain, mine = (make.model(played(make).states[-1]) for make in (
        algorithms.fedavg(network, weighting=weighting, **LOCAL),
        algorithms.feddf(network, public=public(), server_steps=0, weighting=weighting, **LOCAL)))  # fmt: skip
    torch.testing.assert_close(mine, plain, rtol=1e-12, atol=1e-14)


def test_without_steps_every_architecture_is_the_fedavg_of_its_clients():
    small = narrow_net(2)
    mine = algorithms.feddf(network, public=public(), zoo={0.5: small}, server_steps=0, **LOCAL)
    run = played(mine, capabilities=(1.0, 0.5, 0.5))
    alone = algorithms.fedavg(tasks.classification(small), weighting="uniform", **LOCAL)
    parts = shards(network, 3)
    rounds = [{1: True, 2: True}] * 3
    expected = play(alone, tasks.classification(small).init(), parts, rounds).states[-1].x
    torch.testing.assert_close(run.states[-1].x["0.5"], expected, rtol=1e-12, atol=1e-14)


def test_feddf_by_hand():
    """One step of Adam on the whole pool: the teacher is the mean of all clients' logits, of all architectures."""
    small, pool = narrow_net(2), public()
    mine = algorithms.feddf(network, public=pool, zoo={0.5: small}, server_steps=1, server_batch_size=50,
                            server_lr=0.01, server_clip=None, **LOCAL)  # fmt: skip
    run = played(mine, 1, capabilities=(1.0, 0.5))
    before, after = (run.states[n].x for n in (0, 1))
    ends = [(c, tree.add(seat.sent, seat.reply)) for c, seat in run.seats[0].items()]
    task = {"1": network, "0.5": tasks.classification(small)}
    names = {0: "1", 1: "0.5", 2: "1"}
    teacher = torch.stack([task[names[c]].predict(y, pool.x) for c, y in ends]).mean(0).softmax(-1)
    for name in before:
        own = [y for c, y in ends if names[c] == name]
        start = {n: sum(y[n] for y in own) / len(own) for n in own[0]}
        leaves = {n: p.clone().requires_grad_() for n, p in start.items()}
        loss = F.kl_div(task[name].predict(leaves, pool.x).log_softmax(-1), teacher, reduction="batchmean")
        gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        expected = {n: start[n] - 0.01 * g / (g.abs() + 1e-8) for n, g in gradients.items()}
        torch.testing.assert_close(after[name], expected, rtol=1e-7, atol=1e-9)


def test_an_architecture_without_clients_keeps_its_weights_and_still_learns():
    zoo = {0.5: narrow_net(2)}
    for steps, same in ((0, True), (3, False)):
        mine = algorithms.feddf(network, public=public(), zoo=zoo, server_steps=steps, server_batch_size=5, **LOCAL)
        run = played(mine, 1)
        first, last = (run.states[n].x["0.5"] for n in (0, 1))
        assert all(torch.equal(first[name], last[name]) for name in first) is same
        assert all(torch.isfinite(part).all() for part in last.values())


# DS-FL


def test_era_is_a_softmax_of_probabilities():
    """Of probabilities: entropy grows with T, tends to 0 with it, and falls on soft averages, not on every input."""
    batch = probabilities(7, 50, 10)
    rows = [sharpened(batch, t) for t in (1e-5, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0)]
    for row in rows:
        torch.testing.assert_close(row.sum(-1), torch.ones(50))
        assert torch.equal(row.argmax(-1), batch.argmax(-1))
    entropies = [entropy(row) for row in rows]
    assert all(bool((a < b).all()) for a, b in itertools.pairwise(entropies))
    assert float(entropies[0].max()) < 1e-6
    soft = torch.full((1, 10), 0.7 / 9)
    soft[0, 3] = 0.3
    assert float(entropy(soft)) == pytest.approx(2.149, abs=1e-3)
    assert float(entropy(sharpened(soft, 0.1))) == pytest.approx(1.778, abs=1e-3)
    split = torch.tensor([[0.5, 0.5] + [0.0] * 8])
    assert float(entropy(split)) == pytest.approx(0.693, abs=1e-3)
    assert float(entropy(sharpened(split, 0.1))) == pytest.approx(0.851, abs=1e-3)


def test_the_entropy_of_real_labels_is_told_before_and_after():
    mine = algorithms.dsfl(network, public=public(), per_round=6, distil_steps=1, **LOCAL)
    state, labels = mine.init(network.init()), [probabilities(seed, 6, OUTPUTS) for seed in (3, 4)]
    after, told = mine.aggregate(state, [Reply(c, context(0), {"labels": part}) for c, part in enumerate(labels)])
    average = sum(labels) / 2
    assert float(told["entropy_of_mean"]) == pytest.approx(float(entropy(average).mean()))
    assert float(told["entropy_agreed"]) == pytest.approx(float(entropy((average * OUTPUTS).softmax(-1)).mean()))
    assert mine.aggregate(after, [])[1] == {}  # nothing was agreed
    plain = algorithms.dsfl(network, public=public(), per_round=6, distil_steps=1, aggregation="sa", **LOCAL)
    told = plain.aggregate(state, [Reply(c, context(0), {"labels": part}) for c, part in enumerate(labels)])[1]
    assert float(told["entropy_agreed"]) == float(told["entropy_of_mean"])


@pytest.mark.parametrize(("options", "target"), [
    ({"aggregation": "sa"}, lambda mean: mean),
    ({}, lambda mean: (mean * OUTPUTS).softmax(-1)),
    ({"temperature": 0.2}, lambda mean: (mean / 0.2).softmax(-1)),
])  # fmt: skip
def test_dsfl_by_hand(options, target):
    pool = public()
    mine = algorithms.dsfl(network, public=pool, per_round=8, distil_steps=0, **options, **LOCAL)
    run = played(mine, 2)
    for number, seats in enumerate(run.seats):
        at = mine.codec.pool.at(number)
        assert len(set(at.tolist())) == 8
        labels = [network.predict(seat.memory.codec["1"], pool.x[at]).softmax(-1) for seat in seats.values()]
        for label, seat in zip(labels, seats.values(), strict=True):
            torch.testing.assert_close(seat.reply["labels"], label)
        torch.testing.assert_close(run.states[number + 1].x["labels"], target(sum(labels) / 3))
    assert run.seats[0][0].sent == {}
    assert torch.equal(run.seats[1][0].sent["labels"], run.states[1].x["labels"])
    assert not torch.equal(mine.codec.pool.at(0), mine.codec.pool.at(1))


def test_clients_and_server_learn_the_labels():
    pool = public()
    mine = algorithms.dsfl(network, public=pool, per_round=12, distil_steps=200, distil_lr=0.5, distil_batch_size=12,
                           **LOCAL)  # fmt: skip
    run = played(mine, 2)
    state, seat = run.states[1], run.seats[1][0]
    at = mine.codec.pool.at(0)

    def distance(y):
        return float(divergence(state.x["labels"], network.predict(y, pool.x[at])))

    assert distance(state.x["model"]) < 0.1 * distance(network.init())
    start, _ = mine.local_models(seat.sent, seat.before, shards(network)[0], seat.ctx)
    assert distance(start) < 0.2 * distance(seat.before.codec["1"])


def test_equal_clients_give_their_own_labels_under_simple_means():
    mine = algorithms.dsfl(network, public=public(), per_round=6, aggregation="sa", **LOCAL)
    state, ctx = mine.init(network.init()), context(0)
    labels = probabilities(3, 6, OUTPUTS)
    after, _ = mine.aggregate(state, [Reply(c, ctx, {"labels": labels}) for c in range(4)])
    torch.testing.assert_close(after.x["labels"], labels)


def test_a_client_that_was_away_gets_the_last_labels_and_goes_on_from_its_own_model():
    mine = algorithms.dsfl(network, public=public(), per_round=6, distil_steps=2, **LOCAL)
    rounds = [{0: True, 1: True}, {0: True}, {}, {0: True, 1: True}]
    seats = play(mine, network.init(), shards(network, 2), rounds).seats
    late = seats[3][1]
    assert int(late.sent["labelled"]) == 1
    assert torch.equal(late.before.codec["1"]["0.weight"], seats[0][1].memory.codec["1"]["0.weight"])


def test_a_client_keeps_a_model_of_each_architecture_it_has_had():
    mine = algorithms.dsfl(network, public=public(), zoo={0.5: narrow_net(2)}, per_round=6, distil_steps=1, **LOCAL)
    part, memory, state = shards(network)[0], None, mine.init(network.init())
    for number, capability in enumerate((1.0, 0.5, 1.0)):
        ctx = context(number, capability=capability, seen=number - 1)
        sent = mine.broadcast(state, ctx)
        before = mine.enroll(sent, ctx) if memory is None else memory
        reply, memory, _ = mine.update(sent, before, part, ctx)
        if number:
            untouched = "0.5" if capability == 1.0 else "1"
            kept = before.codec[untouched]
            assert all(torch.equal(memory.codec[untouched][name], kept[name]) for name in kept)
        state, _ = mine.aggregate(state, [Reply(0, ctx, reply)])
    assert {"1", "0.5"} == memory.codec.keys()


# Fed-ET


def consensus(*clients):
    parts = [opinion(logits) for logits in clients]
    return lesson(Opinions(sum(p.logits for p in parts), sum(p.weight for p in parts)))


def test_the_consensus_by_hand():
    clients = [random.normal(random.key(n), 20, 4) for n in range(3)]
    v = torch.stack([s.var(-1, unbiased=False) for s in clients])
    alpha = v / v.sum(0)
    torch.testing.assert_close(alpha.sum(0), torch.ones(20))
    label = sum(a[:, None] * s for a, s in zip(alpha, clients, strict=True)).argmax(-1)
    learned = consensus(*clients)
    assert torch.equal(learned.label, label)
    for n in range(20):
        others = [k for k in range(3) if clients[k][n].argmax() != label[n]]
        assert bool(learned.divided[n]) is bool(others)
        if others:
            weight = sum(v[k, n] for k in others)
            expected = (sum(v[k, n] * clients[k][n] for k in others) / weight).softmax(-1)
            torch.testing.assert_close(learned.others[n], expected)
    logits, index = random.normal(random.key(9), 6, 4), torch.tensor([0, 3, 5, 7, 11, 19])
    each = [F.kl_div(logits[i].log_softmax(-1), learned.others[n], reduction="sum") if learned.divided[n] else 0.0
            for i, n in enumerate(index)]  # fmt: skip
    expected = F.cross_entropy(logits, label[index]) + 0.3 * sum(each) / 6
    torch.testing.assert_close(lesson_loss(learned, logits, index, 0.3), expected)


def test_a_constant_added_to_a_clients_logits_changes_nothing_and_a_factor_counts_squared():
    clients = [random.normal(random.key(n), 30, 5) for n in range(4)]
    plain, shifted = consensus(*clients), consensus(clients[0] + 7.0, *clients[1:])
    assert torch.equal(plain.label, shifted.label)
    torch.testing.assert_close(plain.others, shifted.others)
    torch.testing.assert_close(opinion(3 * clients[0]).weight, 9 * opinion(clients[0]).weight)


def test_identical_clients_are_not_divided_and_nothing_is_divided_by_zero():
    same = random.normal(random.key(1), 10, 4)
    learned = consensus(same, same, same)
    assert not learned.divided.any()
    assert torch.equal(learned.label, same.argmax(-1))
    logits = random.normal(random.key(2), 10, 4).requires_grad_()
    with_term, without = (lesson_loss(learned, logits, torch.arange(10), diversity) for diversity in (5.0, 0.0))
    assert torch.equal(with_term, without)
    indifferent = consensus(torch.zeros(10, 4), torch.ones(10, 4), same)
    for lesson_ in (learned, indifferent, consensus(torch.zeros(10, 4))):
        loss = lesson_loss(lesson_, logits, torch.arange(10), 0.5)
        [gradient] = torch.autograd.grad(loss, logits)
        assert bool(torch.isfinite(loss))
        assert bool(torch.isfinite(gradient).all())


def het(**options):
    wide = tasks.classification(models.mlp((INPUTS,), OUTPUTS, hidden=(8, 3), seed=1))
    zoo = {1.0: models.mlp((INPUTS,), OUTPUTS, hidden=(4, 3), seed=2), 0.5: models.mlp((INPUTS,), OUTPUTS, hidden=(3,))}
    return wide, algorithms.fedet(wide, public=public(), zoo=zoo, server_batch_size=5, **{**LOCAL, **options})


def test_the_server_averages_heads_and_lends_its_own():
    task, mine = het(server_steps=0)
    run = play(mine, task.init(), shards(network, 3), everybody(3, 1), capabilities=(1.0, 0.5, 1.0))
    x, seats = run.states[1].x, run.seats[0]
    ends = [tree.add(seat.sent, seat.reply) for seat in seats.values()]
    head = {part: (ends[0][f"layer3.{part}"] + ends[1][f"layer2.{part}"] + ends[2][f"layer3.{part}"]) / 3
            for part in ("weight", "bias")}  # fmt: skip
    for name, layer in (("server", "layer3"), ("1", "layer3"), ("0.5", "layer2")):
        torch.testing.assert_close({part: x[name][f"{layer}.{part}"] for part in head}, head)
    assert torch.equal(x["server"]["layer1.weight"], task.init()["layer1.weight"])
    torch.testing.assert_close(x["1"]["layer1.weight"], (ends[0]["layer1.weight"] + ends[2]["layer1.weight"]) / 2)
    torch.testing.assert_close(x["0.5"]["layer1.weight"], ends[1]["layer1.weight"])
    _, taught = het(server_steps=4)
    moved = play(taught, task.init(), shards(network, 3), everybody(3, 1), capabilities=(1.0, 0.5, 1.0)).states[1].x
    assert not torch.equal(moved["server"]["layer1.weight"], x["server"]["layer1.weight"])
    assert torch.equal(moved["1"]["layer3.weight"], moved["server"]["layer3.weight"])


def test_an_architecture_without_replies_stays_as_it_was():
    task, mine = het(server_steps=2)
    states = play(mine, task.init(), shards(network, 2), everybody(2, 1)).states
    first, last = (state.x["0.5"] for state in states)
    assert all(torch.equal(first[name], last[name]) for name in first)


# What is refused


def test_heads_of_other_shapes_are_refused():
    with pytest.raises(FedSepError, match=r"one head of the same shape .*model has .*\(3, 3\).* 0.5 has .*\(3, 2\)"):
        algorithms.fedet(network, public=public(), zoo={0.5: narrow_net(2)})
    with pytest.raises(FedSepError, match=r"head must be how names of parameters begin: .*got 'classifier\.'"):
        algorithms.fedet(network, public=public(), head="classifier.")


@pytest.mark.parametrize("make", [algorithms.feddf, algorithms.fedet])
def test_a_wire_that_remembers_one_architecture_is_refused_beside_another(make):
    wire = wires.error_feedback(wires.topk(3))
    with pytest.raises(FedSepError, match=r"uplink must be a wire without memory, since .* \(got ErrorFeedback\)"):
        make(network, public=public(), zoo={0.5: narrow_net(3)}, uplink=wire)
    assert make(network, public=public(), uplink=wire).uplink is wire
    make(network, public=public(), zoo={0.5: narrow_net(3)}, uplink=wires.topk(3))


@pytest.mark.parametrize("make", [algorithms.feddf, algorithms.dsfl, algorithms.fedet])
def test_zoos_and_public_data_are_checked(make):
    with pytest.raises(FedSepError, match="public data are missing: add public: N"):
        make(network, public=None)
    with pytest.raises(FedSepError, match=r"zoo must name capabilities > 0 and <= 1 \(got 1.5\)"):
        make(network, public=public(), zoo={1.5: narrow_net(3)})
    with pytest.raises(FedSepError, match=r"zoo must name capabilities > 0 and <= 1 \(got small\)"):
        make(network, public=public(), zoo={"small": narrow_net(3)})
    with pytest.raises(FedSepError, match=r"zoo must hold models of 3 outputs.*got 5 at capability 0.5"):
        make(network, public=public(), zoo={0.5: models.mlp((INPUTS,), 5, hidden=(3,))})
    with pytest.raises(FedSepError, match=r"capability 0.5 cannot take public inputs of shape \(4,\)"):
        make(network, public=public(), zoo={0.5: models.mlp((INPUTS + 1,), OUTPUTS, hidden=(3,))})


def test_the_recipes_model_is_that_of_capability_1():
    for make in (algorithms.feddf, algorithms.dsfl):
        with pytest.raises(FedSepError, match="zoo must name capabilities below 1"):
            make(network, public=public(), zoo={1.0: narrow_net(3)})
    with pytest.raises(FedSepError, match="per_round must be at most the 12 public examples"):
        algorithms.dsfl(network, public=public(), per_round=13)


def test_a_fleet_with_clients_that_no_model_fits_is_refused_before_a_run():
    federation = data.digits(clients=4, public=50)
    task = tasks.classification(models.mlp(federation.shape, federation.classes, hidden=(8,)))
    zoo = {0.5: models.mlp(federation.shape, federation.classes, hidden=(4,))}
    mine = algorithms.feddf(task, public=federation.public, zoo=zoo, server_steps=1)
    with pytest.raises(FedSepError, match="zoo must have a model for clients of capability"):
        fit(mine, task, federation, rounds=1, seed=0, cohort=Cohort(capabilities=(1.0, 0.25)))


def test_clients_of_several_architectures_are_not_evaluated_as_if_they_had_one():
    federation = data.digits(clients=4, public=50)
    task = tasks.classification(models.mlp(federation.shape, federation.classes, hidden=(8,)))
    zoo = {0.5: models.mlp(federation.shape, federation.classes, hidden=(4,))}
    for architectures in (zoo, None):
        mine = algorithms.dsfl(task, public=federation.public, zoo=architectures, per_round=20, distil_steps=1)
        if architectures:
            with pytest.raises(FedSepError, match="needs clients with the model of the recipe"):
                fit(mine, task, federation, rounds=1, evaluate=Evaluate(every=1, clients=True))
        else:
            run = fit(mine, task, federation, rounds=1, evaluate=Evaluate(every=1, clients=True))
            assert "client_accuracy_after" in run.summary["metrics"]


def test_a_check_takes_no_more_than_a_step():
    for make in (algorithms.feddf, algorithms.fedet):
        assert findings(make(network, public=public(), server_steps=10**9), network.init()) == []
    assert findings(algorithms.dsfl(network, public=public(), per_round=5, distil_steps=10**9), network.init()) == []


def test_updates_may_come_one_at_a_time():
    """A generator will do."""
    server = algorithms.feddf(network, public=public(), server_steps=2, **LOCAL).server
    x = {"1": network.init()}
    changes = [Update({"1": tree.scale(network.init(), 0.1 * n)}) for n in range(1, 4)]
    listed, streamed = (server.step(x, updates, server.init(x))[0]["1"] for updates in (changes, iter(changes)))
    assert all(torch.equal(listed[name], streamed[name]) for name in listed)
