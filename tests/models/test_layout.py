"""A local step's images lie as oneDNN has them; everything else sees what it saw, and gets the same numbers."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from fedsep import tasks, tree
from fedsep.core import Batch, Params
from fedsep.gradients import once, value_and_gradient
from fedsep.models import cnn, layout

pytestmark = pytest.mark.skipif(
    not (platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()),
    reason="oneDNN's layout is used on x86 processors only",
)
SHAPE = (1, 28, 28)


class Seen:
    """A network's loss, and how its convolutions' inputs lie."""

    def __init__(self, width: int = 16, dtype: torch.dtype = torch.float32) -> None:
        self.module = cnn(SHAPE, 10, width=width).to(dtype)
        self.task = tasks.classification(self.module)
        self.blocked: list[bool] = []
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(6, *SHAPE, generator=generator).to(dtype)
        self.batch = Batch(x, torch.randint(10, (6,), generator=generator))
        for layer in self.module.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_pre_hook(lambda _, given: self.blocked.append(given[0].is_mkldnn))

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
def test_a_local_step_has_one_layout_from_the_first_convolution_to_the_last(
    width: int, monkeypatch: pytest.MonkeyPatch
):
    seen = Seen(width)
    ours = value_and_gradient(seen.loss, seen.task.init())
    assert seen.blocked == [True] * 4
    theirs = dense(monkeypatch, seen.loss, seen.task.init())
    assert seen.blocked[4:] == [False] * 4
    close(ours, theirs)


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
def test_who_looks_at_a_step_or_changes_it_finds_plain_tensors(around: Callable[[], AbstractContextManager[object]]):
    seen = Seen()
    with around():
        value_and_gradient(seen.loss, seen.task.init())
    assert seen.blocked == [False] * 4


@pytest.mark.parametrize("seen", [Seen(12), Seen(dtype=torch.float64)], ids=["12 channels", "float64"])
def test_other_networks_keep_channels_innermost(seen: Seen):
    value_and_gradient(seen.loss, seen.task.init())
    assert seen.blocked == [False] * 4


def test_outside_of_a_local_step_nothing_is_laid_out():
    seen = Seen()
    y = {name: part.requires_grad_() for name, part in seen.task.init().items()}
    seen.loss(y)
    torch.func.grad(seen.loss)({name: part.detach() for name, part in y.items()})
    value_and_gradient(lambda y: torch.func.vmap(seen.loss)({n: p[None] for n, p in y.items()}).sum(), seen.task.init())
    assert seen.blocked == [False] * 12
    assert not once()


def test_a_loss_that_has_a_gradient_in_it_is_right_and_needs_no_word_of_the_layout(monkeypatch: pytest.MonkeyPatch):
    seen = Seen()
    ours = value_and_gradient(seen.penalised, seen.task.init())
    assert seen.blocked == [True] * 4 + [False] * 4
    close(ours, dense(monkeypatch, seen.penalised, seen.task.init()))
    value_and_gradient(seen.loss, seen.task.init())
    assert seen.blocked[-4:] == [True] * 4, "the next step has the layout again"


def test_a_failing_loss_leaves_no_trace():
    def failing(y: Params) -> Tensor:
        assert once()
        raise ValueError("no loss")

    with pytest.raises(ValueError, match="no loss"):
        value_and_gradient(failing, Seen().task.init())
    assert not once()
