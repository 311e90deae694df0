"""Methods that do not suit their clients are refused before any work; static statistics in evaluation."""

import dataclasses
import functools

import pytest
import torch

from fedsep import algorithms, data, models, tasks
from fedsep.calibrating import batches
from fedsep.core import FedSepError, Samples, Shard
from fedsep.gates import gate_scores
from fedsep.models.calibration import calibrated
from fedsep.serving import of_fleet
from fedsep.train import Cohort, Evaluate, fit
from fedsep.zoo import outputs


@pytest.fixture(scope="module")
def federation():
    return data.digits(clients=7, validation=100)


def task_of(federation, norm="static", groups=1):
    module = models.resnet(federation.shape, federation.classes, blocks=(1,), width=4, norm=norm, groups=groups)
    return tasks.classification(module, shape=federation.shape)


def ran(federation, task, method=algorithms.heterofl, evaluate=Evaluate(), capabilities=(1.0, 0.5), **local):
    made = method(task, **{"steps": 1, "batch_size": 16, **local})
    return fit(made, task, federation, rounds=1, cohort=Cohort(2, capabilities), evaluate=evaluate)


@pytest.mark.parametrize("batch_size", [1, "left over"])
@pytest.mark.parametrize("method", [algorithms.fedavg, algorithms.heterofl, algorithms.fjord])
def test_a_minibatch_of_one_under_static_normalisation_is_refused(federation, batch_size, method):
    size = federation.shard(0).train.size
    with pytest.raises(FedSepError, match=r"batch_size must leave no minibatch of one.*client \d has"):
        ran(federation, task_of(federation), method, batch_size=size - 1 if batch_size == "left over" else 1)
    ran(federation, task_of(federation, "group"), method, batch_size=1)


@pytest.mark.parametrize(("method", "options", "told"), [
    (algorithms.heterofl, {}, r"\(and 2 more\) has 4 groups, .* the 2 channels of 4 that a client of capability 0.5"),
    (algorithms.splitmix, {"blocks": 2}, "the 2 channels of 2 that each of blocks=2 keeps for a client of"),
    (algorithms.homogeneous, {"width": 0.5}, "the 2 channels of 2 that every client holds"),
])  # fmt: skip
def test_groups_that_a_slice_breaks_are_told_with_what_makes_it(federation, method, options, told):
    with pytest.raises(FedSepError, match=told):
        ran(federation, task_of(federation, "group", groups=4), method, **options)


def test_a_minibatch_of_one_is_refused_where_each_is_normalised_by_itself(federation):
    size = federation.shard(0).train.size
    layers = (torch.nn.Flatten(), torch.nn.Linear(64, 4), torch.nn.BatchNorm1d(4, track_running_stats=False))
    task = tasks.classification(torch.nn.Sequential(*layers, torch.nn.Linear(4, 10)))
    with pytest.raises(FedSepError, match=r"no minibatch of one example, since the model has batch normalisation"):
        ran(federation, task, algorithms.fedavg, batch_size=size - 1, capabilities=(1.0,))
    ran(federation, task, algorithms.fedavg, capabilities=(1.0,))


def zoo_of(federation, norm="none"):
    """For clients of 1/2, with a head as wide as that of the others."""
    return {0.5: models.resnet(federation.shape, federation.classes, blocks=(1,), width=2, norm=norm, features=4)}


def public_of(federation, count=20):
    """Images that nobody has: some upside down."""
    return federation.test._replace(x=federation.test.x[:count].flip(-2), y=federation.test.y[:count])


@dataclasses.dataclass(frozen=True)
class Own:
    """A user's fleet: clients' data of their own, and none of the server's."""

    shards: tuple
    validation: None = None
    test: None = None

    @property
    def clients(self):
        return len(self.shards)

    def shard(self, client):
        return self.shards[client]


DISTILLED = {
    "feddf": {"server_steps": 9, "server_batch_size": 10},
    "fedet": {"server_steps": 9, "server_batch_size": 10},
    "dsfl": {"per_round": 20, "distil_steps": 3, "distil_batch_size": 10},
}


@pytest.mark.parametrize("name", list(DISTILLED))
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_public_examples_that_are_private_or_tested_on_are_refused(federation, name, part):
    task, mine = task_of(federation, "group"), public_of(federation)
    mine.x[[3, 7]] = getattr(federation, part).x[[1, 2]]
    method = getattr(algorithms, name)(task, public=mine, **DISTILLED[name], steps=1, batch_size=16)
    told = (
        r"public must have nothing in common .*got the method's public examples, with 2 of its 20 examples among them"
    )
    with pytest.raises(FedSepError, match=told) as refused:
        fit(method, task, federation, rounds=1)
    assert str(refused.value).count("nothing in common") == 1  # codec and server hold one pool
    fleet = Own(tuple(federation.shard(client) for client in range(7)))
    if part == "train":
        with pytest.raises(FedSepError, match=told.replace("the method's public", ".*")):
            fit(method, task, fleet, rounds=1)


def test_they_are_compared_as_models_see_them_where_they_are_stored_otherwise(federation):
    task, mine = task_of(federation, "group"), federation.validation.all()
    method = algorithms.feddf(task, public=Samples(mine.x, mine.y), server_steps=1, steps=1)
    with pytest.raises(FedSepError, match="with 100 of its 100 examples among them"):
        fit(method, task, federation, rounds=1)


def test_what_a_federation_has_set_apart_itself_is_not_hashed_again(monkeypatch):
    split = data.digits(clients=4, public=30)
    task = task_of(split, "group")
    method = algorithms.feddf(task, public=split.public, server_steps=1, steps=1)
    monkeypatch.setattr("fedsep.data.public.blake2b", None)
    fit(method, task, split, rounds=1)


@pytest.mark.parametrize("name", list(DISTILLED))
@pytest.mark.parametrize("draw", ["dynamic", "fixed", "ordered"])
def test_minibatches_are_those_of_every_model_that_a_client_may_have(federation, name, draw):
    """Only clients of 1/2 have static normalisation; in a set order, client 0 is not one of them."""
    public, method = public_of(federation), getattr(algorithms, name)
    task, zoo = task_of(federation, "group"), zoo_of(federation, "static")
    cohort = Cohort(2, (1.0, 0.5), draw=draw)
    weak = next(c for c in range(7) if draw == "dynamic" or cohort.capability(0, 0, [c], 7) == [0.5])
    size = federation.shard(weak).train.size - 1

    def run(batch_size):
        made = method(task, public=public, zoo=zoo, **DISTILLED[name], steps=1, batch_size=batch_size)
        return fit(made, task, federation, rounds=1, cohort=cohort)

    told = rf"^batch_size must .* model of capability 0.5 has batch .*got {size}; client {weak} has {size + 1}"
    with pytest.raises(FedSepError, match=told):
        run(size)
    run(16)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("feddf", {"server_batch_size": 1}, "server_batch_size must leave no .* capability 0.5 has .*got 1; "),
        ("feddf", {"server_batch_size": 19}, r"server_batch_size must .*got 19; public examples met: 20"),
        ("feddf", {"server_batch_size": 19, "server_steps": 1}, None),
        ("fedet", {"server_batch_size": 1, "server_steps": 1}, "server_batch_size must leave .* capability 0.5 has"),
        ("fedet", {"server_batch_size": 19}, None),  # the server's own model has group normalisation
        ("dsfl", {"distil_batch_size": 19}, r"distil_batch_size must .*got 19; per_round: 20"),
        ("dsfl", {"distil_batch_size": 19, "distil_steps": 1}, None),
        ("dsfl", {"per_round": 1}, "per_round must be >= 2, since the model of capability 0.5 has"),
        ("dsfl", {"per_round": 11, "distil_batch_size": 5, "distil_steps": 2}, None),
    ],
)
def test_public_minibatches_of_one_under_static_normalisation_are_refused(federation, name, change, told):
    task, public = task_of(federation, "group"), public_of(federation)
    arguments = {**DISTILLED[name], **change, "steps": 1, "batch_size": 16}
    method = getattr(algorithms, name)(task, public=public, zoo=zoo_of(federation, "static"), **arguments)

    def run():
        return fit(method, task, federation, rounds=2, cohort=Cohort(3, (1.0, 0.5)))

    if told is None:
        assert run().metrics[-1]["replies"] == 3
        return
    with pytest.raises(FedSepError, match=told):
        run()
    plain = getattr(algorithms, name)(task, public=public, zoo=zoo_of(federation), **arguments)
    fit(plain, task, federation, rounds=1, cohort=Cohort(2, (1.0, 0.5)))


def test_the_servers_own_model_takes_minibatches_too(federation):
    public, task = public_of(federation), task_of(federation)
    for name, told in (("fedet", "server_batch_size"), ("dsfl", "distil_batch_size")):
        steps = {"dsfl": {"distil_steps": 0, "server_steps": 2}}.get(name, {})
        method = getattr(algorithms, name)(task, public=public, **{**DISTILLED[name], told: 19, **steps}, batch_size=16)
        with pytest.raises(FedSepError, match=f"{told} must leave .*the server's model has batch"):
            fit(method, task, federation, rounds=1, cohort=Cohort(2))


def test_public_examples_are_labelled_in_pieces_of_one_size(federation, monkeypatch):
    """501 in one pass rather than 500 and one, of which there are no statistics."""
    task, seen = task_of(federation), []
    samples = federation.train
    monkeypatch.setattr(type(task), "predict", lambda own, params, x: seen.append(len(x)) or x.flatten(1)[:, :3])
    assert len(outputs(task, task.init(), samples, torch.arange(501))) == 501
    assert len(outputs(task, task.init(), samples, torch.arange(1001))) == 1001
    assert seen == [501, 501, 500]


def test_statistics_of_one_example_are_refused(federation):
    with pytest.raises(FedSepError, match=r"evaluate\.calibration must be >= 2, since .*got 1"):
        ran(federation, task_of(federation), evaluate=Evaluate(calibration=1))
    ran(federation, task_of(federation), evaluate=Evaluate(calibration=2))
    ran(federation, task_of(federation), evaluate=Evaluate(calibration=1, statistics="testbatch"))
    ran(federation, task_of(federation, "group"), evaluate=Evaluate(calibration=1))


@pytest.mark.parametrize(("method", "more"), [
    (algorithms.fedsep_mask, {"terms": "both"}),
    (algorithms.fedsep_mask, {"scores": "taylor"}),
    (algorithms.fedsep_shared, {"scores": "activation"}),
], ids=["second term", "taylor", "activation"])  # fmt: skip
def test_scores_of_one_image_under_static_normalisation_are_refused(federation, method, more):
    with pytest.raises(FedSepError, match=r"images must be >= 2 where units are scored, since .*got 1"):
        ran(federation, task_of(federation), method, images=1, **more)
    ran(federation, task_of(federation), method, images=2, **more)
    ran(federation, task_of(federation, "group"), method, images=1, **more)


def test_gates_need_no_images(federation):
    ran(federation, task_of(federation), algorithms.fedsep_mask, images=1)


def test_gates_that_are_fitted_to_one_validation_example_are_refused(federation):
    class One(type(federation)):
        def shard(self, client):
            shard = super().shard(client)
            one = shard.validation._replace(x=shard.validation.x[:1], y=shard.validation.y[:1])
            return Shard(shard.train, one if client == 3 else shard.validation, shard.test)

    fleet = One(**{field.name: getattr(federation, field.name) for field in dataclasses.fields(federation)})
    for norm in ("static", "group"):
        task = task_of(federation, norm)
        scores = functools.partial(gate_scores, steps=2, data="validation")
        if norm == "static":
            with pytest.raises(FedSepError, match=r"two validation examples of a client or more.*one of client 3"):
                ran(fleet, task, algorithms.fedsep_mask, scores=scores)
        else:
            ran(fleet, task, algorithms.fedsep_mask, scores=scores)


def test_a_width_that_breaks_group_normalisation_is_refused(federation):
    task = task_of(federation, "group", groups=2)
    with pytest.raises(FedSepError, match=r"norm1.* has 2 groups, which do not divide the 1 channels of 4"):
        ran(federation, task, capabilities=(1.0, 0.25))
    ran(federation, task, capabilities=(1.0, 0.5))
    ran(federation, task, algorithms.exclude, capabilities=(1.0, 0.25))  # the weak ones hold nothing
    ran(federation, task, algorithms.fedavg, capabilities=(1.0, 0.25))


def test_a_width_of_fjord_that_breaks_group_normalisation_is_refused(federation):
    task = task_of(federation, "group", groups=2)
    with pytest.raises(FedSepError, match=r"norm1.* has 2 groups, .* the 1 channels of 4 that widths=0.25 trains"):
        ran(federation, task, algorithms.fjord, capabilities=(1.0, 0.5), widths=(0.25, 0.5, 1.0))
    with pytest.raises(FedSepError, match=r"widths=0\.25 trains"):
        ran(federation, task, algorithms.fjord, widths=(0.25,), reduce="importance")
    ran(federation, task, algorithms.fjord, capabilities=(1.0, 0.5), widths=(0.5, 1.0))
    ran(federation, task, algorithms.fjord, capabilities=(0.5,), widths=(0.5, 0.75))  # which nobody draws


@pytest.mark.parametrize("capability", [0.0, 1.5, float("nan"), -1.0])
def test_a_capability_that_is_none_is_refused(federation, capability):
    with pytest.raises(FedSepError, match=r"cohort.capabilities must be"):
        ran(federation, task_of(federation), capabilities=(1.0, capability))


def test_static_statistics_are_measured_on_training_data_of_all_clients(federation):
    task = task_of(federation)
    run = ran(federation, task, evaluate=Evaluate(calibration=300))
    params = calibrated(task.model, run.params, of_fleet(federation, 300))
    accuracy = task.metrics(task.predict(params, federation.test.all().x), federation.test.y)
    assert run.metrics[-1]["test_loss"] == pytest.approx(accuracy["loss"])
    other = ran(federation, task, evaluate=Evaluate(statistics="testbatch"))
    assert other.metrics[-1]["test_loss"] != run.metrics[-1]["test_loss"]
    assert all(torch.equal(run.params[name], other.params[name]) for name in run.params)
    assert run.params.keys() == task.init().keys()


def test_calibration_takes_as_many_from_each_client_in_batches_of_about_one_size(federation):
    assert sum(len(x) for x in of_fleet(federation, 300)) == 301  # 43 of each of 7
    assert [len(x) for x in batches(torch.zeros(1300, 1))] == [434, 433, 433]
    assert len(batches(torch.zeros(30, 1))) == 1
    few = of_fleet(federation, 3)
    assert sum(len(x) for x in few) == 4  # every second client


def test_an_ensemble_is_calibrated_block_by_block(federation):
    task = task_of(federation)
    run = ran(federation, task, algorithms.splitmix, blocks=2, evaluate=Evaluate(calibration=300))
    own = algorithms.splitmix(task, blocks=2).task
    params = own.calibrated(run.params, of_fleet(federation, 300))
    assert any(name.startswith("1.") and name.endswith(".variance") for name in params)
    loss = task.metrics(own.predict(params, federation.test.all().x), federation.test.y)["loss"]
    assert run.metrics[-1]["test_loss"] == pytest.approx(loss)


def test_local_models_are_evaluated_with_statistics_of_their_own_data(federation):
    task = task_of(federation)
    run = ran(federation, task, evaluate=Evaluate(clients=True))
    assert 0 <= run.metrics[-1]["client_accuracy_after"] <= 1
