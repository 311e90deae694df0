"""The residual network: the published counts at every width, static batch normalisation, scalers."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fedsep import random
from fedsep.core import FedSepError
from fedsep.models import resnet, small_cnn, units
from fedsep.models.calibration import calibrated, is_static
from fedsep.models.tracing.deriving import derived, example
from fedsep.models.units import kept
from fedsep.tasks.pure import Pure

RATES = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16)
SHAPE = (3, 8, 8)


def prefix(model, table, rate):
    return table.cut(model.init(), {group: torch.arange(kept(n, rate)) for group, n in table.sizes.items()})


def size(params):
    return sum(part.numel() for part in params.values())


def followed(module):
    """A model and its table, without the check, which takes seconds at full width; narrow ones are checked below."""
    return Pure(module), derived(module, example(module, SHAPE), ())


@pytest.fixture(scope="module")
def resnet18():
    torch.set_default_dtype(torch.float32)
    return followed(resnet((3, 32, 32), 10))


@pytest.mark.parametrize(("rate", "parameters", "multiply_adds"), [
    (1, 11_172_170, 555_422_720), (1 / 2, 2_796_714, 139_299_328), (1 / 4, 701_018, 35_046_656),
    (1 / 8, 176_178, 8_872_576), (1 / 16, 44_510, 2_273_600),
])  # fmt: skip
def test_resnet_18_has_the_published_parameters_and_multiply_adds(resnet18, rate, parameters, multiply_adds):
    torch.set_default_dtype(torch.float32)
    model, table = resnet18
    part = prefix(model, table, rate)
    assert size(part) == parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(part, torch.zeros(2, 3, 32, 32))
    assert counter.get_total_flops() == 2 * 2 * multiply_adds  # two images


@pytest.mark.parametrize(("blocks", "classes", "wanted"), [
    ((2, 2, 2, 2), 100, [11_218_340, 2_819_844, 712_628, 182_028, 47_480]),
    ((1, 1, 1, 2), 100, [9_668_260, 2_431_876, 615_412, 157_612, 41_320]),
    ((1, 1, 1, 2), 10, [9_622_000, 2_409_000, 603_800, 151_800, 38_350]),
])  # fmt: skip
def test_other_heads_and_the_network_of_heterofl(blocks, classes, wanted):
    """HeteroFL published its counts to four digits."""
    torch.set_default_dtype(torch.float32)
    got = [size(prefix(*followed(resnet((3, 32, 32), classes, blocks=blocks)), rate)) for rate in RATES]
    assert got == wanted if classes == 100 else [round(n, 4 - len(str(n))) for n in got] == wanted


def counted(blocks, classes, rate):
    """Kernels and the two vectors of each normalisation, layer by layer, written down from the architecture."""
    widths = [math.ceil(64 * 2**stage * rate) for stage in range(len(blocks))]
    total, inputs = 3 * 9 * widths[0], widths[0]
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for block in range(count):
            total += 2 * inputs + 9 * inputs * width + 2 * width + 9 * width * width
            total += inputs * width if stage and not block else 0
            inputs = width
    return total + 2 * inputs + inputs * classes + classes


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("blocks", [(2, 2, 2, 2), (1, 1, 1, 2)])
def test_parameters_are_those_of_the_layers(blocks, classes):
    torch.set_default_dtype(torch.float32)
    model, table = followed(resnet((3, 32, 32), classes, blocks=blocks))
    assert [size(prefix(model, table, rate)) for rate in RATES] == [counted(blocks, classes, rate) for rate in RATES]


def test_the_small_cnn_pools_mnist_to_14_by_14():
    model = Pure(small_cnn((1, 28, 28), 10))
    params = model.init()
    assert [tuple(part.shape) for part in params.values()] == [
        (16, 1, 3, 3), (16,), (32, 16, 3, 3), (32,), (32, 32, 3, 3), (32,), (10, 288), (10,)]  # fmt: skip
    x = random.normal(random.key(1), 2, 1, 28, 28)
    pooled = torch.nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(model(params, x), Pure(small_cnn((1, 14, 14), 10, pool=1))(params, pooled))


def test_a_resnet_may_average_its_images_over_squares():
    whole, small = (
        Pure(resnet(SHAPE, 3, blocks=(1, 1), width=4, pool=2)),
        Pure(resnet((3, 4, 4), 3, blocks=(1, 1), width=4)),
    )
    params, x = whole.init(), random.normal(random.key(1), 5, *SHAPE)
    torch.testing.assert_close(whole(params, x), small(params, torch.nn.functional.avg_pool2d(x, 2)))
    assert units(whole.module, SHAPE).sizes == units(small.module, (3, 4, 4)).sizes
    with pytest.raises(FedSepError, match=r"pool must be at most a side of the image, 8 x 8 \(got 9\)"):
        resnet(SHAPE, 3, pool=9)


def test_batch_statistics_in_training_and_nothing_stored():
    module = resnet(SHAPE, 3, blocks=(1,), width=4)
    x = random.normal(random.key(1), 6, *SHAPE)
    assert not module.state_dict().keys() - dict(module.named_parameters()).keys()
    first, second = module(x)[:3], module(x[:3])
    assert not torch.allclose(first, second)  # the batch decides
    assert set(Pure(module).init()) == set(dict(module.named_parameters()))


def test_calibrated_statistics_make_predictions_independent_of_the_batch():
    model = Pure(resnet(SHAPE, 3, blocks=(1, 1), width=4))
    assert is_static(model.module)
    x = random.normal(random.key(1), 40, *SHAPE)
    params = calibrated(model, model.init(), x.split(20))
    torch.testing.assert_close(model(params, x)[:1], model(params, x[:1]))
    assert not torch.allclose(model(params, x), model(model.init(), x))
    assert {name for name in params if name not in model.init()} == {
        f"{layer}.{kind}" for layer in ("stages.0.0.norm1.1", "stages.0.0.norm2.1", "stages.1.0.norm1.1",
                                        "stages.1.0.norm2.1", "norm.1") for kind in ("mean", "variance")}  # fmt: skip


def test_statistics_of_one_batch_are_those_that_the_batch_is_normalised_by():
    model = Pure(resnet(SHAPE, 3, blocks=(1,), width=4))
    x = random.normal(random.key(1), 9, *SHAPE)
    params = calibrated(model, model.init(), [x])
    places = 9 * 64  # the variance that is kept is the unbiased one
    biased = {
        name: part * (places - 1) / places if name.endswith("variance") else part for name, part in params.items()
    }
    torch.testing.assert_close(model(biased, x), model(model.init(), x))


def test_statistics_pool_batches_rather_than_average_their_variances():
    model = Pure(resnet((1, 2, 2), 2, blocks=(1,), width=2, scaler=False))
    x = random.normal(random.key(1), 8, 1, 2, 2)
    halves, whole = (calibrated(model, model.init(), x.split(n))["stages.0.0.norm1.variance"] for n in (4, 8))
    torch.testing.assert_close(halves, whole)  # the first normalisation: its inputs do not depend on the batches


def test_a_batch_of_one_has_no_statistics():
    module = resnet(SHAPE, 3, blocks=(1,), width=4)
    with pytest.raises(FedSepError, match="batches of two examples or more"):
        module(torch.zeros(1, *SHAPE))
    assert resnet(SHAPE, 3, blocks=(1,), width=4, norm="group")(torch.zeros(1, *SHAPE)).shape == (1, 3)


def test_the_scaler_matters_only_without_normalisation():
    x = random.normal(random.key(1), 5, *SHAPE)

    def outputs(norm, scaler):
        model = Pure(resnet(SHAPE, 3, blocks=(1,), width=8, norm=norm, scaler=scaler))
        table = units(model.module, SHAPE)
        return model(prefix(model, table, 0.25), x)

    # Not the same: a scaler of 4 makes epsilon a sixteenth of itself beside the variance.
    with_, without = outputs("static", True), outputs("static", False)
    assert float((with_ - without).abs().max()) < 1e-4 * float(without.abs().max())
    assert not torch.allclose(outputs("none", True), outputs("none", False), rtol=0.1)


def test_a_scaler_is_nothing_at_full_width():
    x = random.normal(random.key(1), 5, *SHAPE)
    scaled, plain = (resnet(SHAPE, 3, blocks=(1,), width=4, norm="none", scaler=s)(x) for s in (True, False))
    assert torch.equal(scaled, plain)


@pytest.mark.parametrize(("arguments", "says"), [
    ({"shape": (8, 8)}, "inputs must be images"),
    ({"blocks": ()}, "blocks must hold a number for each stage"),
    ({"norm": "group", "groups": 3, "width": 8}, "groups must divide width, 8"),
    ({"norm": "batch"}, "norm must be one of"),
])  # fmt: skip
def test_resnet_refuses_what_it_cannot_be(arguments, says):
    with pytest.raises(FedSepError, match=says):
        resnet(**{"shape": SHAPE, "classes": 3, "blocks": (1,), **arguments})
