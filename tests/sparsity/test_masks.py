"""Densities, masks and their positions, by their definitions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsep import models, random
from fedsep.core import FedSepError
from fedsep.sparsity import (
    Readjustment,
    erk,
    filled,
    grown_by_chance,
    grown_by_gradient,
    largest,
    part_of,
    place_code,
    prunable,
    quotas,
    random_masks,
    share_of,
)
from fedsep.sparsity.growth import shared_out
from fedsep.sparsity.places import read_masks, with_places, with_zeros, without_zeros

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)
LIKE = {"a": torch.zeros(6, 7), "bias": torch.zeros(5), "b": torch.zeros(3, 5)}


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    return {
        name: random.normal(random.fold(random.key(seed), n), *part.shape).to(torch.float64)
        for n, (name, part) in enumerate(LIKE.items())
    }


def masks(counts: tuple[int, int], seed: int = 1) -> dict[str, torch.Tensor]:
    return random_masks(weights(), ("a", "b"), counts, random.key(seed))


@given(sizes=SIZES, share=st.floats(0, 1), data=st.data())
def test_filled_reaches_its_share_and_keeps_the_proportions(sizes, share, data):
    pulls = data.draw(st.lists(st.floats(0.01, 5), min_size=len(sizes), max_size=len(sizes)))
    found = filled(dict(enumerate(pulls)), dict(enumerate(sizes)), share)
    assert sum(found[n] * size for n, size in enumerate(sizes)) == pytest.approx(share * sum(sizes), abs=1e-6)
    assert all(0 <= part <= 1 for part in found.values())
    ratios = [found[n] / pulls[n] for n in found if found[n] < 1 - 1e-6]
    assert ratios == pytest.approx([ratios[0]] * len(ratios)) if ratios else True


def test_layers_without_weight_are_filled_last():
    assert filled({"a": 0.0, "b": 1.0}, {"a": 4, "b": 4}, 0.5) == {"a": 0.0, "b": 1.0}
    assert filled({"a": 0.0, "b": 1.0}, {"a": 4, "b": 4}, 0.75) == pytest.approx({"a": 0.5, "b": 1.0})


def test_erk_by_hand():
    """Of a 10 x 20 layer 30/200 and of a 4 x 2 x 3 x 3 kernel 12/72 are the quotients: sparsity goes as .85 and 5/6."""
    layers = [torch.zeros(10, 20), torch.zeros(4, 2, 3, 3)]
    c = 0.6 * 272 / (0.85 * 200 + 5 / 6 * 72)
    assert erk(layers, 0.4) == pytest.approx([1 - 0.85 * c, 1 - 5 / 6 * c])
    assert erk(layers, 1.0) == [1.0, 1.0]


@given(density=st.floats(0.02, 1))
def test_erk_keeps_the_density_of_the_whole(density):
    layers = [torch.zeros(32, 1, 3, 3), torch.zeros(32, 32, 3, 3), torch.zeros(3, 1), torch.zeros(10, 288)]
    found = erk(layers, density)
    total = sum(layer.numel() for layer in layers)
    assert sum(d * layer.numel() for d, layer in zip(found, layers, strict=True)) == pytest.approx(density * total)


def test_no_layer_is_empty():
    assert quotas([0.0, 0.001, 0.5, 1.0], [4, 10, 5, 3]) == [1, 1, 2, 3]


def test_shares_of_capability():
    assert [share_of(scale, 0.25) for scale in ("constant", "width", "params")] == [1.0, 0.25, 0.0625]


def test_what_is_level_is_chosen_by_the_second_merit_and_then_by_position():
    score = torch.tensor([[2.0, 1.0, 1.0], [0.5, 1.0, 1.0]])
    assert largest(score, 3).tolist() == [[1, 1, 1], [0, 0, 0]]
    then = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 7.0]])
    assert largest(score, 3, then).tolist() == [[1, 1, 0], [0, 0, 1]]
    assert largest(score, 0).sum() == 0
    assert largest(score, 6).sum() == 6


@given(first=st.tuples(*2 * [st.integers(1, 45)]), more=st.tuples(*2 * [st.integers(0, 9)]))
def test_fewer_weights_lie_inside_more(first, more):
    held, second = masks((20, 9)), [a + b for a, b in zip(first, more, strict=True)]
    few, many = part_of(weights(), held, first), part_of(weights(), held, second)
    for name in held:
        assert ((few[name] <= many[name]) & (many[name] <= held[name])).all()
    assert [int(mask.sum()) for mask in few.values()] == [min(first[0], 20), min(first[1], 9)]


@given(part=st.floats(0, 1), counts=st.tuples(st.integers(1, 42), st.integers(1, 15)), seed=st.integers(0, 99))
def test_growth_by_chance_keeps_the_number_and_grows_zeros_only(part, counts, seed):
    before, y = masks(counts), weights()
    after = grown_by_chance(y, before, part, random.key(seed))
    assert sum(int(mask.sum()) for mask in after.values()) == sum(counts)
    for name, mask in after.items():
        gone, stays = (before[name] > mask), (before[name] > 0) & (mask > 0)
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        assert bool(mask.sum() > 0)
        if gone.any():
            assert y[name].abs()[gone].max() <= y[name].abs()[stays].min()


def test_growth_by_chance_moves_as_many_as_it_is_told():
    before = masks((20, 10))
    after = grown_by_chance(weights(), before, 0.3, random.key(2))
    gone = {name: int((before[name] > after[name]).sum()) for name in before}
    assert gone == {"a": 6, "b": 3}
    assert sum(int((after[name] > before[name]).sum()) for name in before) == 9


def test_growth_by_gradient_exchanges_the_smallest_for_the_zeros_of_largest_gradient():
    y = {"w": torch.tensor([[5.0, 0.1, 0.0, 0.0], [4.0, 0.2, 0.0, 0.0]])}
    mask = {"w": torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])}
    gradient = {"w": torch.tensor([[9.0, 9.0, 0.1, -3.0], [9.0, 9.0, 2.0, 0.5]])}
    assert grown_by_gradient(y, mask, gradient, 0.25)["w"].tolist() == [[1, 0, 0, 1], [1, 1, 0, 0]]
    assert grown_by_gradient(y, mask, gradient, 0.5)["w"].tolist() == [[1, 0, 0, 1], [1, 0, 1, 0]]


def test_a_model_without_zeros_does_not_move():
    full = {name: torch.ones_like(weights()[name]) for name in ("a", "b")}
    moved = grown_by_chance(weights(), full, 0.5, random.key(0)), grown_by_gradient(weights(), full, weights(1), 0.5)
    assert all(torch.equal(each[name], full[name]) for each in moved for name in full)


@given(total=st.integers(0, 30), data=st.data())
def test_shares_add_up_and_fit(total, data):
    room = dict(enumerate(data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=5))))
    pulls = {n: data.draw(st.floats(0.01, 9)) for n in room}
    wanted = min(total, sum(room.values()))
    shares = shared_out(wanted, {str(n): p for n, p in pulls.items()}, {str(n): r for n, r in room.items()})
    assert sum(shares.values()) == wanted
    assert all(0 <= shares[str(n)] <= count for n, count in room.items())


def test_when_masks_move():
    cosine = Readjustment(0.4, every=2, until=8)
    assert [cosine.part(n) for n in (1, 3, 8, 10)] == [0, 0, 0, 0]
    assert [cosine.part(n) for n in (0, 2, 4)] == pytest.approx([0.4, 0.2 * (1 + 2**-0.5), 0.2])
    assert [Readjustment(0.4, until=4, decay="linear").part(n) for n in range(5)] == pytest.approx(
        [0.4, 0.3, 0.2, 0.1, 0]
    )
    assert [Readjustment(0.4, start=1).part(n) for n in range(3)] == [0, 0.4, 0.4]
    assert Readjustment(0.4, every=0).part(0) == 0


@pytest.mark.parametrize("name", ["bitmask", "int32", "packed", "golomb"])
@pytest.mark.parametrize("counts", [(1, 1), (20, 9), (42, 15), (42, 3)])
def test_kept_weights_and_their_positions_come_back(name, counts):
    code, held, y = place_code(name), masks(counts), weights()
    inside = {n: y[n] * held[n] if n in held else y[n] for n in y}
    kept = with_places(without_zeros(y, held), held, code)
    assert [len(kept["values"][n]) for n in held] == list(counts)
    read = read_masks(kept, kept["places"], LIKE, code)
    assert all(torch.equal(read[n], held[n]) for n in held)
    back = with_zeros(kept, read, LIKE)
    assert list(back) == list(y)
    assert all(torch.equal(back[n], inside[n]) for n in y)


def test_a_layer_that_is_kept_whole_has_no_positions():
    for code in map(place_code, ("bitmask", "int32", "packed", "golomb")):
        part, some, every = (
            with_places(without_zeros(weights(), masks(counts)), masks(counts), code, whole=whole)["places"]
            for counts, whole in (((42, 3), False), ((42, 15), False), ((42, 15), True))
        )
        assert (list(part), some, list(every)) == (["b"], {}, ["a", "b"])
        assert [at.numel() for at in every.values()] == [0, 0]
        assert every["b"].dtype == part["b"].dtype


@pytest.mark.parametrize("at", [[-1, 2, 3], [0, 2, 15], [3, 2, 1], [1, 1, 2]])
def test_positions_that_are_none_are_refused(at):
    held = masks((42, 3))
    kept = with_places(without_zeros(weights(), held), held, place_code("int32"))
    with pytest.raises(FedSepError, match="not increasing numbers below 15"):
        read_masks(kept, {"b": torch.tensor(at, dtype=torch.int32)}, LIKE, place_code("int32"))


def test_which_layers_are_sparse():
    params = {n: p.detach() for n, p in models.cnn((1, 28, 28), 10, width=4).named_parameters()}
    assert prunable("m", params, "weights") == tuple(n for n in params if n.endswith("weight"))
    assert prunable("m", params, "convolutions") == tuple(n for n in params if n.startswith("conv") and "weight" in n)
    with pytest.raises(FedSepError, match="zerofl: layers is 'convolutions', and the model has no convolution"):
        prunable("zerofl", LIKE, "convolutions")
    with pytest.raises(FedSepError, match="no parameter of two dimensions"):
        prunable("zerofl", {"b": torch.zeros(3)}, "weights")
