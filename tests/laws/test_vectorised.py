"""Law: ``vectorised`` plays the round of ``sequential``: the same payload bytes, and the same numbers in float64."""

import dataclasses
import logging
import sys
import weakref

import pytest
import torch
from catalogue import CATALOGUE, HIDDEN, Row, Tiny, linear, name, network, shards

from fedsep import algorithms, data, engines, models, random, tree
from fedsep.core import Ctx, Decoded, Failure, FedSepError, Invitation, Samples, Shard
from fedsep.data.dealt import Dealt
from fedsep.engines.room import COPIES, kept
from fedsep.learners import crop_and_flip, sgd
from fedsep.learners.together import Together
from fedsep.tasks.classification import Classification
from fedsep.tasks.pure import pure


class Fleet:
    """Four clients, two of each size, and the images to be evaluated on; ``task`` says what targets are like."""

    def __init__(self, task, sizes=(6, 6, 8, 8)):
        self.parts = [
            Shard(Samples(*(part[:size] for part in both))) for size, both in zip(sizes, self.data(task), strict=False)
        ]
        self.clients = len(sizes)
        self.test = self.parts[0].train

    def data(self, task):
        return [shard.train[:2] for shard in shards(task, 4)]

    def shard(self, client):
        return self.parts[client]


def rounds(engine, algorithm, task, fleet, count=2):
    """What every client replies in every round, with losses, and the server's model at the end."""
    memories = {}
    session = engine.open(algorithm, task, fleet, lambda client, seen: memories.get((client, seen)))
    state, told = algorithm.init(task.init()), []
    for number in range(count):
        key = random.fold(random.key(3), number)
        cohort = [Invitation(c, Ctx(number, 1.0, random.fold(key, c), number - 1)) for c in range(fleet.clients)]
        outcomes = list(session.round(state, cohort))
        assert not any(isinstance(outcome, Failure) for outcome in outcomes), outcomes
        for reply, memory in outcomes:
            memories[reply.client, number] = memory
            told.append((reply.client, tree.nbytes(reply.payload), reply.payload, numbers(memory), reply.info))
        state, _ = algorithm.aggregate(state, [reply for reply, _ in outcomes])
    outputs = session.predict(algorithm.model(state), "test")
    session.close()
    return told, algorithm.model(state), outputs


def numbers(memory):
    """A memory without digests of what was sent: of numbers that differ by rounding they are others."""
    if isinstance(memory, dict):
        return {key: numbers(part) for key, part in memory.items() if key != "digest"}
    return type(memory)(*map(numbers, memory)) if hasattr(memory, "_fields") else memory


def near(expected, got):
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("row", CATALOGUE, ids=name)
def test_a_round_is_that_of_sequential(row: Row, caplog):
    algorithm, fleet = row.build(), Fleet(row.base or row.task)
    with caplog.at_level(logging.WARNING, "fedsep"):
        vectorised = rounds(engines.vectorised(chunk=3), algorithm, row.task, fleet)
    stacked = hasattr(algorithm.learner, "learn_together")
    assert len(caplog.records) == (0 if stacked else 1), caplog.text  # what runs one by one says so
    for reference, got in zip(rounds(engines.sequential(), algorithm, row.task, fleet), vectorised, strict=True):
        near(reference, got)


class Counting:
    """A task that says how many clients its loss was asked for at once."""

    def __init__(self):
        self.asked = []

    def __getattr__(self, attribute):
        return getattr(network, attribute)

    def loss(self, params, batch):
        self.asked.append(torch._C._functorch.is_batchedtensor(params["0.weight"]))
        return network.loss(params, batch)


def test_the_local_steps_are_stacked_and_nothing_else_is():
    task = Counting()
    list(rounds(engines.vectorised(), algorithms.fedavg(task, steps=3, batch_size=4), task, Fleet(task), 1))
    assert task.asked == [True] * 6  # two sizes of shards, three steps


class Bare:
    """Six functions without axes."""

    def __init__(self):
        self.whole = algorithms.fedavg(linear, steps=2, batch_size=4)

    def __getattr__(self, attribute):
        if attribute in ("begin", "finish"):
            raise AttributeError(attribute)
        return getattr(self.whole, attribute)


def test_what_cannot_be_stacked_runs_one_by_one_and_says_so(caplog):
    fleet = Fleet(linear)
    expected = rounds(engines.sequential(), Bare(), linear, fleet)
    with caplog.at_level(logging.WARNING, "fedsep"):
        near(expected, rounds(engines.vectorised(), Bare(), linear, fleet))
    [record] = caplog.records  # once, not every round
    assert "one by one: Bare is not made of decode, learn and encode" in record.getMessage()


class Unstackable(Counting):
    """A loss that looks at the numbers."""

    def loss(self, params, batch):
        float(params["0.weight"].detach().sum())
        return network.loss(params, batch)


def test_a_loss_that_vmap_does_not_take_runs_one_by_one_and_says_so(caplog):
    task = Unstackable()
    method = algorithms.fedavg(task, steps=2, batch_size=4)
    with caplog.at_level(logging.WARNING, "fedsep"):
        got = rounds(engines.vectorised(), method, task, Fleet(task))
    near(rounds(engines.sequential(), method, task, Fleet(task)), got)
    [record] = caplog.records
    assert "cannot be stacked" in record.getMessage()


def test_a_client_that_fails_before_its_steps_fails_alone():
    class Torn(Fleet):
        def shard(self, client):
            if client == 1:
                raise OSError("the disk is gone")
            return super().shard(client)

    session = engines.vectorised().open(method := algorithms.fedavg(network), network, Torn(network), lambda *_: None)
    cohort = [Invitation(client, Ctx(0, 1.0, random.key(client))) for client in range(4)]
    outcomes = list(session.round(method.init(network.init()), cohort))
    session.close()
    assert [isinstance(outcome, Failure) for outcome in outcomes] == [False, True, False, False]
    assert (outcomes[1].client, outcomes[1].stage) == (1, "data")


def test_clients_with_other_numbers_of_examples_are_stacked_as_far_as_their_minibatches_agree(caplog):
    task = Counting()
    algorithm, fleet = algorithms.fedavg(task, steps=2, batch_size=3), Fleet(task, sizes=(6, 7, 8, 8))
    with caplog.at_level(logging.WARNING, "fedsep"):
        together = rounds(engines.vectorised(), algorithm, task, fleet)
    assert len(task.asked) == 4  # all four clients at once: two steps in each of two rounds
    assert not caplog.records
    near(rounds(engines.sequential(), algorithm, task, fleet), together)


def test_clients_who_are_alike_with_nobody_are_told_of_once(caplog):
    algorithm, fleet = algorithms.fedavg(network, epochs=1, batch_size=3), Fleet(network, sizes=(5, 6, 7, 8))
    with caplog.at_level(logging.WARNING, "fedsep"):
        rounds(engines.vectorised(), algorithm, network, fleet)
    [record] = caplog.records
    assert "4 of 4 clients are alone" in record.getMessage()


def cramped(fits, error=None):
    """FedAvg on a device that takes so many clients at once."""
    error = error or torch.OutOfMemoryError("too many")
    method = sgd(network, steps=2, batch_size=4)

    class Small(type(method)):
        def learn_together(self, starts, shards, ctxs):
            if len(starts) > fits:
                raise error
            return super().learn_together(starts, shards, ctxs)

    learner = Small(**{f.name: getattr(method, f.name) for f in dataclasses.fields(method)})
    return dataclasses.replace(algorithms.fedavg(network), learner=learner)


@pytest.mark.parametrize(("clients", "fits"), [(8, 1), (8, 3), (300, 64), (130, 128)])
def test_memory_that_runs_out_makes_chunks_smaller_and_loses_nobody(clients, fits, caplog):
    algorithm, fleet = cramped(fits), Fleet(network)
    fleet.parts, fleet.clients = [fleet.parts[0]] * clients, clients
    with caplog.at_level(logging.WARNING, "fedsep"):
        got = rounds(engines.vectorised(), algorithm, network, fleet, 1)
    assert [client for client, *_ in got[0]] == list(range(clients))
    near(rounds(engines.sequential(), algorithm, network, fleet, 1), got)
    assert ("do not fit the device's memory together" in caplog.text) == (min(clients, 128) > fits)


def test_a_processor_s_memory_that_runs_out_makes_chunks_smaller_too():
    error = RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
    algorithm, fleet = cramped(1, error), Fleet(network)
    near(
        rounds(engines.sequential(), algorithm, network, fleet), rounds(engines.vectorised(), algorithm, network, fleet)
    )


@pytest.mark.parametrize(("clients", "fits"), [(2, 1), (8, 5), (8, 7)])
def test_a_chunk_that_was_asked_for_and_does_not_fit_is_refused_with_the_largest_that_does(clients, fits):
    fleet = Fleet(network)
    fleet.parts, fleet.clients = [fleet.parts[0]] * clients, clients
    with pytest.raises(
        FedSepError, match=rf"engine.chunk: {clients} clients do not fit .* the most that do are {fits}"
    ):
        rounds(engines.vectorised(chunk=clients), cramped(fits), network, fleet)


@pytest.fixture
def scarce(monkeypatch):
    """A processor with memory for so many clients of the network, of six images each in minibatches of four."""

    def with_room(clients, *, surely=False):
        batch = few()
        each = COPIES * tree.nbytes(network.init()) + tree.nbytes([batch.x, batch.y])
        each += (1 if surely else 2) * kept(network, network.init(), batch)
        free = int(each * clients / (1 if surely else 0.9))
        monkeypatch.setattr("fedsep.engines.room.free_memory", lambda: free)

    return with_room


def few():
    return shards(network)[0].train.take(torch.arange(4))


@pytest.mark.parametrize(("clients", "fits"), [(8, 1.5), (8, 3.5), (300, 64.5)])
def test_on_a_processor_chunks_are_as_large_as_fits_from_the_first_on(clients, fits, scarce, caplog):
    algorithm, fleet = cramped(int(fits), AssertionError("more than fit were tried")), Fleet(network)
    fleet.parts, fleet.clients = [fleet.parts[0]] * clients, clients
    scarce(fits)
    with caplog.at_level(logging.WARNING, "fedsep"):
        got = rounds(engines.vectorised(), algorithm, network, fleet, 1)
    assert f"do not fit the device's memory together: now {int(fits)}" in caplog.text
    near(rounds(engines.sequential(), algorithm, network, fleet, 1), got)


@pytest.mark.parametrize(("chunk", "fits"), [(2, 1), (8, 5), (8, 7)])
def test_on_a_processor_a_chunk_that_does_not_fit_is_refused_before_it_is_tried(chunk, fits, scarce):
    fleet = Fleet(network)
    fleet.parts, fleet.clients = [fleet.parts[0]] * 8, 8
    algorithm = cramped(fits, AssertionError("tried"))
    scarce(fits + 0.5, surely=True)
    with pytest.raises(FedSepError, match=rf"engine.chunk: {chunk} clients do not fit .* the most that do are {fits}"):
        rounds(engines.vectorised(chunk=chunk), algorithm, network, fleet)
    rounds(engines.vectorised(chunk=fits), algorithm, network, fleet)


def test_what_a_loss_keeps_is_counted_once_and_without_parameters_and_data():
    class Kept(Tiny):
        def loss(self, params, batch):
            hidden = (batch.x @ params["0.weight"].T).tanh()  # keeps x, the weight, and its result
            return (hidden * hidden).sum()  # keeps it twice

    assert kept(Kept(), network.init(), few()) == 4 * HIDDEN * 8
    assert kept(None, network.init(), few()) == 0


def test_what_a_loss_keeps_is_let_go():
    class Noted(Tiny):
        def loss(self, params, batch):
            hidden = (batch.x @ params["0.weight"].T).tanh()
            noted.append(weakref.ref(hidden))
            return hidden.square().sum()

    noted = []
    kept(Noted(), network.init(), few())
    assert noted[0]() is None


def test_a_client_that_does_not_fit_alone_is_refused():
    with pytest.raises(FedSepError, match="one client does not fit the device's memory: use a smaller batch_size"):
        rounds(engines.vectorised(), cramped(0), network, Fleet(network))


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(FedSepError, match=r"engine.device: no_such_thing cannot be used here"):
        engines.vectorised(device="no_such_thing").open(None, None, None, None)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.5, "weight_decay": 0.1}, {"clip": 0.05}, {"proximal": 0.7}])
def test_stacked_steps_under_projections_and_penalties_are_those_of_each_client(options):
    learner = sgd(network, steps=3, batch_size=4, lr=0.3, **options)
    ctxs = [Ctx(2, 1.0, random.key(client)) for client in range(3)]
    parts = [Shard(Samples(*(part[:6] for part in shard.train[:2]))) for shard in shards(network, 3)]
    starts = [
        Decoded(
            tree.scale(network.init(), 1.0 + client),
            project=lambda y, most=0.2 * client: {name: part.clamp(-1, most) for name, part in y.items()},
            penalty=None if client == 1 else lambda y, size=client: (0.1 + size) * tree.dot(y, y),
        )
        for client in range(3)
    ]
    for own, *each in zip(learner.learn_together(starts, parts, ctxs), starts, parts, ctxs, strict=True):
        near(learner.learn(*each), own)


def images(**options):
    """A federation of images, whose inputs are bytes, with parts of the test set that overlap."""
    x = random.integers(random.key(0), 256, 60, 1, 4, 4).to(torch.uint8)
    y = torch.arange(60) % 3
    return data.arrays(x, y, x_test=x[:4], y_test=torch.tensor([0, 1, 2, 0]), clients=5, **options)


def classifier(kind, hidden=(6,)):
    return kind(pure(models.mlp((1, 4, 4), 3, hidden=hidden)))


def told(monkeypatch):
    """What is given to the quick way of a classification, and what comes of it."""
    seen, quick = [], Classification.gradients_together

    def gradients(self, params, batch):
        found = quick(self, params, batch)
        seen.append(found and found[0])
        return found

    monkeypatch.setattr(Classification, "gradients_together", gradients)
    return seen


@pytest.mark.parametrize("options", [{}, {"momentum": 0.5}, {"clip": 0.1, "proximal": 0.3}])
@pytest.mark.parametrize("hidden", [(), (6, 5)], ids=["logistic", "mlp"])
def test_chains_take_their_quick_way_and_the_steps_are_those_of_sequential(hidden, options, monkeypatch):
    seen, fleet, task = told(monkeypatch), images(), classifier(Classification, hidden)
    prox = {"mu": options["proximal"]} if "proximal" in options else {}
    make = algorithms.fedprox if prox else algorithms.fedavg
    others = {name: value for name, value in options.items() if name != "proximal"}
    method = make(task, steps=3, batch_size=5, **others, **prox)
    got = rounds(engines.vectorised(), method, task, fleet)
    assert len(seen) == 6
    assert all(losses.shape == (5,) for losses in seen)  # all five clients at once
    near(rounds(engines.sequential(), method, task, fleet), got)


class Halved(Classification):
    """Another loss of one's own, which inherits the quick way to the old one."""

    def criterion(self, outputs, targets):
        return super().criterion(outputs, targets) / 2


class Passing:
    """A task around another, which passes on what it does not say."""

    def __init__(self, model):
        self.task = Classification(model)

    def __getattr__(self, name):
        return getattr(self.task, name)

    def loss(self, params, batch):
        return self.task.loss(params, batch) / 2


def own_loss(model):
    task = Classification(model)
    object.__setattr__(task, "loss", lambda params, batch: Classification.loss(task, params, batch) / 2)
    return task


@pytest.mark.parametrize("kind", [Halved, Passing, own_loss])
def test_a_task_with_another_loss_keeps_it(kind, monkeypatch):
    seen, fleet, task = told(monkeypatch), images(), classifier(kind)
    method = algorithms.fedavg(task, steps=2, batch_size=5)
    near(rounds(engines.sequential(), method, task, fleet), rounds(engines.vectorised(), method, task, fleet))
    assert not seen


def test_local_steps_in_bfloat16_do_not_take_the_quick_way_in_float32(monkeypatch):
    torch.set_default_dtype(torch.float32)
    seen, fleet, task = told(monkeypatch), images(), classifier(Classification)
    method = algorithms.fedavg(task, steps=2, batch_size=5, precision="bfloat16")
    rounds(engines.vectorised(), method, task, fleet)
    assert not seen


def batches_of(monkeypatch, method, task, fleet):
    """The inputs of the stacked minibatches of a round, and of what kind the training set was that they came from."""
    seen, kinds = [], []
    gradients, ready = Together.gradients, fleet.ready

    def noted(self, task, y, batch):
        seen.append(batch.x.clone())
        return gradients(self, task, y, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Together, "gradients", noted)
        patch.setattr(type(fleet), "ready", lambda self: kinds.append("floats") or ready())
        rounds(engines.vectorised(), method, task, fleet, 1)
    return seen, kinds


def test_training_images_are_made_floats_once_where_they_are_few_and_the_bits_are_the_same(monkeypatch):
    fleet, task = images(), classifier(Classification)
    method = algorithms.fedavg(task, steps=3, batch_size=5)
    ready, kinds = batches_of(monkeypatch, method, task, fleet)
    assert kinds == ["floats"]
    monkeypatch.setattr(sys.modules["fedsep.engines.vectorised"], "_READY_BYTES", 8 * 60 * 16 - 1)
    stored, kinds = batches_of(monkeypatch, method, task, fleet)
    assert not kinds
    assert len(ready) == 3
    assert all(map(torch.equal, ready, stored))


def test_images_that_are_augmented_stay_as_they_are_stored(monkeypatch):
    fleet, task = images(), classifier(Classification)
    method = algorithms.fedavg(task, steps=2, batch_size=5, augment=crop_and_flip(padding=1))
    _, kinds = batches_of(monkeypatch, method, task, fleet)
    assert not kinds
    near(rounds(engines.sequential(), method, task, fleet), rounds(engines.vectorised(), method, task, fleet))


@pytest.mark.parametrize("options", [{}, {"momentum": 0.5}, {"proximal": 0.3, "clip": 0.1}])
@pytest.mark.parametrize("alike", [True, False])
def test_local_steps_do_not_write_to_what_clients_start_from(alike, options):
    learner, y = sgd(network, steps=3, batch_size=4, **options), network.init()
    other = y if alike else tree.scale(y, 2.0)
    starts = [Decoded(y), Decoded(other)]
    learner.learn_together(starts, shards(network, 1) * 2, [Ctx(0, 1.0, random.key(c)) for c in range(2)])
    assert all(map(torch.equal, y.values(), network.init().values()))
    assert alike or all(map(torch.equal, other.values(), tree.scale(network.init(), 2.0).values()))


def test_what_is_learned_from_a_start_that_is_transposed_is_settled():
    y = {name: part.mT.contiguous().mT if part.ndim == 2 else part for name, part in network.init().items()}
    ctxs = [Ctx(0, 1.0, random.key(client)) for client in range(3)]
    for own, _ in sgd(network, steps=1, batch_size=4).learn_together([Decoded(y)] * 3, shards(network, 1) * 3, ctxs):
        assert all(part.is_contiguous() and part.data_ptr() % 64 == 0 for part in own.values())


def test_a_client_whose_labels_no_model_knows_fails_alone():
    fleet, task = images(), classifier(Classification)
    fleet.train.y[:1] = 7
    method = algorithms.fedavg(task, steps=2, batch_size=None)
    session = engines.vectorised().open(method, task, fleet, lambda *_: None)
    cohort = [Invitation(client, Ctx(0, 1.0, random.key(client))) for client in range(5)]
    outcomes = list(session.round(method.init(task.init()), cohort))
    session.close()
    assert [isinstance(outcome, Failure) for outcome in outcomes] == [True, False, False, False, False]
    assert outcomes[0].stage == "learn"


def test_targets_that_torch_ignores_are_ignored():
    fleet, task = images(), classifier(Classification)
    fleet.train.y[::4] = -100
    method = algorithms.fedavg(task, steps=2, batch_size=None)
    near(rounds(engines.sequential(), method, task, fleet), rounds(engines.vectorised(), method, task, fleet))


def test_training_images_that_no_client_has_count_where_floats_are_kept():
    few = images(partition=data.sizes([4] * 5))
    assert len(few.train.x) == 20
    assert len(few.dealt[0].x) == 60
    engine = sys.modules["fedsep.engines.vectorised"]
    method = algorithms.fedavg(classifier(Classification), steps=1)
    assert engine._ready(few, method).train.x.dtype == torch.float64
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_READY_BYTES", 8 * 20 * 16)
        assert engine._ready(few, method) is few


def test_a_federation_of_another_kind_is_left_as_it_is():
    class Inverse(data.Federation):
        def shard(self, client):
            shard = super().shard(client)
            return shard.with_train(shard.train._replace(x=255 - shard.train.x))

    base = images()
    fleet = Inverse(**{each.name: getattr(base, each.name) for each in dataclasses.fields(base)})
    task = classifier(Classification)
    method = algorithms.fedavg(task, steps=2, batch_size=5)
    near(rounds(engines.sequential(), method, task, fleet), rounds(engines.vectorised(), method, task, fleet))


def test_a_round_gathers_no_test_part(monkeypatch):
    parts = []
    part = Dealt.part
    monkeypatch.setattr(Dealt, "part", lambda self, client: parts.append(self.index is not None) or part(self, client))
    fleet, task = images(), classifier(Classification)
    for engine in (engines.sequential(), engines.vectorised()):
        rounds(engine, algorithms.fedavg(task, steps=2, batch_size=5), task, fleet)
    assert parts
    assert not any(parts)  # of the test set, whose parts overlap


def test_shards_of_other_sizes_are_refused_by_the_learner():
    learner, parts = sgd(network, epochs=1, batch_size=4), shards(network, 2)
    with pytest.raises(FedSepError, match="minibatches of different sizes"):
        learner.learn_together([Decoded(network.init())] * 2, parts, [Ctx(0, 1.0, random.key(0))] * 2)
