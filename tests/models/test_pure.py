from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from fedsep.core import Batch
from fedsep.models import cnn, linear, mlp
from fedsep.tasks import classification
from fedsep.tasks.pure import Pure, pure


class Tied(nn.Module):
    """Encoder and decoder share one weight."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(3, 3, bias=False)
        self.decode = nn.Linear(3, 3)
        self.decode.weight = self.encode.weight

    def forward(self, x):
        return self.decode(self.encode(x).tanh())


class Shifted(nn.Module):
    """Has a constant buffer, a frozen part and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.arange(3.0))
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.learned = nn.Linear(3, 2)
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.learned(self.frozen(x - self.shift)) * self.scale


MODULES = [
    pytest.param(lambda: cnn((1, 16, 16), 3, width=4), (1, 16, 16), id="cnn"),
    pytest.param(lambda: mlp((3,), 3, hidden=(4, 5)), (3,), id="mlp"),
    pytest.param(Tied, (3,), id="tied"),
    pytest.param(Shifted, (3,), id="shifted"),
]

# torch falls back to a loop for its vmap, and warns.
UNBATCHED = pytest.param(
    lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))), (3,), id="weight_norm"
)


def other(params):
    return {name: torch.randn_like(tensor) for name, tensor in params.items()}


@pytest.mark.parametrize(("build", "shape"), [*MODULES, UNBATCHED])
def test_it_equals_functional_call(build, shape):
    model = pure(build())
    params, x = other(model.init()), torch.randn(4, *shape)
    torch.testing.assert_close(model(params, x), functional_call(model.module, params, (x,)), rtol=0, atol=0)


def test_recurrent_layers_follow_their_parameters():
    module = nn.LSTM(3, 4, batch_first=True)
    model, x = pure(module), torch.randn(2, 5, 3)
    params = other(model.init())
    expected = functional_call(module, params, (x,))[0]
    assert torch.equal(model(params, x)[0], expected)
    assert not torch.equal(module(x)[0], expected)


@pytest.mark.parametrize(("build", "shape"), [*MODULES, UNBATCHED])
def test_the_module_is_left_as_it_was(build, shape):
    model = pure(build())
    own, before = dict(model.module.named_parameters()), copy.deepcopy(model.module.state_dict())
    model(other(model.init()), torch.randn(2, *shape))
    with pytest.raises((RuntimeError, ValueError)):
        model(other(model.init()), torch.randn(2, 99))
    with pytest.raises(KeyError):
        model({}, torch.randn(2, *shape))
    assert all(parameter is own[name] for name, parameter in model.module.named_parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())


def test_init_gives_fresh_tensors_each_time():
    model = pure(linear((3,), 2))
    first, second = model.init(), model.init()
    first["linear.weight"].zero_()
    assert second["linear.weight"].any()
    assert model.module.linear.weight.any()
    assert not any(tensor.requires_grad for tensor in first.values())


def test_init_is_contiguous_whatever_the_layout_of_the_module():
    model = pure(cnn((3, 16, 16), 2, width=4).to(memory_format=torch.channels_last))
    assert all(tensor.is_contiguous() for tensor in model.init().values())


def test_tied_weights_are_one_tensor_and_stay_tied():
    model = pure(Tied())
    params = model.init()
    assert set(params) == {"encode.weight", "decode.bias"}
    x = torch.randn(4, 3)
    weight = params["encode.weight"].requires_grad_()
    (gradient,) = torch.autograd.grad(model(params, x).sum(), weight)
    untied = [weight.detach().clone().requires_grad_() for _ in range(2)]
    outputs = (x @ untied[0].T).tanh() @ untied[1].T + params["decode.bias"]
    parts = torch.autograd.grad(outputs.sum(), untied)
    torch.testing.assert_close(gradient, parts[0] + parts[1])


def test_what_needs_no_gradient_is_constant():
    model = pure(Shifted())
    assert set(model.init()) == {"learned.weight", "learned.bias", "scale"}


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_has_places_of_its_own(clone):
    model = pure(Tied())
    twin = clone(model)
    assert isinstance(twin, Pure)
    params, x = other(model.init()), torch.randn(4, 3)
    assert torch.equal(twin(params, x), model(params, x))
    with torch.no_grad():
        twin.module.encode.weight.zero_()
    assert model.module.encode.weight.any()
    assert twin.init().keys() == params.keys()


@pytest.mark.parametrize(("build", "shape"), MODULES)
def test_gradients_by_autograd_func_and_vmap_agree(build, shape):
    task = classification(build())
    params = [other(task.init()) for _ in range(3)]
    batches = [Batch(torch.randn(4, *shape), torch.randint(0, 2, (4,))) for _ in range(3)]

    def plain(params, batch):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
        return dict(zip(leaves, torch.autograd.grad(task.loss(leaves, batch), list(leaves.values())), strict=True))

    expected = [plain(p, b) for p, b in zip(params, batches, strict=True)]
    torch.testing.assert_close([grad(task.loss)(p, b) for p, b in zip(params, batches, strict=True)], expected)
    stacked = {name: torch.stack([p[name] for p in params]) for name in params[0]}
    x, y = (torch.stack(parts) for parts in zip(*batches, strict=True))
    together = vmap(grad(task.loss))(stacked, Batch(x, y))
    for i, one in enumerate(expected):
        torch.testing.assert_close({name: tensor[i] for name, tensor in together.items()}, one)


def test_parameters_may_be_narrower_than_the_module():
    model = pure(mlp((6,), 3, hidden=(8,)))
    params = model.init()
    narrow = {
        "layer1.weight": params["layer1.weight"][:4],
        "layer1.bias": params["layer1.bias"][:4],
        "layer2.weight": params["layer2.weight"][:, :4],
        "layer2.bias": params["layer2.bias"],
    }
    assert model(narrow, torch.randn(2, 6)).shape == (2, 3)


def test_second_derivatives_pass_through():
    task = classification(mlp((3,), 2, hidden=(4,)))
    params, batch = task.init(), Batch(torch.randn(5, 3), torch.randint(0, 2, (5,)))
    tangent = other(params)
    gradient = grad(task.loss)
    _, pull_back = torch.func.vjp(lambda p: gradient(p, batch), params)
    (product,) = pull_back(tangent)
    step = 1e-6
    up, down = (gradient({n: params[n] + s * tangent[n] for n in params}, batch) for s in (step, -step))
    numeric = {name: (up[name] - down[name]) / (2 * step) for name in params}
    torch.testing.assert_close(product, numeric, rtol=1e-5, atol=1e-7)


def test_stacked_modules_agree_with_torch():
    modules = [linear((3,), 2, seed=seed) for seed in range(3)]
    stacked, _ = stack_module_state(modules)
    model, x = pure(modules[0]), torch.randn(4, 3)
    outputs = vmap(model, (0, None))({n: t.detach() for n, t in stacked.items()}, x)
    torch.testing.assert_close(outputs, torch.stack([module(x) for module in modules]).detach())
