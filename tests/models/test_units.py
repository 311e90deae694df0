"""The table of units: derived from one forward pass or declared, and refused where a slice would not be a sub-model."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedsep import random
from fedsep.core import FedSepError
from fedsep.models import cnn, mlp, resnet, small_cnn
from fedsep.models.units import Axis, Units, kept, places, sliced_at, units
from fedsep.tasks.pure import Pure

IMAGE = (1, 8, 8)


class Residual(nn.Module):
    """A stem, a block around which it is added, and a head on flattened maps."""

    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.inner = nn.Conv2d(6, 4, 3, padding=1)
        self.outer = nn.Conv2d(4, 6, 3, padding=1)
        self.norm = norm or nn.Identity()
        self.head = nn.Linear(6 * 16, 3)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.outer(torch.sigmoid(self.inner(x)))
        return self.head(F.max_pool2d(self.norm(x), 2).flatten(1))


TIED = {
    "stem.weight": ("stream", None, None, None), "stem.bias": ("stream",),
    "inner.weight": ("inner", "stream", None, None), "inner.bias": ("inner",),
    "outer.weight": ("stream", "inner", None, None), "outer.bias": ("stream",),
    "head.weight": (None, "stream"),
}  # fmt: skip


def some(table: Units, share: float, seed: int = 0):
    """Random units of every group."""
    return {g: random.permutation(random.fold(random.key(seed), i), n)[: kept(n, share)]
            for i, (g, n) in enumerate(table.sizes.items())}  # fmt: skip


def test_a_residual_sum_ties_what_it_adds():
    table = units(Residual(), IMAGE)
    assert table.sizes == {"stem": 6, "inner": 4}
    assert table.axes["outer.weight"][:2] == (Axis("stem"), Axis("inner"))
    assert table.axes["head.weight"] == (None, Axis("stem", inner=16))
    assert table.outputs == ("head.weight", "head.bias")
    assert table.members("stem") == ["stem", "inner", "outer", "head"]


def test_a_table_written_by_hand_is_the_derived_one_under_other_names():
    derived, declared = units(Residual(), IMAGE), units(Residual(), IMAGE, declare=TIED)
    names = {"stem": "stream", "inner": "inner", None: None}
    renamed = {p: tuple(a and a._replace(group=names[a.group]) for a in axes) for p, axes in derived.axes.items()}
    assert renamed == declared.axes
    assert declared.outputs == derived.outputs


class HeadFirst(nn.Module):
    """The head is registered first, and its scores are normalised by what is registered last."""

    def __init__(self, norm=False, flip=False):
        super().__init__()
        self.head, self.body = nn.Linear(4, 3), nn.Linear(5, 4)
        self.norm = nn.LayerNorm(3) if norm else nn.Identity()
        self.flip = flip

    def forward(self, x):
        x = self.norm(self.head(torch.relu(self.body(x))))
        return torch.flip(x, (1,)).flip(1) if self.flip else x


@pytest.mark.parametrize("norm", [False, True])
def test_a_table_written_by_hand_finds_its_outputs_in_the_forward_pass(norm):
    """Where an operation on the way is not known, by the order of the parameters."""
    rows = {"body.weight": ("body", None), "body.bias": ("body",), "head.weight": (None, "body")}
    derived, declared = (units(HeadFirst(norm), (5,), **how) for how in ({}, {"declare": rows}))
    assert declared.outputs == derived.outputs
    assert declared.outputs == ("head.weight", "head.bias", *(["norm.weight", "norm.bias"] if norm else []))
    lost = units(HeadFirst(norm, flip=True), (5,), declare=rows)
    assert lost.outputs == (("norm.weight", "norm.bias") if norm else ())


class Turned(nn.Module):
    """Kernels that lie (in, out): a transposed convolution, and a matrix on the right."""

    def __init__(self):
        super().__init__()
        self.conv, self.up = nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 6, 3)
        self.mix, self.head = nn.Parameter(torch.randn(6, 5)), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(torch.relu(self.up(torch.relu(self.conv(x)))).mean((2, 3)) @ self.mix)


def test_units_are_made_by_the_second_dimension_of_kernels_that_lie_in_out():
    module = Turned()
    for how in ({}, {"declare": {
        "conv.weight": ("conv", None, None, None), "conv.bias": ("conv",), "up.weight": ("conv", "up", None, None),
        "up.bias": ("up",), "mix": ("up", "mix"), "head.weight": (None, "mix"),
    }}):  # fmt: skip
        table = units(module, IMAGE, **how)
        assert set(table.in_first) == {"up.weight", "mix"}
        ones = {name: torch.ones_like(part) for name, part in Pure(module).init().items()}
        conv, up, mix = (table.axes[name][dim].group for name, dim in (("conv.bias", 0), ("up.bias", 0), ("mix", 1)))
        made = {group: part.tolist() for group, part in table.sums(ones).items()}
        assert made == {conv: [10.0] * 4, up: [37.0] * 6, mix: [6.0] * 5}
        assert table.inner().sizes == table.sizes
        assert table.inner().in_first == table.in_first
        weights = {group: torch.arange(1.0, n + 1) for group, n in table.sizes.items()}
        spread = table.weigh(ones, weights)
        assert torch.equal(spread["up.weight"].expand(4, 6, 3, 3)[0, :, 0, 0], weights[up])
        assert torch.equal(spread["mix"].expand(6, 5)[0], weights[mix])


class Words(nn.Module):
    """An embedding whose columns are units, and whose table may read them again."""

    def __init__(self, tied=False, added=False):
        super().__init__()
        self.table, self.head, self.more = nn.Embedding(11, 6), nn.Linear(6, 3), nn.Linear(6, 6)
        self.scale, self.tied, self.added = nn.Parameter(torch.ones(6)), tied, added

    def forward(self, x):
        x = self.table(x.long()).mean(1) * self.scale
        x = x + self.more(x) if self.added else x
        return F.linear(x, self.table.weight) if self.tied else self.head(x)


TOKENS = torch.arange(12.0).reshape(3, 4) % 11


def test_an_embedding_makes_the_units_of_its_columns():
    assert units(Words(), TOKENS).in_first == ("table.weight",)
    assert units(Words(tied=True), TOKENS).in_first == ()
    assert units(Words(), TOKENS).inner().sizes == {"scale": 6}
    with pytest.raises(FedSepError, match="no group of the model's units is made by one kernel alone"):
        units(Words(added=True), TOKENS).inner()


def test_it_works_for_the_shipped_models():
    assert not units(resnet((3, 8, 8), 10, width=2), (3, 8, 8)).in_first
    assert units(cnn((1, 16, 16), 3, width=4), (1, 16, 16)).sizes == dict.fromkeys(
        ["conv1", "conv2", "conv3", "conv4"], 4
    )
    assert units(mlp((5,), 3, hidden=(4, 6)), (5,)).sizes == {"layer1": 4, "layer2": 6}
    assert units(small_cnn(IMAGE, 3, pool=1), IMAGE).sizes == {"convs.0": 16, "convs.1": 32, "convs.2": 32}


def test_the_twelve_groups_of_resnet_18():
    """Stem and every conv2 of the first stage are one group; so are conv2 and shortcut of the others."""
    table = units(resnet((3, 8, 8), 10, width=2), (3, 8, 8))
    assert sorted(table.sizes.values()) == sorted([2, 4, 8, 16] * 3)
    stream = {name for name, axes in table.axes.items() if axes[0] == Axis("stem")}
    assert {"stem.weight", "stages.0.0.conv2.weight", "stages.0.1.conv2.weight"} <= stream
    assert table.axes["stages.2.0.shortcut.weight"][:2] == (Axis("stages.2.0.conv2"), Axis("stages.1.0.conv2"))
    assert table.axes["stages.2.0.conv2.weight"][0] == Axis("stages.2.0.conv2")


def test_layers_of_other_kinds_are_followed():
    module = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6, track_running_stats=False), nn.PReLU(6), nn.AvgPool2d(2),
        nn.ConvTranspose2d(6, 8, 2), nn.GroupNorm(2, 8), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 2),
    )  # fmt: skip
    table = units(module, IMAGE)
    assert table.sizes == {"0": 6, "4": 8, "9": 5}
    assert table.axes["2.weight"] == (Axis("0"),)
    assert table.axes["4.weight"][:2] == (Axis("0"), Axis("4"))
    assert table.divisors == {"4": ((2, "5"),)}


class Pooled(nn.Module):
    """Images lie channels last, which torch's pooling to one place says once more of what it gives."""

    def __init__(self, at_last):
        super().__init__()
        self.conv, self.head, self.at_last = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), at_last

    def forward(self, x):
        x = self.conv(x.contiguous(memory_format=torch.channels_last)).relu()
        return self.head(self.at_last(x))


def test_images_that_lie_channels_last_may_be_pooled_to_one_place():
    def pooled(x):
        return nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)

    def every_other(x):
        return torch.as_strided(x.contiguous(), (len(x), 4), (36, 9))

    assert units(Pooled(pooled), (3, 5, 5)).sizes == {"conv": 4}

    def shuffled(x):
        maps = nn.functional.avg_pool2d(x, 3)
        return torch.as_strided(maps, maps.shape, (1, len(x), 1, 1)).flatten(1)

    for wrong in (every_other, shuffled):
        with pytest.raises(FedSepError, match="it is not known what torch's as_strided does"):
            units(Pooled(wrong), (3, 5, 5))


@pytest.mark.parametrize(("break_it", "says"), [
    ({"outer.weight": ("other", "inner", None, None), "outer.bias": ("other",)}, r"group 'stream' \(layers stem"),
    ({"outer.weight": (None, "inner", None, None), "outer.bias": (None,)}, r"run: the module itself.*tensor a"),
    ({"inner.weight": ("inner", None, None, None)}, r"does not run: inner \(Conv2d\)"),
    ({"head.weight": ("inner", "stream")}, r"has 4 places.*3 units of group 'inner' .dimension 0 of head.weight"),
    ({"outer.weight": ("inner", "stream", None, None)}, r"has 6 places.*4 units of group 'stream' .dimension 1 of ou"),
    ({"outer.weights": ("inner",)}, r"'outer.weights', which is no parameter \(did you mean 'outer.weight'"),
    ({"outer.bias": ("stream", None)}, r"gives 2 groups for outer.bias, of shape \(6,\)"),
])  # fmt: skip
def test_a_wrong_or_missing_tie_is_refused_with_the_layers_name(break_it, says):
    with pytest.raises(FedSepError, match=says):
        units(Residual(), IMAGE, declare={**TIED, **break_it})


class Last(nn.Module):
    """Channels come last before the maps are flattened: a unit's places do not lie one after the other."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 2)

    def forward(self, x):
        return self.head(self.conv(x).relu().permute(0, 2, 3, 1).flatten(1))


def test_a_layout_is_derived_and_a_wrong_one_is_seen_by_its_values():
    derived = units(Last(), IMAGE)
    assert derived.axes["head.weight"] == (None, Axis("conv", outer=36))
    rest = {"conv.weight": ("conv", None, None, None), "conv.bias": ("conv",)}
    declared = units(Last(), IMAGE, declare={**rest, "head.weight": (None, Axis("conv", outer=36))})
    assert declared == derived
    with pytest.raises(FedSepError, match=r"does not compute.*in group 'conv' \(layers conv, head\)"):
        units(Last(), IMAGE, declare={**rest, "head.weight": (None, "conv")})


@pytest.mark.parametrize(("module", "says"), [
    (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(64, 2)),
     r"1 \(Conv2d\): its number of groups is fixed"),
    (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Softmax(1), nn.Flatten(), nn.Linear(144, 2)), r"1 \(Softmax\)"),
    (nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.LayerNorm(4), nn.Linear(4, 2)), r"2 \(LayerNorm\) says"),
    (nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4).eval(), nn.Flatten(), nn.Linear(144, 2)),
     r"1 \(BatchNorm2d\): it combines units with numbers that are no parameters"),
    (nn.Sequential(nn.Conv2d(1, 4, 3), nn.PixelShuffle(2), nn.Flatten(), nn.Linear(144, 2)), r"1 \(PixelShuffle\)"),
])  # fmt: skip
def test_an_unsupported_layer_is_refused_with_its_name_and_what_to_declare(module, says):
    with pytest.raises(FedSepError, match=f"{says}[\\s\\S]*(declare=|whole=)"):
        units(module, IMAGE)


def test_what_meets_a_layer_that_cannot_be_followed_can_be_kept_whole():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 6, 3), nn.Flatten(),
                           nn.Linear(24, 2))  # fmt: skip
    assert units(module, IMAGE, whole=["1"]).sizes == {"2": 6}
    norm = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.LayerNorm(4), nn.Linear(4, 5), nn.Linear(5, 2))
    assert units(norm, IMAGE, whole=["2"]).sizes == {"3": 5}
    with pytest.raises(FedSepError, match="whole must name layers"):
        units(module, IMAGE, whole=["nothing"])


def between(layer, **how):
    """A layer between two convolutions, and two more groups behind them."""
    return units(nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False), layer, nn.Conv2d(6, 8, 3, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 2)), IMAGE, **how)  # fmt: skip


@pytest.mark.parametrize("layer", [
    nn.InstanceNorm2d(6, affine=True), nn.LocalResponseNorm(3), nn.Hardshrink(), nn.Softmax2d(), nn.ChannelShuffle(2),
])  # fmt: skip
def test_a_layer_that_is_not_understood_does_not_keep_its_units_whole_unasked(layer):
    """Where one dimension of a kernel makes them and another one reads them, too."""
    told = rf"  - 1 \({type(layer).__name__}\): [\s\S]*whole=\['1'\], or write the table"
    with pytest.raises(FedSepError, match=told):
        between(layer)
    assert between(layer, whole=["1"]).sizes == {"2": 8, "5": 5}


class Parted(nn.Module):
    """What a layer gives is taken apart behind it."""

    def __init__(self, layer, width):
        super().__init__()
        self.first, self.layer, self.second, self.head = nn.Linear(8, 6), layer, nn.Linear(width, 5), nn.Linear(5, 2)

    def forward(self, x):
        out = self.layer(self.first(x[:, 0]))
        return self.head(self.second((out[0] if isinstance(out, tuple) else out)[:, -1]))


@pytest.mark.parametrize(("layer", "width"), [(nn.LSTM(6, 7, batch_first=True), 7), (nn.Hardshrink(), 6)])
def test_what_a_layer_gives_that_is_kept_whole_may_be_taken_apart(layer, width):
    """The layer alone is named, and not what is done with its outputs."""
    with pytest.raises(FedSepError, match=rf"belong together:\n  - layer \({type(layer).__name__}\): .*\nkeep"):
        units(Parted(layer, width), IMAGE)
    assert units(Parted(layer, width), IMAGE, whole=["layer"]).sizes == {"second": 5}


def test_numbers_that_are_taken_out_of_a_parameter_are_no_units():
    """Weights of branches: nothing counts them."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix, self.one, self.two = nn.Parameter(torch.ones(2)), nn.Linear(64, 6), nn.Linear(64, 6)
            self.head = nn.Linear(6, 2)

        def forward(self, x):
            mix = self.mix.softmax(0)
            return self.head(mix[0] * self.one(x.flatten(1)) + mix[1] * self.two(x.flatten(1)))

    assert units(Mixed(), IMAGE).sizes == {"one": 6}


def test_with_only_a_layer_that_is_not_understood_it_is_named():
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.LocalResponseNorm(3), nn.Flatten(), nn.Linear(6 * 36, 2))
    with pytest.raises(FedSepError, match=r"1 \(LocalResponseNorm\): it pads .*\n.*whole=\['1'"):
        units(net, IMAGE)


def test_a_model_without_hidden_units_is_refused():
    with pytest.raises(FedSepError, match="no layer between its inputs and outputs"):
        units(nn.Linear(4, 2), (4,))


def test_groups_of_a_normalisation_must_divide_what_is_kept():
    table = units(Residual(nn.GroupNorm(3, 6)), IMAGE)
    assert sliced_at(table, 1.0) == sliced_at(table, 0.5) == []
    [said] = sliced_at(table, 0.25)
    assert "norm has 3 groups, which do not divide the 2 channels of 6" in said
    assert sliced_at(units(Residual(nn.GroupNorm(3, 6)), IMAGE, declare={**TIED, "norm.weight": ("stream",),
                                                                       "norm.bias": ("stream",)}), 0.25)  # fmt: skip


def test_at_least_one_unit_is_kept_and_rounding_errors_add_none():
    assert [kept(8, p) for p in (1, 0.5, 1 / 16)] == [8, 4, 1]
    assert kept(100, 0.55) == 55  # 0.55 * 100 is 55.00000000000001
    assert kept(64, 0.6) == 39


def test_places_of_a_block_of_units():
    assert places(Axis("g", 2, 3), 4, torch.tensor([2, 0])).tolist() == [6, 7, 8, 0, 1, 2, 18, 19, 20, 12, 13, 14]


def test_cut_of_paste_is_the_identity_and_paste_touches_nothing_else():
    table, params = units(Residual(), IMAGE), Pure(Residual()).init()
    keep = some(table, 0.5)
    part = table.cut(params, keep)
    pasted, cover = table.paste(part, params, keep), table.cover(params, keep)
    for name in params:
        assert torch.equal(table.cut(pasted, keep)[name], part[name])
        assert torch.equal(pasted[name], params[name] * cover[name])
        assert int(cover[name].sum()) == part[name].numel()


def _networks(widths, stages, norm, scaler):
    if stages:
        return resnet((2, 8, 8), 3, blocks=stages, width=widths[0], norm=norm, scaler=scaler), (2, 8, 8)
    return small_cnn((2, 8, 8), 3, widths=widths, pool=1, scaler=scaler), (2, 8, 8)


@settings(max_examples=12)
@given(
    widths=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    stages=st.sampled_from([(), (1,), (2,), (1, 2), (2, 1)]),
    norm=st.sampled_from(["static", "group", "none"]),
    scaler=st.booleans(),
    share=st.floats(0.05, 1.0),
    seed=st.integers(0, 99),
)
def test_slices_of_random_networks_run_and_come_back_to_their_places(widths, stages, norm, scaler, share, seed):
    if max(widths) == 1 or (stages and widths[0] == 1 and len(stages) == 1):
        return  # nothing to slice
    module, shape = _networks(widths, stages, norm, scaler)
    table, model = units(module, shape), Pure(module)
    params, keep = model.init(), some(table, share, seed)
    part = table.cut(params, keep)
    assert model(part, random.normal(random.key(seed), 3, *shape)).shape == (3, 3)
    pasted, cover = table.paste(part, params, keep), table.cover(params, keep)
    assert all(torch.equal(table.cut(pasted, keep)[name], part[name]) for name in params)
    assert all(torch.equal(pasted[name], params[name] * cover[name]) for name in params)
