"""Modules that are chains of linear layers: several models at once by products of matrices."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.nn.utils import parametrizations, prune

from fedsep import models, random
from fedsep.tasks.pure import pure

SHAPE, OUTPUTS, CLIENTS, BATCH = (2, 3), 4, 3, 5


def tied():
    layer = nn.Linear(6, 6)
    return nn.Sequential(nn.Flatten(), layer, nn.Tanh(), layer, nn.Linear(6, OUTPUTS))


CHAINS = {
    "logistic": lambda: models.logistic(SHAPE, OUTPUTS),
    "linear, no bias": lambda: models.linear(SHAPE, OUTPUTS, bias=False),
    "mlp": lambda: models.mlp(SHAPE, OUTPUTS, hidden=[7, 5]),
    "of numbers": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(6, 5), nn.Sigmoid(), nn.Identity(), nn.Linear(5, OUTPUTS), nn.ReLU()
    ),
    "tied": tied,
}


def stacked(module):
    """Other weights for every client, and what each of them makes of its own inputs, by torch's own means."""
    params = {
        name: random.normal(random.key(number), CLIENTS, *part.shape).requires_grad_()
        for number, (name, part) in enumerate(module.named_parameters())
    }
    x = random.normal(random.key(99), CLIENTS, BATCH, *SHAPE)
    return params, x, vmap(lambda own, x: functional_call(module, own, (x,)))(params, x)


def near(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", CHAINS.values(), ids=CHAINS)
def test_a_chain_gives_what_each_of_its_models_gives_and_their_gradients(make):
    params, x, expected = stacked(make())
    change = random.normal(random.key(50), *expected.shape)
    gradients = torch.autograd.grad(expected, list(params.values()), change)
    own, chain = {name: part.detach() for name, part in params.items()}, pure(make()).chain
    made = chain.walk(own, x)
    near(made[-1], expected.detach().mT)
    near(chain.back(own, made, change.mT), dict(zip(params, gradients, strict=True)))


def test_layers_that_write_to_their_inputs_take_nothing_from_the_gradient():
    make = lambda inplace: nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Sigmoid(), nn.ReLU(inplace), nn.Linear(5, 2))  # noqa: E731
    params, x, expected = stacked(make(False))
    own, chain = {name: part.detach() for name, part in params.items()}, pure(make(True)).chain
    gradients = torch.autograd.grad(expected.sum(), list(params.values()))
    made = chain.walk(own, x)
    near(chain.back(own, made, torch.ones(CLIENTS, 2, BATCH)), dict(zip(params, gradients, strict=True)))


def test_a_single_layer_is_a_chain_of_inputs_that_are_flat():
    module, x = nn.Linear(6, OUTPUTS), random.normal(random.key(0), CLIENTS, BATCH, 6)
    params = {"weight": random.normal(random.key(1), CLIENTS, OUTPUTS, 6), "bias": torch.zeros(CLIENTS, OUTPUTS)}
    near(pure(module).chain.walk(params, x)[-1], params["weight"] @ x.mT)
    assert pure(module).chain.walk(params, x[:, :, None]) is None


class Own(nn.Linear):
    """Another layer."""

    def forward(self, x):
        return super().forward(x) ** 2


def frozen():
    module = models.mlp(SHAPE, OUTPUTS)
    module.layer1.bias.requires_grad_(False)
    return module


def held(name, prepare=lambda layer: layer):
    """Something that torch makes anew, or that is not learned, in place of a parameter."""
    module = models.logistic(SHAPE, OUTPUTS)
    layer = prepare(module.linear)
    if name:
        part = getattr(layer, name).detach()
        delattr(layer, name)
        layer.register_buffer(name, part)
    return module


NONE = {
    "a bias that is a buffer": lambda: held("bias"),
    "a weight that is a buffer": lambda: held("weight"),
    "a pruned weight": lambda: held("", lambda layer: prune.l1_unstructured(layer, "weight", 0.5)),
    "a parametrised weight": lambda: held("", parametrizations.weight_norm),
    "another class of layers": lambda: nn.Sequential(nn.Flatten(), Own(6, OUTPUTS)),
    "another class of chains": lambda: type("Mine", (nn.Sequential,), {})(nn.Flatten(), nn.Linear(6, OUTPUTS)),
    "a layer across numbers": lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, OUTPUTS), nn.Softmax(1)),
    "flattened late": lambda: nn.Sequential(nn.Linear(3, 3), nn.Flatten(), nn.Linear(6, OUTPUTS)),
    "flattened otherwise": lambda: nn.Sequential(nn.Flatten(0), nn.Linear(6, OUTPUTS)),
    "parameters that are not learned": frozen,
}


@pytest.mark.parametrize("make", NONE.values(), ids=NONE)
def test_what_is_no_chain_has_no_quick_way(make):
    assert pure(make()).chain is None


@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"])
@pytest.mark.parametrize("where", ["", "linear"])
def test_layers_with_hooks_are_asked_themselves(hook, where):
    module = models.logistic(SHAPE, OUTPUTS)
    chain, (params, x, _) = pure(module).chain, stacked(models.logistic(SHAPE, OUTPUTS))
    handle = getattr(module.get_submodule(where), hook)(lambda *_: None)
    assert chain.walk(params, x) is None
    handle.remove()
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert chain.walk(params, x) is None
    handle.remove()
    assert chain.walk(params, x) is not None
    module.linear.forward = lambda x: x[:, :OUTPUTS]
    assert chain.walk(params, x) is None
