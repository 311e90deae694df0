"""Law: what fewer clients than a robust reduction withstands send does not take it out of the others' range."""

import numpy as np
import pytest
import torch
from catalogue import network, shards
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsep import random, tree
from fedsep.algorithms import fedavg, scaffold
from fedsep.core import FedSepError, Update
from fedsep.recipes import from_tree
from fedsep.recipes.text import parse
from fedsep.servers import (
    Optimize,
    coordinate_median,
    coverage_mean,
    mean,
    norm_clipping,
    reduced,
    sgd,
    trimmed_mean,
)
from fedsep.testing import algorithms, check_server
from fedsep.testing.draws import random_like

ROBUST = {"median": coordinate_median(), "trimmed": trimmed_mean(trim=2), "clipped": norm_clipping(1.0),
          "clipped, then trimmed": norm_clipping(1.0, reduce=trimmed_mean())}  # fmt: skip
LIKE = {"w": torch.zeros(2, 3), "b": torch.zeros(4)}


def updates(count, seed=0):
    return [Update(random_like(LIKE, 50 * seed + n), 1.0 + n % 3) for n in range(count)]


def column(given, name):
    return torch.stack([update.value[name] for update in given])


@pytest.mark.parametrize("reduce", ROBUST.values(), ids=ROBUST.keys())
def test_servers_with_it_keep_the_laws_of_servers(reduce):
    check_server(Optimize(reduce=reduce), network.init(), clients=7)
    check_server(Optimize({"model": reduced(reduce, rule=sgd(momentum=0.5))}), {"model": network.init()}, clients=3)
    assert reduce(iter(())) is None


@settings(max_examples=30)
@given(
    honest=st.integers(3, 8), wrong=st.integers(0, 2), size=st.sampled_from([1e-3, 1.0, 1e30]), seed=st.integers(0, 99)
)
def test_wrong_clients_do_not_take_it_out_of_the_range_of_the_others(honest, wrong, size, seed):
    good = updates(honest, seed)
    bad = [Update(tree.scale(random_like(LIKE, 1000 + seed + n), size), 1e9) for n in range(wrong)]
    for reduce in (coordinate_median(), trimmed_mean(trim=2)):
        if isinstance(reduce, type(coordinate_median())) and honest <= wrong:
            continue
        found = reduce(good + bad) if seed % 2 else reduce(bad + good)
        for name, part in found.items():
            values = column(good, name)
            assert bool(((values.amin(0) <= part) & (part <= values.amax(0))).all())
    clipped = norm_clipping(0.5)(good + bad)
    assert float(tree.norm(clipped)) <= 0.5 * (1 + 1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
def test_they_are_what_their_papers_say(count):
    given = updates(count)
    for name in LIKE:
        values = column(given, name).numpy()
        np.testing.assert_allclose(coordinate_median()(given)[name], np.median(values, 0), rtol=1e-14)
        for trim in (1, 2):
            inner = np.sort(values, 0)[trim : count - trim] if count > 2 * trim else None
            wanted = np.median(values, 0) if inner is None else inner.mean(0)
            np.testing.assert_allclose(trimmed_mean(trim=trim)(given)[name], wanted, rtol=1e-12, atol=1e-15)


def test_a_coordinate_is_reduced_over_those_that_hold_it():
    covers = [{name: (random.uniform(random.fold(random.key(n), k), *part.shape) < 0.5).double()
               for k, (name, part) in enumerate(LIKE.items())} for n in range(6)]  # fmt: skip
    for cover in covers:
        cover["b"][0] = 0.0
    given = [Update({k: u.value[k] * c[k] for k in LIKE}, 1.0, c) for u, c in zip(updates(6), covers, strict=True)]
    median, trimmed = coordinate_median()(given), trimmed_mean(trim=1)(given)
    for name, part in LIKE.items():
        for place in range(part.numel()):
            pairs = [(u.value[name].reshape(-1)[place], u.cover[name].reshape(-1)[place]) for u in given]
            values = np.sort([float(value) for value, cover in pairs if cover > 0])
            wanted = float(np.median(values)) if len(values) else 0.0
            between = float(values[1:-1].mean()) if len(values) > 2 else wanted
            assert float(median[name].reshape(-1)[place]) == pytest.approx(wanted)
            assert float(trimmed[name].reshape(-1)[place]) == pytest.approx(between)


def test_short_changes_are_left_as_they_are_and_long_ones_keep_their_direction():
    given = updates(5)
    torch.testing.assert_close(norm_clipping(1e6)(given), mean(given), rtol=0, atol=0)
    long = norm_clipping(0.1, reduce=coverage_mean)(given[:1])
    torch.testing.assert_close(long, tree.scale(given[0].value, 0.1 / float(tree.norm(given[0].value))))


def test_the_trimmed_mean_holds_a_few_replies_however_many_come():
    taken = []

    def one_by_one():
        for n in range(40):
            assert len(taken) == n
            taken.append(n)
            yield Update({"w": torch.full((3,), float(n))})

    assert trimmed_mean(trim=3)(one_by_one())["w"].tolist() == [19.5] * 3


def test_methods_take_them_by_their_rule_and_recipes_by_name():
    method = fedavg(network, steps=1, batch_size=4, server=reduced(coordinate_median()))
    algorithms.check_algorithm(method, network, shards(network, 3))
    text = """
    rounds: 1
    data: {use: fedsep.data.digits}
    model: {use: fedsep.models.mlp}
    method:
      use: fedsep.algorithms.fedavg
      server: {use: fedsep.servers.reduced, reduce: {use: fedsep.servers.trimmed_mean, trim: 2}}
    """
    call = from_tree(parse(text, "r.yaml"), "r.yaml").methods["fedavg"]
    assert call.build({"task": network}).server == Optimize(reduced(trimmed_mean(trim=2)))


def test_what_cannot_be_reduced_so_is_refused():
    with pytest.raises(FedSepError, match="server must be a rule without a reduction of its own"):
        scaffold(network, clients=3, server=reduced(coordinate_median()))
    with pytest.raises(FedSepError, match="reduce must be one for all parts"):
        Optimize({"a": reduced(coordinate_median()), "b": sgd()})
    with pytest.raises(FedSepError, match="trim must be >= 1"):
        trimmed_mean(trim=0)
    with pytest.raises(FedSepError, match="norm must be > 0"):
        norm_clipping(0.0)
