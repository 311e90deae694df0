from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call, grad, vmap

from fedsep import algorithms, tasks
from fedsep.core import FedSepError
from fedsep.models import transformer, units
from fedsep.tasks.pure import Pure

CONTEXT, SYMBOLS = 6, 11


def small(**options):
    return transformer((CONTEXT,), SYMBOLS, **{"width": 8, "depth": 2, "heads": 2, **options})


def some(count=3, seed=0):
    return torch.randint(SYMBOLS, (count, CONTEXT), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("width", "depth", "context"), [(8, 2, 6), (12, 3, 9)])
def test_its_size_is_as_documented_and_the_tied_table_counts_once(width, depth, context):
    module = small(width=width, depth=depth, context=context)
    params = Pure(module).init()
    layers = 12 * depth * width**2 + (13 * depth + 2) * width
    assert sum(part.numel() for part in params.values()) == layers + (SYMBOLS + context) * width
    assert [name for name, part in params.items() if part.shape == (SYMBOLS, width)] == ["embed.weight"]


def test_a_hundred_million_parameters():
    with torch.device("meta"):
        module = transformer((256,), width=832, depth=12, heads=13)
    assert sum(part.numel() for part in module.parameters()) == 100_237_696 >= 1e8


def test_the_table_is_read_at_both_ends():
    pure, x = Pure(small()), some() % (SYMBOLS - 1)
    params = pure.init()

    def touched(symbol):
        other = {**params, "embed.weight": params["embed.weight"].index_fill(0, torch.tensor([symbol]), 0.0)}
        return (pure(params, x) != pure(other, x)).any(0).any(0).nonzero().flatten().tolist()

    assert touched(SYMBOLS - 1) == [SYMBOLS - 1]  # its score alone: as an input it does not occur
    assert touched(int(x[0, 0])) == list(range(SYMBOLS))


def test_no_place_sees_what_comes_after_it():
    module, x = small(), some()
    later = x.clone()
    later[:, 4:] = (later[:, 4:] + 1) % SYMBOLS
    torch.testing.assert_close(module(x)[:, :4], module(later)[:, :4])
    assert not torch.allclose(module(x)[:, 4:], module(later)[:, 4:])


def test_bytes_come_as_floats_and_shorter_texts_fit():
    module, x = small(), some()
    assert torch.equal(module(x), module(x.double()))
    torch.testing.assert_close(module(x[:, :3]), module(x)[:, :3])


def test_inside_transforms_it_computes_the_same():
    module, x = small(), some(4)
    params = Pure(module).init()

    def loss(params, x):
        return F.cross_entropy(functional_call(module, params, (x[None],))[0, :-1], x[1:])

    each = vmap(grad(loss), (None, 0))(params, x)
    for number in range(4):
        leaves = {name: part.clone().requires_grad_() for name, part in params.items()}
        parts = torch.autograd.grad(loss(leaves, x[number]), list(leaves.values()))
        for (name, got), wanted in zip(each.items(), parts, strict=True):
            torch.testing.assert_close(got[number], wanted, msg=name)


def test_sub_models_are_cut_from_the_layers_between():
    assert units(small(), (CONTEXT,)).sizes == {"blocks.0.up": 32, "blocks.1.up": 32}
    task = tasks.language(small(), shape=(CONTEXT,))
    assert algorithms.heterofl(task).view is not None
    assert algorithms.fedsep_mask(task).view is not None


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((1, 28, 28), {}, r"inputs must be sequences, shape \(places,\)"),
        ((6,), {"context": 5}, r"context must be at least 6, the places of an input \(got 5\)"),
        ((6,), {"width": 10, "heads": 4}, r"heads must divide width 10 \(got 4\)"),
        ((6,), {"depth": 0}, "depth"),
    ],
)
def test_refused(shape, options, said):
    with pytest.raises(FedSepError, match=said):
        transformer(shape, SYMBOLS, **options)


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(FedSepError, match=r"at most 6 places, the model's context \(got 7\)"):
        small()(torch.zeros(1, 7))
