from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedsep.core import FedSepError
from fedsep.models import cnn, linear, logistic, mlp, resnet, small_cnn, transformer
from fedsep.models.seeded import seeded


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


FACTORIES = [
    pytest.param(lambda seed: cnn((1, 16, 17), 3, width=4, seed=seed), id="cnn"),
    pytest.param(lambda seed: mlp((1, 16, 17), 3, seed=seed), id="mlp"),
    pytest.param(lambda seed: logistic((1, 16, 17), 3, seed=seed), id="logistic"),
    pytest.param(lambda seed: linear((1, 16, 17), 3, seed=seed), id="linear"),
    pytest.param(lambda seed: resnet((1, 16, 17), 3, blocks=(1, 1), width=2, seed=seed), id="resnet"),
    pytest.param(lambda seed: small_cnn((1, 16, 17), 3, widths=(2, 3), seed=seed), id="small_cnn"),
]


OF_TEXT = pytest.param(lambda seed: transformer((6,), 5, width=4, depth=1, heads=2, seed=seed), id="transformer")


@pytest.mark.parametrize("build", [*FACTORIES, OF_TEXT])
def test_weights_come_from_the_seed_alone(build):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert same(first, build(0))
    assert not same(first, build(1))


@pytest.mark.parametrize("build", FACTORIES)
def test_one_row_of_outputs_per_example(build):
    assert build(0)(torch.randn(5, 1, 16, 17)).shape == (5, 3)


@pytest.mark.parametrize("build", [*FACTORIES, OF_TEXT])
def test_parameter_names_are_dotted(build):
    # Payloads whose names all have a dot are counted together as "model" in the ledger.
    assert all("." in name for name, _ in build(0).named_parameters())


def test_seeded_restores_the_state_also_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), seeded(3):
        torch.randn(2) @ torch.randn(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_draws_as_torch_does_after_manual_seed():
    with seeded(3):
        inside = torch.randn(4)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        assert torch.equal(inside, torch.randn(4))


def test_the_package_holds_functions_not_modules():
    import fedsep.models.cnn  # the module of that name, imported last

    assert fedsep.models.cnn is cnn
    assert all(callable(getattr(fedsep.models, name)) for name in fedsep.models.__all__)


@pytest.mark.parametrize(
    ("shape", "width", "parameters"), [((1, 28, 28), 32, 24_234), ((3, 32, 32), 64, 97_866)], ids=["mnist", "cifar10"]
)
def test_cnn_has_the_published_number_of_parameters(shape, width, parameters):
    assert count(cnn(shape, 10, width=width)) == parameters


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 40), (4, 33, 23), (2, 64, 31)])
def test_cnn_takes_images_of_any_shape(shape):
    module = cnn(shape, 7, width=3)
    assert module(torch.randn(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 20, 24)])
def test_cnn_equals_the_textbook_order_of_layers(shape):
    module = cnn(shape, 10, width=5, seed=1)
    # Equal patches make ties in the pooling, negative biases make zeros in the ReLU.
    x = torch.randn(6, *shape).clamp_min(0)

    def textbook(x):
        for conv in (module.conv1, module.conv2, module.conv3):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        return module.head(F.relu(module.conv4(x)).flatten(1))

    def run(function):
        outputs = function(x)
        return outputs, torch.autograd.grad(outputs.square().sum(), list(module.parameters()))

    torch.testing.assert_close(run(module), run(textbook), rtol=1e-12, atol=1e-12)


def test_cnn_computes_with_channels_innermost_also_for_one_channel():
    layouts = []
    module = cnn((1, 16, 16), 2, width=4)
    module.conv1.register_forward_hook(lambda _m, _x, y: layouts.append(y.stride(1)))
    module(torch.randn(2, 1, 16, 16))
    assert layouts == [1]


def test_cnn_takes_inputs_in_any_layout():
    x = torch.randn(4, 3, 16, 16)
    module = cnn((3, 16, 16), 2, width=4)
    torch.testing.assert_close(module(x), module(x.transpose(2, 3).contiguous().transpose(2, 3)))


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((64,), "must be images"),
        ((28, 28), "must be images"),
        ((1, 0, 28), "must be images"),
        ((1, 8, 8), "at least 16 x 16"),
        ((1, 15, 40), "at least 16 x 16"),
        ((28, 28, 3), r"is the shape \(3, 28, 28\) meant"),
    ],
)
def test_cnn_refuses_what_is_no_image_or_too_small(shape, says):
    with pytest.raises(FedSepError, match=says):
        cnn(shape, 10)


def test_cnn_names_all_numbers_out_of_range():
    with pytest.raises(FedSepError, match=r"classes must be >= 1.*width must be >= 1"):
        cnn((1, 28, 28), 0, width=0)


def test_mlp_has_the_hidden_layers_asked_for():
    module = mlp((2, 3), 4, hidden=[5, 7])
    assert count(module) == (6 * 5 + 5) + (5 * 7 + 7) + (7 * 4 + 4)
    assert sum(isinstance(part, nn.ReLU) for part in module) == 2


def test_mlp_without_hidden_layers_is_affine():
    torch.testing.assert_close(mlp((6,), 4, hidden=(), seed=2)[1].weight, linear((6,), 4, seed=2)[1].weight)


@pytest.mark.parametrize("build", [mlp, linear, logistic])
@pytest.mark.parametrize("shape", [(), (3, 0)])
def test_flat_models_refuse_an_empty_shape(build, shape):
    with pytest.raises(FedSepError, match=f"{build.__name__}: shape must hold"):
        build(shape, 2)


def test_mlp_refuses_an_empty_layer():
    with pytest.raises(FedSepError, match="hidden must hold widths >= 1"):
        mlp((4,), 2, hidden=(3, 0))


def test_linear_without_bias_is_linear():
    module = linear((4,), 2, bias=False)
    assert not module(torch.zeros(1, 4)).any()
    assert count(module) == 8
