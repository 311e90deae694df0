from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedsep.core import FedSepError
from fedsep.models import cnn, mlp
from fedsep.tasks import check_module, classification


def refusal(module, example=None):
    with pytest.raises(FedSepError) as caught:
        check_module(module, example)
    return str(caught.value)


IMPURE = [
    (
        lambda: nn.BatchNorm2d(3),
        ["running statistics", "GroupNorm", "LayerNorm", "track_running_stats=False", ".eval()"],
    ),
    (lambda: nn.SyncBatchNorm(3), ["running statistics"]),
    (lambda: nn.InstanceNorm1d(3, track_running_stats=True, affine=True), ["running statistics"]),
    (lambda: nn.Dropout(0.1), ["random", "weight_decay"]),
    (lambda: nn.Dropout2d(0.1), ["random"]),
    (lambda: nn.AlphaDropout(0.1), ["random"]),
    (lambda: nn.LSTM(3, 3, num_layers=2, dropout=0.2), ["dropout"]),
    (lambda: nn.MultiheadAttention(4, 2, dropout=0.1), ["dropout"]),
    (lambda: nn.RReLU(), ["random", "LeakyReLU"]),
    (lambda: nn.FractionalMaxPool2d(2, output_size=3), ["random", "MaxPool2d"]),
    (lambda: nn.LazyLinear(3), ["lazy"]),
    (lambda: nn.Embedding(5, 3, max_norm=1.0), ["max_norm"]),
    (lambda: nn.EmbeddingBag(5, 3, sparse=True), ["sparse"]),
    (lambda: nn.DataParallel(nn.Linear(3, 3)), [".module"]),
]


@pytest.mark.parametrize(("build", "says"), IMPURE)
def test_a_refusal_names_the_layer_the_reason_and_the_remedy(build, says):
    layer = build()
    text = refusal(nn.Sequential(nn.Linear(3, 3), nn.ModuleDict({"deep": layer})))
    assert f"1.deep ({type(layer).__name__})" in text
    for word in says:
        assert word in text


PURE = [
    lambda: nn.BatchNorm2d(3, track_running_stats=False),
    lambda: nn.BatchNorm2d(3).eval(),
    lambda: nn.InstanceNorm2d(3),
    lambda: nn.GroupNorm(1, 3),
    lambda: nn.LayerNorm(3),
    lambda: nn.Dropout(0.0),
    lambda: nn.Dropout(0.5).eval(),
    lambda: nn.LSTM(3, 3, num_layers=2),
    lambda: nn.MultiheadAttention(4, 2),
    lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
    lambda: nn.Embedding(5, 3),
]


@pytest.mark.parametrize("build", PURE)
def test_what_is_pure_is_accepted(build):
    check_module(nn.Sequential(nn.Linear(3, 3), build()))


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_spectral_norm_is_refused_in_both_forms(norm):
    assert "spectral normalisation" in refusal(nn.Sequential(norm(nn.Linear(3, 3))))


def test_scripted_modules_are_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.script(nn.Linear(2, 2))
    assert "scripted" in refusal(module)


def test_all_findings_come_at_once_and_equal_ones_together():
    text = refusal(nn.Sequential(nn.Linear(3, 3), *(nn.BatchNorm1d(3) for _ in range(8)), nn.Dropout(), nn.RReLU()))
    assert text.count("\n") == 3
    assert "5 (BatchNorm1d) and 3 more" in text
    assert "9 (Dropout)" in text
    assert "10 (RReLU)" in text


def test_a_task_refuses_an_impure_model():
    with pytest.raises(FedSepError, match=r"1 \(Dropout\)"):
        classification(nn.Sequential(nn.Linear(3, 3), nn.Dropout()))


@pytest.mark.parametrize("thing", [None, nn.Linear, lambda x: x])
def test_what_is_no_module_is_refused(thing):
    assert "must be a torch.nn.Module" in refusal(thing)


@pytest.mark.parametrize("module", [nn.ReLU(), nn.Linear(2, 2).requires_grad_(False)])
def test_a_module_without_anything_to_learn_is_refused(module):
    assert "nothing to learn" in refusal(module)


class Dropping(nn.Module):
    """Draws random numbers between two layers of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.second(F.dropout(self.first(x), 0.5))


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


class Counting(nn.Module):
    """Writes a buffer that its output does not depend on; in place, or by a new tensor."""

    def __init__(self, in_place):
        super().__init__()
        self.in_place = in_place
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        if self.in_place:
            self.calls += 1
        else:
            self.calls = self.calls + 1
        return x * 2


class Remembering(nn.Module):
    """Keeps state that is no tensor."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


class Shrinking(nn.Module):
    """Writes its own parameter."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x):
        with torch.no_grad():
            self.weight.mul_(0.5)
        return x


HIDDEN = [
    (Dropping, "1 (Dropping)", "random"),
    (Noisy, "1 (Noisy)", "random"),
    (Remembering, "1 (Remembering)", "keeps count"),
    (lambda: Counting(True), "1 (Counting)", "writes 1.calls"),
    (lambda: Counting(False), "1 (Counting)", "writes 1.calls"),
    (Shrinking, "1 (Shrinking)", "writes 1.weight"),
]


@pytest.mark.parametrize(("build", "layer", "reason"), HIDDEN)
def test_an_example_shows_what_types_do_not(build, layer, reason):
    module = nn.Sequential(nn.Linear(4, 4), build(), nn.Linear(4, 2))
    check_module(module)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    text = refusal(module, torch.randn(3, 4))
    assert layer in text
    assert reason in text
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (cnn((1, 16, 16), 3, width=4), (1, 16, 16)),
        (mlp((4,), 3), (4,)),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), nn.ReLU(True)), (1, 5, 5)),
        (nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2).eval()), (4,)),
    ],
)
def test_an_example_leaves_pure_modules_and_randomness_alone(module, shape):
    modes, before = [part.training for part in module.modules()], torch.get_rng_state()
    own = dict(module.named_parameters())
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    check_module(module, x)
    assert torch.equal(torch.get_rng_state(), before)
    assert modes == [part.training for part in module.modules()]
    assert all(own[name] is parameter for name, parameter in module.named_parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_outputs_that_are_nan_twice_are_the_same():
    module = nn.Linear(2, 2)
    with torch.no_grad():
        module.weight.fill_(float("nan"))
    check_module(module, torch.ones(2, 2))
