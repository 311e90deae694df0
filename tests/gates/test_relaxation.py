"""Gates that are drawn: how likely they are on, in closed form; and the networks that scores come from."""

import math

import pytest
import torch
from torch import nn

from fedsep import random
from fedsep.gates import Free, Hypernetwork, Relaxation
from fedsep.gates.hypernetwork import _both_ways

SIZES = {"one": 5, "two": 3, "three": 7}


@pytest.mark.parametrize("score", [-3.0, -0.5, 0.0, 1.0])
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_a_gate_is_on_as_often_as_the_closed_form_says(score, offset):
    """Logistic noise: sigmoid(score + b). One Gumbel variable: 1 - exp(-exp(score + b)), 1 at b = 3 and score 0."""
    for noise, wanted in (("logistic", 1 / (1 + math.exp(-score - offset))),
                          ("gumbel", 1 - math.exp(-math.exp(score + offset)))):  # fmt: skip
        relaxation = Relaxation(0.5, offset, noise)
        assert float(relaxation.chance(torch.tensor(score))) == pytest.approx(wanted, rel=1e-12)
        gates = relaxation.draw({"g": torch.full((40_000,), score)}, random.key(7))["g"]
        assert float((gates > 0.5).double().mean()) == pytest.approx(wanted, abs=4 * math.sqrt(0.25 / 40_000))


def test_the_figures_that_nppm_starts_from():
    nppm = Relaxation(0.4, 3.0, "gumbel")
    chances = [float(nppm.chance(torch.tensor(score))) for score in (0.0, -3.0, -4.0)]
    assert [round(chance, 3) for chance in chances] == [1.0, 0.632, 0.308]


def test_half_of_the_gates_are_below_the_gate_without_noise():
    """The logistic distribution has median 0, so the noise-free gate is the median."""
    relaxation = Relaxation()
    gates = relaxation.draw({"g": torch.full((20_000,), 0.7)}, random.key(1))["g"]
    middle = relaxation.mean({"g": torch.tensor(0.7)})["g"]
    assert float(middle) == pytest.approx(1 / (1 + math.exp(-1.4)))
    assert float((gates < middle).double().mean()) == pytest.approx(0.5, abs=0.015)


def test_gates_are_finite_in_float32_too():
    torch.set_default_dtype(torch.float32)
    for noise in ("logistic", "gumbel"):
        scores = torch.zeros(300_000, requires_grad=True)
        gates = Relaxation(noise=noise).draw({"g": scores}, random.key(2))["g"]
        gates.sum().backward()
        assert bool(gates.isfinite().all())
        assert scores.grad is not None
        assert bool(scores.grad.isfinite().all())


def test_the_hypernetwork_is_torchs_gru_layer_norm_and_weight_normed_layers():
    network = Hypernetwork(SIZES, inputs=6, hidden=4)
    phi = {name: part + 0.1 * random.normal(random.fold(random.key(9), number), *part.shape)
           for number, (name, part) in enumerate(network.init(random.key(1)).items())}  # fmt: skip
    gru = nn.GRU(6, 4, bidirectional=True)
    with torch.no_grad():
        for direction, suffix in enumerate(("", "_reverse")):
            for ours, theirs in (("in.weight", "weight_ih"), ("state.weight", "weight_hh"), ("in.bias", "bias_ih"),
                                 ("state.bias", "bias_hh")):  # fmt: skip
                getattr(gru, f"{theirs}_l0{suffix}").copy_(phi[f"gru.{ours}"][direction])
        states = gru(network.vectors(torch.zeros(())).unsqueeze(1))[0].squeeze(1)
    normed = nn.functional.layer_norm(states, (8,), phi["norm.weight"], phi["norm.bias"])
    got = network(phi)
    for place, (group, n) in enumerate(SIZES.items()):
        head = nn.Linear(8, n, bias=False)
        with torch.no_grad():
            head.weight.copy_(phi[f"head.{group}.direction"])
            head = nn.utils.parametrizations.weight_norm(head)
            head.parametrizations.weight.original0.copy_(phi[f"head.{group}.norm"].unsqueeze(1))
            torch.testing.assert_close(got[group], head(torch.relu(normed[place])))


def test_fixed_inputs_are_orthonormal_and_the_same_for_all():
    for sizes in (SIZES, {str(number): 2 for number in range(9)}):
        vectors = Hypernetwork(sizes, inputs=6, hidden=4).vectors(torch.zeros(()))
        gram = vectors @ vectors.T if len(sizes) <= 6 else vectors.T @ vectors
        torch.testing.assert_close(gram, torch.eye(len(gram)))
        assert torch.equal(vectors, Hypernetwork(sizes, inputs=6, hidden=4).vectors(torch.zeros(())))
        assert vectors.shape == (len(sizes), 6)


def test_inputs_made_inside_a_transform_do_not_outlive_it():
    network = Hypernetwork({"layer1": 3}, inputs=7, hidden=2)  # of no other test: nothing is kept of it yet
    phi = network.init(random.key(4))
    torch.func.vjp(network, phi)
    assert _both_ways(1, 7, phi["norm.bias"]).untyped_storage().nbytes() > 0  # what is dead has no storage


def test_phi_has_the_sizes_that_are_documented():
    numbers = sum(part.numel() for part in Hypernetwork(SIZES).init(random.key(1)).values())
    assert numbers == 2 * 384 * 194 + 512 + 257 * sum(SIZES.values())
    assert sum(part.numel() for part in Free(SIZES).init(random.key(1)).values()) == sum(SIZES.values())
