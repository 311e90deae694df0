from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedsep import random
from fedsep.core import FedSepError
from fedsep.data import blocks, classes, dirichlet, iid, natural, sizes
from fedsep.data.balanced import assign
from fedsep.data.parts import by_owner
from fedsep.data.rules import Pool
from fedsep.data.transport import components, edges, flow, shares

SEEDS = st.integers(0, 2**31)


def pool(counts, seed, group=None):
    """Samples of each class in a jumbled order."""
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = labels[np.random.default_rng(seed).permutation(len(labels))]
    return Pool(labels, len(counts), random.key(seed), group)


def held(owner, given, clients):
    """Samples by client and class."""
    table = np.zeros((clients, given.classes), int)
    np.add.at(table, (owner[owner >= 0], given.labels[owner >= 0]), 1)
    return table


def within_one(numbers):
    return numbers.max() - numbers.min() <= 1


@st.composite
def class_counts(draw, low=30, high=45):
    return draw(st.lists(st.integers(low, high), min_size=2, max_size=8))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 20), SEEDS)
def test_iid_deals_everything_in_equal_shares(counts, clients, seed):
    given_pool = pool(counts, seed)
    assume(clients <= len(given_pool.labels))
    owner = iid().deal(given_pool, clients)
    assert owner.min() >= 0
    assert within_one(np.bincount(owner, minlength=clients))
    assert (owner == iid().deal(given_pool, clients)).all()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 20), SEEDS)
def test_blocks_keeps_neighbours_together_in_equal_shares(counts, clients, seed):
    given_pool = pool(counts, seed)
    assume(clients <= len(given_pool.labels))
    owner = blocks().deal(given_pool, clients)
    assert owner.min() >= 0
    assert (np.diff(owner) >= 0).all()
    assert within_one(np.bincount(owner, minlength=clients))


@settings(max_examples=80)
@given(class_counts(), st.integers(2, 8), st.integers(1, 4), SEEDS)
def test_balanced_gives_exactly_k_classes_and_equal_sizes_and_drops_nothing(counts, k, times, seed):
    k = min(k, len(counts))
    clients = times * len(counts) // np.gcd(k, len(counts))
    holders = clients * k // len(counts)
    assume(holders >= 2)
    given_pool = pool(counts, seed)
    assume(holders <= min(counts))
    owner = classes(k).deal(given_pool, clients)
    table = held(owner, given_pool, clients)
    assert owner.min() >= 0
    assert ((table > 0).sum(axis=1) == k).all()
    assert ((table > 0).sum(axis=0) == holders).all()
    assert within_one(table.sum(axis=1))
    assert (owner == classes(k).deal(given_pool, clients)).all()


@given(st.integers(1, 9), st.integers(2, 9), st.integers(1, 6), SEEDS)
def test_classes_are_dealt_k_to_a_client_and_equally_often_in_one_component(k, total, times, seed):
    k = min(k, total)
    clients = times * total // int(np.gcd(k, total))
    cards = assign(random.key(seed), clients, k, np.arange(1, total + 1), even=seed % 2 == 1)
    assert all(len(set(row)) == k for row in cards.tolist())
    assert set(np.bincount(cards.reshape(-1), minlength=total)) == {clients * k // total}
    if k > 1 and clients * k > total:
        assert components(cards, total)[0] == 1


@given(st.lists(st.lists(st.integers(1, 9), min_size=3, max_size=3), min_size=2, max_size=6), SEEDS)
def test_equal_shares_are_found_wherever_there_are_some(amounts, seed):
    """Amounts that exist by construction on a complete graph: then shares must find amounts of the same margins."""
    table = np.array(amounts)
    graph = edges(np.tile(np.arange(3), (len(table), 1)))
    found = shares(graph, table.sum(axis=0), table.sum(axis=1))
    assert found is not None
    assert found.min() >= 1
    assert (np.bincount(graph.label, weights=found) == table.sum(axis=0)).all()
    assert (np.bincount(graph.client, weights=found) == table.sum(axis=1)).all()


def test_flow_says_so_when_there_is_no_solution():
    graph = edges(np.array([[0], [1]]))
    one = np.ones(2, np.int64)
    assert flow(graph, np.array([3, 5]), np.array([4, 4]), one, 9 * one) is None
    assert flow(graph, np.array([3, 5]), np.array([3, 5]), one, 9 * one).tolist() == [3, 5]


def test_balanced_keeps_an_even_split_where_classes_are_equal():
    given_pool = pool([60] * 10, 1)
    table = held(classes(2).deal(given_pool, 20), given_pool, 20)
    assert set(table[table > 0]) == {15}


@pytest.mark.parametrize(("clients", "k"), [(10, 2), (20, 2), (10, 5)])
def test_balanced_moves_no_more_than_it_must_where_classes_are_unequal(clients, k):
    """Sizes like those of MNIST: no client gets a few samples of one class and nearly all of another."""
    given_pool = pool([592, 674, 596, 613, 584, 542, 592, 627, 585, 595], 1)
    table = held(classes(k).deal(given_pool, clients), given_pool, clients)
    assert table[table > 0].min() > 0.6 * 6000 / clients / k


def test_balanced_with_one_class_each_where_classes_are_equal_but_do_not_divide():
    given_pool = pool([5, 5, 5], 3)
    table = held(classes(1).deal(given_pool, 6), given_pool, 6)
    assert sorted(table.sum(axis=1)) == [2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("counts", "clients", "k", "words"),
    [
        ([20] * 10, 7, 3, "k does not divide: clients x k must be a multiple of the 10 classes"),
        ([20] * 10, 10, 11, "k must be at most the 10 classes of the data (got 11)"),
        ([20, 20, 3, 20], 10, 2, "class 2 has 3 training samples but 10 x 2 / 4 = 5 clients must hold it"),
        ([20, 30], 2, 1, "are as unequal as 0 (20 samples) and 1 (30 samples), use k of at least 2"),
        ([200, 20, 20, 20], 4, 2, "use another k or number of clients"),
        ([40], 4, 1, "the targets are no classes"),
    ],
)
def test_balanced_refuses_what_cannot_be(counts, clients, k, words):
    with pytest.raises(FedSepError) as error:
        classes(k).deal(pool(counts, 0), clients)
    assert words in str(error.value)


def test_a_number_that_does_not_divide_comes_with_numbers_that_do():
    with pytest.raises(FedSepError, match=r"got 7 x 3 = 21, k = 10 would do, or 10 clients"):
        classes(3).deal(pool([20] * 10, 0), 7)


@given(class_counts(), st.integers(1, 8), st.integers(1, 3), SEEDS)
def test_heterofl_cuts_each_class_in_order_and_gives_at_most_k(counts, k, times, seed):
    k = min(k, len(counts))
    clients = times * len(counts) // int(np.gcd(k, len(counts)))
    shards = clients * k // len(counts)
    assume(shards <= min(counts))
    given_pool = pool(counts, seed)
    owner = classes(k, mode="heterofl").deal(given_pool, clients)
    table = held(owner, given_pool, clients)
    assert ((table > 0).sum(axis=1) >= 1).all()
    assert ((table > 0).sum(axis=1) <= k).all()
    for label, count in enumerate(counts):
        sizes_of = table[:, label][table[:, label] > 0]
        assert set(sizes_of) <= {count // shards, count // shards + 1}
        members = np.flatnonzero(given_pool.labels == label)[: count - count % shards]
        assert (np.diff(owner[members].reshape(shards, -1), axis=1) == 0).all()


@pytest.mark.parametrize(("labels", "k", "each", "left"), [
    (10, 2, 1.91, 47.7), (10, 5, 4.11, 41.1), (100, 20, 18.3, 45.7), (100, 50, 39.7, 39.7),
])  # fmt: skip
def test_heterofl_loses_as_much_as_its_public_code_does(labels, k, each, left):
    """100 clients, 50 samples for each: as many classes and samples as on average over many draws of that code."""
    per_class = 5000 // labels
    pools = [pool([per_class] * labels, seed) for seed in range(20)]
    found = [held(classes(k, mode="heterofl").deal(given_pool, 100), given_pool, 100) for given_pool in pools]
    assert np.mean([(table > 0).sum(axis=1).mean() for table in found]) == pytest.approx(each, rel=0.015)
    assert np.mean([table.sum(axis=1).mean() for table in found]) == pytest.approx(left, rel=0.015)


@given(class_counts(), st.integers(1, 3), st.integers(2, 10), SEEDS)
def test_pathological_deals_k_equal_shards_of_sorted_samples(counts, k, clients, seed):
    k = min(k, len(counts))
    given_pool = pool(counts, seed)
    assume(clients * k <= len(given_pool.labels))
    owner = classes(k, mode="pathological").deal(given_pool, clients)
    table = held(owner, given_pool, clients)
    assert owner.min() >= 0
    size = len(owner) / (clients * k)
    assert abs(table.sum(axis=1) - k * size).max() <= k
    if size <= min(counts):
        assert ((table > 0).sum(axis=1) <= 2 * k).all()


@given(class_counts(), st.floats(0.01, 100), st.integers(1, 12), st.integers(0, 4), SEEDS)
def test_dirichlet_drops_nothing_and_leaves_no_client_too_small(counts, alpha, clients, least, seed):
    given_pool = pool(counts, seed)
    rule = dirichlet(alpha, min_size=least)
    owner = rule.deal(given_pool, clients)
    assert owner.min() >= 0
    assert np.bincount(owner, minlength=clients).min() >= least
    assert (owner == rule.deal(given_pool, clients)).all()


def test_dirichlet_is_nearly_iid_for_large_alpha_and_nearly_one_class_for_small():
    given_pool = pool([500] * 10, 0)
    even = held(dirichlet(1e4).deal(given_pool, 10), given_pool, 10)
    assert even.min() > 40
    table = held(dirichlet(0.01).deal(given_pool, 10), given_pool, 10)
    assert table.max(axis=0).mean() > 400


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), SEEDS)
def test_sizes_are_as_given_and_the_rest_is_nobodys(wanted, seed):
    given_pool = pool([40, 40], seed)
    owner = sizes(wanted).deal(given_pool, len(wanted))
    assert np.bincount(owner[owner >= 0], minlength=len(wanted)).tolist() == wanted
    assert (owner < 0).sum() == 80 - sum(wanted)


def test_power_law_sizes_fall_and_add_up():
    owner = sizes(power=1.0, min_size=2).deal(pool([500, 500], 0), 20)
    shares_of = np.bincount(owner, minlength=20)
    assert shares_of.sum() == 1000
    assert (np.diff(shares_of) <= 0).all()
    assert shares_of[-1] >= 2
    assert shares_of[0] == pytest.approx(2 + 960 / sum(1 / i for i in range(1, 21)), abs=1)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), SEEDS)
def test_natural_gives_one_client_per_value(group, seed):
    group = np.array(group)
    owner = natural("writer").deal(pool([len(group)], seed, group), len(set(group.tolist())))
    for client, value in enumerate(np.unique(group)):
        assert (np.flatnonzero(owner == client) == np.flatnonzero(group == value)).all()


@pytest.mark.parametrize("rule", [iid(), classes(2), classes(2, mode="heterofl"), dirichlet(0.5), sizes(power=1.0)])
def test_another_seed_is_another_partition(rule):
    labels = pool([60] * 5, 0).labels
    first, second = (rule.deal(Pool(labels, 5, random.key(seed)), 10) for seed in (0, 1))
    assert (first != second).any()


@given(st.lists(st.integers(-1, 4), max_size=30))
def test_parts_by_owner_are_the_positions_of_each_owner(owner):
    owner = np.array(owner, np.int64)
    parts = by_owner(owner, 5)
    assert [part.tolist() for part in parts] == [np.flatnonzero(owner == client).tolist() for client in range(5)]
    assert parts.disjoint
    assert parts[-1].tolist() == parts[4].tolist()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: classes(0), "k must be >= 1 (got 0)"),
        (lambda: classes(2, mode="balancd"), "mode must be one of balanced, heterofl, pathological (got 'balancd')"),
        (lambda: dirichlet(0), "alpha must be > 0 (got 0)"),
        (lambda: dirichlet(float("nan")), "alpha must be a finite number > 0 (got nan)"),
        (lambda: sizes(), "give either a list of sizes or a power"),
        (lambda: sizes([3], power=1.0), "give either a list of sizes or a power"),
        (lambda: sizes([3, 0]), "sizes must be whole numbers of at least 1 (got 0)"),
        (lambda: sizes([]), "got an empty list"),
        (lambda: sizes([50, 40]).deal(pool([40, 40], 0), 2), "at most the 80 training samples (got 90)"),
        (lambda: dirichlet(1, min_size=9).deal(pool([40, 40], 0), 10), "min_size must be at most 8 (got 9"),
    ],
)
def test_rules_refuse_bad_arguments(make, words):
    with pytest.raises(FedSepError) as error:
        make()
    assert words in str(error.value)
