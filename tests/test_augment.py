"""Augmentation: crops and mirror images by key, of the local steps' minibatches alone, the same on every engine."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from engines.toys import differences

from fedsep import algorithms, data, engines, fit, models, privacy, random, tasks
from fedsep.core import FedSepError, Samples
from fedsep.earlier import completed
from fedsep.learners import crop_and_flip, sgd
from fedsep.learners.augment import draws
from fedsep.learners.batches import minibatches, minibatches_together
from fedsep.paper.table1.scales import SCALES
from fedsep.recipes import build, from_tree
from fedsep.train import Cohort, Evaluate

KEY = random.key(3)
PIXELS = (random.uniform(random.key(1), 40, 3, 6, 5) * 255 + 1).to(torch.uint8)
SHIFT, SCALE = torch.tensor([100.0, 90.0, 80.0]).reshape(3, 1, 1), torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1)
STORED = Samples(PIXELS, torch.arange(40), SHIFT, SCALE)


def windows(image, padding, flip):
    """Every window of a padded image, each also mirrored, by place and mirroring."""
    padded = np.pad(image.numpy(), ((0, 0), (padding, padding), (padding, padding)))
    (height, width), found = image.shape[1:], {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + height, left : left + width]
            found[top, left, False] = crop
            if flip:
                found[top, left, True] = crop[:, :, ::-1]
    return found


@pytest.mark.parametrize(("padding", "flip"), [(2, True), (1, False), (0, True), (4, True)])
def test_an_image_becomes_the_window_that_its_bits_say(padding, flip):
    side = 2 * padding + 1
    bits = random.bits(KEY, 40)
    got = crop_and_flip(padding=padding, flip=flip)(PIXELS, bits)
    assert (got.dtype, got.shape) == (torch.uint8, PIXELS.shape)
    for image, drawn, made in zip(PIXELS, bits.tolist(), got, strict=True):
        number = ((drawn % 2**64 >> 32) * side * side * (2 if flip else 1)) >> 32
        place, mirrored = number % (side * side), number // (side * side)
        expected = windows(image, padding, flip)[place // side, place % side, bool(mirrored)]
        assert (made.numpy() == expected).all()


def test_every_window_is_as_likely():
    image = torch.arange(1, 7, dtype=torch.uint8).reshape(1, 1, 2, 3).expand(18_000, 1, 2, 3)
    made = crop_and_flip(padding=1)(image, random.bits(KEY, 18_000)).reshape(18_000, -1)
    counts = torch.unique(made, dim=0, return_counts=True)[1]
    assert len(counts) == 18  # no two windows are alike
    assert float(((counts - 1000.0) ** 2 / 1000).sum()) < 45  # chi-square of 17 degrees: once in 4,000


def test_an_image_does_not_depend_on_its_neighbours_and_each_step_draws_anew():
    augment, bits = crop_and_flip(padding=2), draws(KEY, 0, 40)
    assert torch.equal(augment(PIXELS, bits)[7:9], augment(PIXELS[7:9], bits[7:9]))
    assert torch.equal(bits, draws(KEY, 0, 40))
    assert not torch.equal(bits, draws(KEY, 1, 40))
    assert not torch.equal(bits, draws(random.key(4), 0, 40))
    keys = torch.stack([KEY, random.key(4)])
    assert torch.equal(draws(keys, 5, 40), torch.stack([draws(key, 5, 40) for key in keys]))


@pytest.mark.parametrize("size", [16, 40, None])
def test_minibatches_are_the_same_examples_augmented_before_they_are_normalised(size):
    augment = crop_and_flip(padding=2)
    plain, made = (list(minibatches(STORED, KEY, size, 5, each)) for each in (None, augment))
    bare = list(minibatches(STORED._replace(shift=None, scale=None), KEY, size, 5))
    for step, (one, other, stored) in enumerate(zip(plain, made, bare, strict=True)):
        assert torch.equal(one.y, other.y)
        pixels = augment(stored.x.to(torch.uint8), draws(KEY, step, len(one.y)))
        assert torch.equal(other.x, (pixels.double() - SHIFT) * SCALE)
        assert not torch.equal(one.x, other.x)
    assert made[0].x.amin((0, 2, 3)).tolist() == pytest.approx(
        [-10, -18, -24]
    )  # what is added is black: (0 - shift) * scale, not 0
    nothing = list(minibatches(STORED, KEY, size, 5, crop_and_flip(padding=0, flip=False)))
    assert all(torch.equal(one.x, other.x) for one, other in zip(plain, nothing, strict=True))


@pytest.mark.parametrize("size", [8, None])
@pytest.mark.parametrize("slices", [True, False])
def test_several_clients_minibatches_are_their_own(size, slices):
    parts = [STORED._replace(x=PIXELS[at : at + 20], y=STORED.y[at : at + 20]) for at in (0, 20)]
    if not slices:
        parts = [part._replace(x=part.x.clone(), y=part.y.clone()) for part in parts]
    keys, augment = torch.stack([KEY, random.key(4)]), crop_and_flip(padding=2)
    together = list(minibatches_together(parts, keys, size, 4, augment))
    for client, part in enumerate(parts):
        for one, both in zip(minibatches(part, keys[client], size, 4, augment), together, strict=True):
            assert torch.equal(one.x, both.x[client])
            assert torch.equal(one.y, both.y[client])


@pytest.fixture(scope="module")
def federation():
    return data.digits(clients=4, validation=60, public=40)


def task(federation, static=False):
    shape, classes = federation.shape, federation.classes
    made = models.resnet(shape, classes, width=4, blocks=[1]) if static else None
    module = made or models.small_cnn(shape, classes, widths=(4, 4), pool=1)
    return tasks.classification(module, shape=federation.shape)


LOCAL = {"steps": 3, "batch_size": 16, "lr": 0.1}


def test_a_run_is_the_same_on_every_engine(federation):
    problem = task(federation)
    method = algorithms.fedavg(problem, augment=crop_and_flip(padding=1), **LOCAL)
    runs = {
        name: fit(method, problem, federation, rounds=2, engine=engine).params
        for name, engine in {
            "sequential": engines.sequential(),
            "workers": engines.workers(processes=2),
            "vectorised": engines.vectorised(),
        }.items()
    }
    assert not differences(runs["sequential"], runs["workers"])
    torch.testing.assert_close(runs["vectorised"], runs["sequential"], rtol=1e-9, atol=1e-11)
    plain = fit(algorithms.fedavg(problem, **LOCAL), problem, federation, rounds=2, engine=engines.sequential()).params
    assert differences(runs["sequential"], plain)


class Counting:
    """An augmentation that counts whom it met."""

    def __init__(self):
        self.met = []

    def __call__(self, x, drawn):
        self.met.append(len(x))
        return x


@pytest.mark.parametrize("make", [
    algorithms.fedavg,
    algorithms.heterofl,
    algorithms.zerofl,
    algorithms.fjord,
    lambda task, **local: algorithms.fedsep_mask(task, images=20, **local),
    lambda task, **local: algorithms.feddst(task, every=1, readjust=0.2, until=2, **local),
], ids=["fedavg", "heterofl", "zerofl", "fjord", "fedsep_mask", "feddst"])  # fmt: skip
def test_only_local_steps_are_augmented(federation, make):
    problem, counting = task(federation, static=True), Counting()
    method = make(problem, augment=counting, **LOCAL)
    told = Evaluate(every=1, calibration=40, served=(1.0, 0.5), clients=False, held=0.5, average=0.5)
    done = fit(method, problem, federation, rounds=2, engine=engines.sequential(), evaluate=told)
    assert counting.met == [16] * (2 * 4 * 3)
    plain = fit(make(problem, **LOCAL), problem, federation, rounds=2, engine=engines.sequential(), evaluate=told)
    assert not differences(done.params, plain.params)


@pytest.mark.parametrize("method", [algorithms.feddf, algorithms.fedet, algorithms.dsfl])
def test_public_data_are_as_they_are(federation, method):
    problem, counting = task(federation), Counting()
    steps = {"distil_steps": 2, "per_round": 20} if method is algorithms.dsfl else {"server_steps": 2}
    made = method(problem, public=federation.public, augment=counting, **steps, **LOCAL)
    fit(made, problem, federation, rounds=2, engine=engines.sequential(), cohort=Cohort(per_round=2))
    assert counting.met == [16] * (2 * 2 * 3)


def test_what_is_no_image_is_refused_before_anything_is_run():
    table = data.arrays(np.random.default_rng(0).normal(size=(60, 5)), np.arange(60) % 3, clients=2)
    problem = tasks.classification(torch.nn.Linear(5, 3), shape=(5,))
    with pytest.raises(FedSepError, match=r"augment must be left out for inputs that are no images"):
        fit(algorithms.fedavg(problem, augment=crop_and_flip(), **LOCAL), problem, table, rounds=1)


def test_private_steps_refuse_it(federation):
    method = algorithms.fedavg(task(federation), weighting="uniform", augment=crop_and_flip(), **LOCAL)
    with pytest.raises(FedSepError, match="dp_sgd: method must have no augment"):
        privacy.dp_sgd(method, clip=1.0, noise=1.0, batch_size=8)


def test_it_is_a_block_of_a_recipe_and_of_the_paper_s_own_scale():
    tree = {
        "rounds": 1,
        "data": {"use": "fedsep.data.digits", "clients": 2},
        "model": {"use": "fedsep.models.small_cnn", "widths": [4, 4], "pool": 1},
        "method": {
            "use": "fedsep.algorithms.heterofl",
            "augment": {"use": "fedsep.learners.crop_and_flip", "padding": 1},
        },
    }
    [method] = build(from_tree(tree, "r.yaml"), 0).algorithms.values()
    assert method.learner.learner.learner.augment == crop_and_flip(padding=1)
    told = {scale: {setting.data: setting.arguments.get("augment") for setting in SCALES[scale].settings}
            for scale in ("small", "paper")}  # fmt: skip
    published = {"use": "fedsep.learners.crop_and_flip", "padding": 4}
    assert told == {"small": {"mnist": None, "cifar10": None}, "paper": {"cifar10": published, "cifar100": published}}


def test_a_run_of_an_earlier_version_had_none():
    names = ("lr", "steps", "epochs", "batch_size", "momentum", "weight_decay", "clip", "schedule")
    assert completed({"use": "own.method", **dict.fromkeys(names)})["augment"] is None
    assert completed(dict.fromkeys([*names, "augment"], 1))["augment"] == 1
    assert "augment" not in completed({"use": "own.method", "lr": 0.1})


@pytest.mark.parametrize("padding", [-1, 1.5])
def test_a_padding_that_cannot_be(padding):
    with pytest.raises(FedSepError, match=re.escape("crop_and_flip: padding must be")):
        crop_and_flip(padding=padding)


def test_a_learner_keeps_it_on_another_problem(federation):
    learner = sgd(task(federation), augment=crop_and_flip(), **LOCAL)
    assert replace(learner, lr=0.3).on(task(federation)).augment == crop_and_flip()
