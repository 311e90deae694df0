"""The memo: found by equal values, never stale, bounded, out of the way inside vmap."""

from dataclasses import dataclass

import pytest
import torch

from fedsep import memo as module
from fedsep.looking import look
from fedsep.memo import Memo


class Counter:
    def __init__(self):
        self.calls = 0

    def __call__(self, value):
        self.calls += 1
        return {"y": value * 2}


def test_equal_arguments_are_computed_once():
    memo, compute = Memo(), Counter()
    x = torch.ones(3)
    first = memo(lambda: compute(x), 0, {"x": x})
    assert memo(lambda: compute(x), 0, {"x": x.clone()}) is first
    assert compute.calls == 1


def test_another_number_value_shape_or_type_is_computed():
    memo, compute = Memo(), Counter()
    x = torch.ones(4)
    for number, value in ((0, x), (1, x), (0, 2 * x), (0, x.reshape(2, 2)), (0, x.float()), (0, x[:3])):
        result = memo(lambda value=value: compute(value), number, value)
        torch.testing.assert_close(result["y"], value * 2)
    assert compute.calls == 6
    memo(lambda: compute(x), 0, x, x)
    assert compute.calls == 7


@pytest.mark.parametrize(("device", "calls"), [(False, 2), (True, 3)], ids=["cpu", "device"])
def test_what_the_caller_does_to_its_tensors_does_not_matter(monkeypatch, device, calls):
    """On a device the tensor is kept, and what it was before it was changed is forgotten; else its values are kept."""
    monkeypatch.setattr(module, "far", lambda value: device)
    memo, compute = Memo(), Counter()
    x = torch.ones(3)
    memo(lambda: compute(x), 0, x)
    x.add_(1)
    assert memo(lambda: compute(x), 0, x)["y"].tolist() == [4.0] * 3
    assert memo(lambda: compute(torch.ones(3)), 0, torch.ones(3))["y"].tolist() == [2.0] * 3
    assert memo(lambda: compute(x), 0, torch.full((3,), 2.0))["y"].tolist() == [4.0] * 3
    assert compute.calls == calls


def test_on_a_device_the_very_tensors_are_known_without_a_look(monkeypatch):
    looked = []
    monkeypatch.setattr(module, "far", lambda value: True)
    monkeypatch.setattr(module, "look", lambda flags: looked.append(len(flags)) or look(flags))
    memo, compute = Memo(), Counter()
    x, equal = torch.ones(4, 3), torch.ones(3)
    memo(lambda: compute(x[1]), 0, x[1])
    memo(lambda: compute(x[2]), 0, x[2])  # the same values, elsewhere
    for part in (x[2], equal, equal, equal[:]):  # views of one place are the same
        memo(lambda part=part: compute(part), 0, part)
    assert compute.calls == 1
    assert [count for count in looked if count] == [1, 1]


def test_what_is_no_number_is_computed_every_time():
    memo, compute = Memo(), Counter()
    for _ in range(3):
        memo(lambda: compute(torch.full((2,), torch.nan)), 0, torch.full((2,), torch.nan))
    assert compute.calls == 3


def test_it_holds_64_mebibytes_at_most_and_the_latest_two_whatever_they_take():
    memo, compute = Memo(), Counter()
    large = [torch.full((1 << 21,), float(n)) for n in range(4)]  # 16 MiB; with its result 32
    for value in large:
        memo(lambda value=value: compute(value), 0, value)
    assert memo.nbytes() <= 1 << 26
    for value in large[-2:]:
        memo(lambda value=value: compute(value), 0, value)
    assert compute.calls == 4
    memo(lambda: compute(large[0]), 0, large[0])
    assert compute.calls == 5
    huge = [torch.zeros(1 << 22), torch.ones(1 << 22)]  # 64 MiB each with its result
    for value in huge * 2:
        memo(lambda value=value: compute(value), 0, value)
    assert compute.calls == 7


def test_inside_vmap_it_steps_aside():
    memo, compute = Memo(), Counter()
    batch = torch.arange(6.0).reshape(2, 3)
    doubled = torch.vmap(lambda x: memo(lambda: compute(x), 0, x)["y"])(batch)
    assert torch.equal(doubled, 2 * batch)
    assert not memo._calls


@dataclass(frozen=True)
class Made:
    """A result that is no tree."""

    rows: torch.Tensor
    gram: torch.Tensor


def test_what_a_result_made_of_fields_takes_is_counted():
    memo = Memo()
    for number in range(3):
        memo(lambda: Made(torch.zeros(4), torch.zeros(2, 2)), number, torch.zeros(1))
    memo(lambda: None, 3, torch.zeros(1))
    assert memo.nbytes() == 3 * (4 + 4 + 1) * 8 + 8
