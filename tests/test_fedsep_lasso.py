"""The LASSO codec: Eq. (5) and its sign, the support form, what cannot be encoded, and what clients share."""

import functools
import re

import pytest
import torch
from catalogue import network, shard, shards
from sklearn.linear_model import Lasso as Oracle

from fedsep import FedSepError, algorithms, operators, random, tree
from fedsep.codecs import lasso as module
from fedsep.codecs.lasso import Lasso, normal
from fedsep.lasso import squared_norm
from fedsep.testing import play
from fedsep.testing.draws import context
from fedsep.testing.play import everybody

P, KEY = 6, random.key(3)
EXACT = {"steps": 400, "tolerance": 0.0, "terms": 100, "damping": 0.0}
ZERO = {name: torch.zeros_like(part) for name, part in network.init().items()}


def made(beta: float = 0.3, **options) -> Lasso:
    """A codec of the tiny network, beta in units of |S^T x_1|_inf."""
    flat, sketch = tree.ravel(network.init())[0], normal(P, network.d, KEY)
    largest = float(sketch.rmv(sketch.mv(flat)).abs().max())
    return Lasso(ZERO, P, beta * largest, KEY, **{**EXACT, **options})


def decoded(codec: Lasso, x, client: int = 0):
    ctx = context(0, client=client)
    start, memory = codec.decode(x, codec.enroll(x, ctx), shard(network), ctx)
    return tree.ravel(start.y)[0], start, memory, ctx


def encoded(codec: Lasso, x, v, client: int = 0):
    """J^T v, and what is logged."""
    y, start, memory, ctx = decoded(codec, x, client)
    moved = tree.ravel(start.y)[1](y + v)
    dx, _, info = codec.encode(start, moved, x, memory, shard(network), ctx)
    return dx["omega"], {name: float(value) for name, value in info.items()}


def oracle(rows, x, beta):
    model = Oracle(alpha=beta / len(x), fit_intercept=False, tol=1e-14, max_iter=1_000_000)
    return torch.from_numpy(model.fit(rows.numpy(), x.numpy()).coef_)


V = random.normal(random.key(8), network.d)


@pytest.mark.parametrize("beta", [0.1, 0.3, 0.6])
def test_decode_and_encode_against_scikit_learn_and_its_finite_differences(beta):
    """<oracle(x), v> differentiated in every coordinate of x: encode is +J^T, not Eq. (2)'s -J^T."""
    codec, rows = made(beta), normal(P, network.d, KEY).rows
    x = codec.init(network.init())
    y, *_ = decoded(codec, x)
    torch.testing.assert_close(y, oracle(rows, x["omega"], codec.beta), atol=1e-8, rtol=0)
    step, slopes = 1e-4, []  # decode is affine in x as long as the support stays: no truncation error
    for unit in torch.eye(P):
        ahead, behind = (oracle(rows, x["omega"] + sign * step * unit, codec.beta) for sign in (1, -1))
        assert torch.equal(ahead != 0, y != 0)
        slopes.append((ahead - behind) @ V / (2 * step))
    got, info = encoded(codec, x, V)
    assert info["support"] == int((y != 0).sum()) > 0
    torch.testing.assert_close(got, torch.stack(slopes), rtol=1e-4, atol=1e-5)
    assert float(got @ torch.stack(slopes)) > 0


def test_eq_5_as_printed_the_support_form_and_the_derivative_of_the_steps_are_the_same():
    """gamma S U (I - (I - gamma S^T S) U)^-1, S_A (S_A^T S_A)^-1, and autograd through many steps of ISTA."""
    codec, rows = made(), normal(P, network.d, KEY).rows
    x, eye = codec.init(network.init())["omega"], torch.eye(network.d)
    gamma = 1 / squared_norm(normal(P, network.d, KEY), network.d)

    def steps(x):
        y = torch.zeros(network.d)
        for _ in range(3000):
            z = y + gamma * rows.mT @ (x - rows @ y)
            y = torch.nn.functional.softshrink(z, gamma * codec.beta)
        return y, z

    y, z = steps(x)
    diagonal = torch.diag((z.abs() > gamma * codec.beta).to(x.dtype))
    printed = gamma * rows @ diagonal @ torch.linalg.inv(eye - (eye - gamma * rows.mT @ rows) @ diagonal)
    unrolled = torch.func.vjp(lambda x: steps(x)[0], x)[1](V)[0]
    got, _ = encoded(codec, {"omega": x}, V)
    torch.testing.assert_close(got, printed @ V, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(got, unrolled, rtol=1e-8, atol=1e-10)
    assert float(printed[:, y == 0].abs().max()) < 1e-14 < float(printed.abs().max())


def test_only_changes_on_the_support_are_communicated():
    codec = made()
    x = codec.init(network.init())
    y, *_ = decoded(codec, x)
    off = torch.where(y == 0, V, 0.0)
    assert off.any()
    torch.testing.assert_close(encoded(codec, x, V)[0], encoded(codec, x, V - off)[0], rtol=1e-10, atol=1e-12)


def test_damping_in_closed_form():
    codec, rows = made(damping=0.3), normal(P, network.d, KEY).rows
    x = codec.init(network.init())
    y, *_ = decoded(codec, x)
    part = rows[:, y != 0]
    wanted = part @ torch.linalg.solve(part.mT @ part + 0.3 * torch.eye(part.shape[1]), V[y != 0])
    torch.testing.assert_close(encoded(codec, x, V)[0], wanted)


def rough(**options):
    """Decode stopped after a few steps, which leaves a support larger than p."""
    codec = made(0.02, steps=3, **options)
    x = codec.init(network.init())
    support = int((decoded(codec, x)[0] != 0).sum())
    assert support > P
    return codec, x


def test_a_support_larger_than_p_is_encoded_with_damping():
    codec, x = rough(damping=1e-3)
    dx, info = encoded(codec, x, V)
    assert torch.isfinite(dx).all()
    assert info["support"] > P
    assert info["encode_residual"] < 1e-8


def test_a_support_larger_than_p_is_refused_without_damping():
    codec, x = rough()
    with pytest.raises(FedSepError, match=r"support of \d+ coordinates, p=6. Give damping > 0"):
        encoded(codec, x, V)


@pytest.mark.parametrize("terms", [1, 10, 2000])
def test_the_neumann_series_is_finite_whatever_the_support(terms):
    limit = 2 / squared_norm(normal(P, network.d, KEY), network.d)
    codec, x = rough(encoder="neumann", gamma=0.999 * limit, terms=terms)
    dx, _ = encoded(codec, x, V)
    assert torch.isfinite(dx).all()
    assert float(dx.norm()) <= (terms + 1) * codec.gamma * float(V.norm()) * (2 / limit) ** 0.5


def test_the_neumann_series_in_closed_form():
    codec, rows = made(encoder="neumann", gamma=0.2, terms=3), normal(P, network.d, KEY).rows
    x = codec.init(network.init())
    part = rows[:, decoded(codec, x)[0] != 0]
    factor = torch.eye(part.shape[1]) - 0.2 * part.mT @ part
    series = 0.2 * sum(torch.linalg.matrix_power(factor, q) for q in range(4))
    wanted = part @ series @ V[decoded(codec, x)[0] != 0]
    torch.testing.assert_close(encoded(codec, x, V)[0], wanted)


def test_the_absorbing_state_learns_nothing_and_says_so():
    codec = made(0.9)
    x = codec.init(network.init())
    small = {"omega": 0.5 * x["omega"]}  # |S^T x|_inf is now below beta
    dx, info = encoded(codec, small, V)
    assert not dx.any()
    assert (info["absorbing"], info["support"]) == (1.0, 0.0)
    assert not any(part.any() for part in codec.model(small).values())
    assert encoded(codec, x, V)[1]["absorbing"] == 0.0


def test_a_start_that_is_absorbing_is_refused_with_the_largest_beta():
    with pytest.raises(FedSepError, match=r"beta=1.0 makes the start absorbing.*choose it below 1"):
        algorithms.fedsep_lasso(network, p=P, beta=1.0)
    codec = made(1.0)
    with pytest.raises(FedSepError, match="choose it below"):
        codec.init(network.init())
    nearly = algorithms.fedsep_lasso(network, p=P, beta=0.999)
    assert any(part.any() for part in nearly.model(nearly.init(network.init())).values())


def test_the_start_is_the_sketch_of_the_initial_model():
    algorithm = algorithms.fedsep_lasso(network, p=P, beta=0.2)
    sketch = normal(P, network.d, algorithm.codec.key)
    x = algorithm.init(network.init()).x["omega"]
    torch.testing.assert_close(x, sketch.mv(tree.ravel(network.init())[0]))
    torch.testing.assert_close(torch.tensor(algorithm.codec.beta), 0.2 * sketch.rmv(x).abs().max())


@pytest.mark.parametrize(("options", "message"), [
    ({"p": network.d + 1}, f"p must be at most d = {network.d}"),
    ({"p": P, "decoder": "ista", "gamma": 5.0}, r"gamma=5.0 diverges: it must be below 2 / \|S\|\^2 = 0\.\d+"),
    ({"p": P, "gamma": 0.1}, "gamma=0.1 is of no effect"),
    ({"p": P, "beta": 0.0}, "beta must be > 0"),
    ({"p": P, "damping": -1.0}, "damping must be >= 0"),
    ({"p": P, "decoder": "lars"}, "decoder must be fista or ista"),
    ({"p": P, "server_lr": 1.0, "server": algorithms.fedavg(network).server}, "give server or server_lr"),
])  # fmt: skip
def test_mistakes_are_found_when_the_method_is_made(options, message):
    with pytest.raises(FedSepError, match=message):
        algorithms.fedsep_lasso(network, **options)


def test_the_gamma_of_the_message_is_the_largest():
    squared = squared_norm(normal(P, network.d, random.fold(random.key(0), P)), network.d)
    codec = algorithms.fedsep_lasso(
        network, p=P, beta=0.3, decoder="ista", gamma=1.99 / squared, decode_steps=4000
    ).codec
    assert 0 <= float(decoded(codec, codec.init(network.init()))[1].residual[0].gap) <= 1e-4
    with pytest.raises(FedSepError, match="diverges"):
        algorithms.fedsep_lasso(network, p=P, decoder="ista", gamma=2.0 / squared)


@pytest.mark.parametrize("warm_start", [True, False])
def test_clients_share_one_decode_a_round(monkeypatch, warm_start):
    calls = []

    def counted(*args, **options):
        calls.append(args)
        return solve(*args, **options)

    solve = module.fista
    monkeypatch.setattr(module, "fista", counted)
    algorithm = algorithms.fedsep_lasso(network, p=P, steps=2, batch_size=4, warm_start=warm_start)
    played = play(algorithm, network.init(), shards(network, 4), everybody(4, 3))
    assert len(calls) == 3
    served, seat = algorithm.model(played.states[2]), played.seats[2][0]
    assert len(calls) == (3 if not warm_start else 4)  # by default the server decodes what the clients do
    model = algorithm.local_models(seat.sent, seat.before, shard(network), seat.ctx)[0]
    assert torch.equal(served["0.weight"], model["0.weight"]) == (not warm_start)


def test_clients_with_one_support_share_one_factorisation(monkeypatch):
    calls = []

    def counted(*args):
        calls.append(args)
        return factorise(*args)

    factorise = module.factorise
    monkeypatch.setattr(module, "factorise", counted)
    algorithm = algorithms.fedsep_lasso(network, p=P, steps=2, batch_size=4)
    play(algorithm, network.init(), shards(network, 4), everybody(4, 3))
    assert 1 <= len(calls) <= 3  # of 12 encodes; a support may last for several rounds


@pytest.mark.parametrize("size", [1, P, P + 1, network.d // 2, network.d // 2 + 1, network.d])
@pytest.mark.parametrize("encoder", ["direct", "cg"])
def test_every_form_of_the_system_gives_the_same(size, encoder):
    """S_A^T S_A, S_A S_A^T, S S^T less the columns that are not in A, and products alone."""
    rows, codec = normal(P, network.d, KEY).rows, made(damping=0.1, encoder=encoder)
    support = random.permutation(KEY, network.d)[:size].sort().values
    part, v = rows[:, support], V[:size]
    wanted = part @ torch.linalg.solve(part.mT @ part + 0.1 * torch.eye(size), v)
    got, residual = codec._encode(support, v, KEY, torch.zeros(P))
    torch.testing.assert_close(got, wanted)
    assert float(residual) < 1e-10


def test_by_default_decode_is_a_few_steps_from_the_initial_model():
    """The residual is 0 there, so y is theta_0 less what the penalty takes, and still dense."""
    algorithm = algorithms.fedsep_lasso(network, p=P)
    y = tree.ravel(algorithm.model(algorithm.init(network.init())))[0]
    theta = tree.ravel(network.init())[0]
    assert 0 < float((y - theta).norm()) < 0.2 * float(theta.norm())
    assert int((y != 0).sum()) > 2 * P


def test_a_client_that_was_away_decodes_the_same_to_the_tolerance():
    algorithm = algorithms.fedsep_lasso(
        network, p=P, steps=2, batch_size=4, start="zero", warm_start=True, decode_steps=400, tolerance=1e-13, beta=0.3
    )
    played = play(algorithm, network.init(), shards(network, 2), [{0: True}, {0: True}, {0: True, 1: True}])
    here, away = (played.seats[2][client] for client in (0, 1))
    assert here.before.codec["y"].any()
    assert not away.before.codec["y"].any()
    torch.testing.assert_close(here.memory.codec["y"], away.memory.codec["y"], atol=1e-5, rtol=0)


def test_private_sketches_differ_between_clients_and_stay():
    algorithm = algorithms.fedsep_lasso(network, p=P, private=True, beta=0.3, steps=2, batch_size=4)
    played = play(algorithm, network.init(), shards(network, 2), everybody(2, 3))
    keys = [{int(seats[client].memory.codec["key"]) for seats in played.seats} for client in (0, 1)]
    assert [len(each) for each in keys] == [1, 1]
    assert keys[0] != keys[1]
    first, second = (played.seats[2][client] for client in (0, 1))
    assert torch.equal(first.sent["omega"], second.sent["omega"])
    models = [algorithm.local_models(seat.sent, seat.before, shard(network), seat.ctx)[0] for seat in (first, second)]
    assert not torch.equal(models[0]["0.weight"], models[1]["0.weight"])


@pytest.mark.parametrize("operator", [normal, operators.srht, operators.dct])
def test_a_beta_that_absorbs_some_clients_with_private_sketches_is_refused(operator):
    """What is allowed leaves decode of the start more than 0 for 300 clients; the shared sketch alone would not."""
    make = functools.partial(algorithms.fedsep_lasso, network, p=P, operator=operator)
    with pytest.raises(FedSepError, match="absorbing for clients with private sketches") as refused:
        make(private=True, beta=0.99)
    allowed = float(re.search(r"as small as (\S+) of", str(refused.value))[1])
    beta = make(private=True, beta=0.99 * allowed).codec.beta
    shared = make(beta=0.99)
    x, high = shared.init(network.init()).x["omega"], shared.codec.beta
    sizes = [float(operator(P, network.d, random.fold(random.key(9), n)).rmv(x).abs().max()) for n in range(300)]
    assert min(sizes) > beta
    assert min(sizes) < high
    with pytest.raises(FedSepError, match="absorbing for clients"):
        make(private=True, beta=1.01 * allowed)


def test_the_gamma_of_private_sketches_keeps_further_below():
    make = functools.partial(algorithms.fedsep_lasso, network, p=P, beta=0.1, decoder="ista")
    squared = 1.001 * squared_norm(normal(P, network.d, random.fold(random.key(0), P)), network.d)
    assert make(gamma=1.6 / squared).codec.gamma == make(private=True, gamma=1.4 / squared).codec.gamma * 1.6 / 1.4
    with pytest.raises(FedSepError, match=r"private sketches: it must be below 1\.5 / \|S\|\^2"):
        make(private=True, gamma=1.6 / squared)


@pytest.mark.parametrize("operator", [normal, operators.gaussian, operators.coordinates])
def test_any_operator_encodes_the_transposed_jacobian(operator):
    flat, sketch = tree.ravel(network.init())[0], operator(P, network.d, KEY)
    largest = float(sketch.rmv(sketch.mv(flat)).abs().max())
    codec = Lasso(ZERO, P, 0.3 * largest, KEY, operator, **EXACT)
    x = codec.init(network.init())
    step = 1e-5
    ahead, behind = (decoded(codec, {"omega": x["omega"] + sign * step * V[:P]})[0] for sign in (1, -1))
    slope = (ahead - behind) @ V / (2 * step)
    torch.testing.assert_close(encoded(codec, x, V)[0] @ V[:P], slope, rtol=1e-6, atol=1e-9)
    assert float(slope.abs()) > 1e-3


def test_a_diverged_x_is_named():
    codec = made()
    with pytest.raises(FedSepError, match="learning diverged"):
        decoded(codec, {"omega": torch.full((P,), torch.inf)})


def test_without_a_change_nothing_is_sent():
    codec = made()
    x = codec.init(network.init())
    _, start, memory, ctx = decoded(codec, x)
    dx, _, _ = codec.encode(start, start.y, x, memory, shard(network), ctx)
    assert not dx["omega"].any()
