"""A local step's images lie as oneDNN has them; everything else sees what it saw, and gets the same numbers."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from fedsep import algorithms, data, engines, fit, tasks, tree
from fedsep.core import Batch, Params
from fedsep.gradients import once, value_and_gradient
from fedsep.models import cnn, layout

pytestmark = pytest.mark.skipif(
    not (platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()),
    reason="oneDNN's layout is used on x86 processors only",
)
SHAPE = (1, 28, 28)


@pytest.fixture
def blocked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the images of each call of the network lay in oneDNN's layout."""
    found: list[bool] = []
    whole = layout.laid_out

    def watched(x: Tensor, layers: tuple[nn.Module, ...]) -> Tensor:
        x = whole(x, layers)
        found.append(x.is_mkldnn)
        return x

    monkeypatch.setattr(sys.modules["fedsep.models.cnn"], "laid_out", watched)
    return found


class Net:
    """A network and a minibatch; a part of the images is constant, so that maxima tie."""

    def __init__(self, width: int = 16, dtype: torch.dtype = torch.float32) -> None:
        self.module = cnn(SHAPE, 10, width=width).to(dtype)
        self.task = tasks.classification(self.module)
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(6, *SHAPE, generator=generator).to(dtype)
        x[:, :, :12] = 0
        self.batch = Batch(x, torch.randint(10, (6,), generator=generator))

    def loss(self, y: Params) -> Tensor:
        """The loss."""
        return self.task.loss(y, self.batch)

    def penalised(self, y: Params) -> Tensor:
        """The loss and the square of its gradient."""
        loss = self.loss(y)
        slopes = torch.autograd.grad(loss, list(y.values()), create_graph=True)
        return loss + sum(slope.square().sum() for slope in slopes)


def dense(monkeypatch: pytest.MonkeyPatch, function: Callable[[Params], Tensor], y: Params) -> tuple[Tensor, Params]:
    """The same without the layout."""
    with monkeypatch.context() as patch:
        patch.setattr(layout, "_X86", False)
        return value_and_gradient(function, y)


def close(ours: tuple[Tensor, Params], theirs: tuple[Tensor, Params]) -> None:
    """Equal but for rounding in float32."""
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=0)
    for name, part in ours[1].items():
        assert not part.is_mkldnn
        assert part.shape == theirs[1][name].shape
        assert tree.norm({"": part - theirs[1][name]}) <= 1e-5 * tree.norm({"": theirs[1][name]})


@pytest.mark.parametrize("width", [16, 32])
def test_a_local_step_is_laid_out_and_gives_the_same_numbers(
    width: int, blocked: list[bool], monkeypatch: pytest.MonkeyPatch
):
    net = Net(width)
    ours = value_and_gradient(net.loss, net.task.init())
    theirs = dense(monkeypatch, net.loss, net.task.init())
    assert blocked == [True, False]
    close(ours, theirs)


def test_workers_have_the_bits_of_sequential(blocked: list[bool]):
    torch.set_default_dtype(torch.float32)
    x, y = torch.rand(60, *SHAPE), torch.randint(10, (60,))
    fleet = data.arrays(x, y, x_test=x[:20], y_test=y[:20], clients=3)
    task = tasks.classification(cnn(SHAPE, 10, width=16))
    method = algorithms.fedavg(task, steps=3, batch_size=8)
    both = engines.sequential(), engines.workers(processes=2)
    one, two = (fit(method, task, fleet, rounds=2, engine=engine) for engine in both)
    assert blocked.count(True) == 2 * 3 * 3, "of sequential; the workers have lists of their own"
    assert all(torch.equal(part, two.params[name]) for name, part in one.params.items())


class Functions(TorchFunctionMode):
    """Sees every function, and changes none."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return func(*args, **(kwargs or {}))


class Kernels(TorchDispatchMode):
    """Sees every kernel, and changes none."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return func(*args, **(kwargs or {}))


@contextmanager
def no_onednn() -> Iterator[None]:
    """As ``torch.backends.mkldnn.flags(enabled=False)``, which warns of other flags."""
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(True)


@pytest.mark.parametrize(
    "around",
    [Functions, Kernels, lambda: torch.autocast("cpu", torch.bfloat16), no_onednn],
    ids=["functions", "kernels", "bfloat16", "no oneDNN"],
)
def test_who_looks_at_a_step_or_changes_it_finds_plain_tensors(
    around: Callable[[], AbstractContextManager[object]], blocked: list[bool]
):
    net = Net()
    with around():
        value_and_gradient(net.loss, net.task.init())
    assert blocked == [False]


def hooked() -> Net:
    """A network of whose third layer somebody keeps the inputs."""
    net = Net()
    net.module.conv3.register_forward_hook(lambda layer, given, out: None)
    return net


def replaced() -> Net:
    """A network with a normalisation behind a convolution."""
    net = Net()
    net.module.conv2 = nn.Sequential(net.module.conv2, nn.GroupNorm(2, 16).float())  # type: ignore[assignment]
    net.task = tasks.classification(net.module)
    return net


@pytest.mark.parametrize("make", [lambda: Net(12), lambda: Net(dtype=torch.float64), hooked, replaced],
                         ids=["12 channels", "float64", "a hook", "another layer"])  # fmt: skip
def test_other_networks_keep_channels_innermost(make: Callable[[], Net], blocked: list[bool]):
    net = make()
    value_and_gradient(net.loss, net.task.init())
    assert blocked == [False]


def test_outside_of_a_local_step_nothing_is_laid_out(blocked: list[bool]):
    net = Net()
    y = {name: part.requires_grad_() for name, part in net.task.init().items()}
    net.loss(y)
    torch.func.grad(net.loss)({name: part.detach() for name, part in y.items()})
    value_and_gradient(lambda y: torch.func.vmap(net.loss)({n: p[None] for n, p in y.items()}).sum(), net.task.init())
    assert blocked == [False] * 3
    assert not once()


def test_a_default_device_only_says_where_tensors_are_made(blocked: list[bool]):
    net = Net()
    with torch.device("cpu"):
        value_and_gradient(net.loss, net.task.init())
    assert blocked == [True]


def saving(net: Net) -> Callable[[Params], Tensor]:
    """What is kept for the gradient is looked at, as where it is put elsewhere."""

    def loss(y: Params) -> Tensor:
        with torch.autograd.graph.saved_tensors_hooks(lambda part: part.detach().numpy(), torch.from_numpy):
            return net.loss(y)

    return loss


@pytest.mark.parametrize("make", [lambda net: net.penalised, saving], ids=["a gradient inside", "what is kept"])
def test_what_asks_for_more_than_the_layout_has_is_computed_again(
    make: Callable[[Net], Callable[[Params], Tensor]], blocked: list[bool], monkeypatch: pytest.MonkeyPatch
):
    net = Net()
    ours = value_and_gradient(make(net), net.task.init())
    assert blocked == [True, False]
    close(ours, dense(monkeypatch, make(net), net.task.init()))
    value_and_gradient(net.loss, net.task.init())
    assert blocked == [True, False, False, True], "the next step has the layout again"


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["conv1.weight", "conv2.bias", "conv4.weight"])
def test_a_step_that_diverges_shows_it(name: str, value: float, blocked: list[bool]):
    """oneDNN's maxima and ReLU lose what is not a number: no image of such a step may reach them."""
    net = Net()
    loss, _ = value_and_gradient(net.loss, {**net.task.init(), name: net.task.init()[name].fill_(value)})
    assert not loss.isfinite()
    assert blocked == [False]


def test_numbers_that_grow_too_large_on_their_way_show_it(blocked: list[bool]):
    """Weights and images are finite here, and so are the parameters after a step that would not notice."""
    net = Net()
    y = {name: part * 1e12 for name, part in net.task.init().items()}
    loss, _ = value_and_gradient(net.loss, y)
    assert not loss.isfinite()
    assert blocked == [False]


def test_a_failing_loss_is_raised_and_leaves_no_trace():
    def failing(y: Params) -> Tensor:
        seen.append(once())
        raise RuntimeError("no loss")

    seen: list[bool] = []
    with pytest.raises(RuntimeError, match="no loss"):
        value_and_gradient(failing, Net().task.init())
    assert seen == [True, False]
    assert not once()
