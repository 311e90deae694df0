"""The second term of Eq. (8): against finite differences of an argmin, and against matrices written out."""

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

from fedsep import models, random, tasks, tree
from fedsep.core import Batch, Ctx, Samples, Shard
from fedsep.gates import Free, Hypernetwork, Relaxed, bounded, gate_scores, hard, second_term

EXACT = {"steps": 300, "tolerance": 1e-12}


@dataclass(frozen=True)
class Linear:
    """g(x, a) = 1/2 |D (a * x) - t|^2 + rho/2 |a - 1|^2: quadratic in a, so that Gauss-Newton is all there is."""

    d: Tensor
    t: Tensor
    rho: float = 0.5

    def masked(self, x, phi):
        return {"w": phi["a"] * x["w"]}

    def outputs(self, x, y, batch):
        return self.d @ (y["a"] * x["w"])

    def objective(self, outputs, x, y, batch):
        return 0.5 * (outputs - self.t).square().sum() + 0.5 * self.rho * (y["a"] - 1).square().sum()

    def __call__(self, x, y, batch):
        return self.objective(self.outputs(x, y, batch), x, y, batch)

    def argmin(self, x):
        """The gates, by hand."""
        design = self.d * x
        eye = self.rho * torch.eye(len(x))
        return torch.linalg.solve(design.T @ design + eye, design.T @ self.t + self.rho)


def test_it_is_the_derivative_of_the_learned_gates():
    """<v, a(x) * x> moves by <a * v, dx> as if the gates stood still, and by <second term, dx> since they do not."""
    n, draw = 5, random.key(3)
    inner = Linear(random.normal(random.fold(draw, 1), 8, n), random.normal(random.fold(draw, 2), 8))
    x, v = (random.normal(random.fold(draw, number), n) for number in (3, 4))
    a = inner.argmin(x)
    got = second_term(inner, inner.masked, {"w": x}, {"a": a}, {"w": v}, None, damping=0.0, **EXACT)
    assert float(got.residual) < 1e-10
    wanted = torch.stack([
        sum(sign * (inner.argmin(x + sign * 1e-5 * e) * (x + sign * 1e-5 * e)) @ v for sign in (1, -1)) / 2e-5
        for e in torch.eye(n)
    ])  # fmt: skip
    torch.testing.assert_close(a * v + got.value["w"], wanted, rtol=1e-7, atol=1e-7)
    moved = torch.stack([(inner.argmin(x + 1e-5 * e) - inner.argmin(x - 1e-5 * e)) / 2e-5 for e in torch.eye(n)])
    torch.testing.assert_close(got.value["w"], moved @ (x * v), rtol=1e-7, atol=1e-7)
    assert float(got.value["w"].norm()) > 0.01 * float((a * v).norm())


TASK = tasks.classification(models.mlp((4,), 3, hidden=(5,)), shape=(4,))
BATCH = Batch(random.normal(random.key(1), 12, 4), torch.arange(12) % 3)


def gated(x, a):
    """The model, by hand."""
    hidden = torch.relu(F.linear(BATCH.x, x["layer1.weight"], x["layer1.bias"]))
    return F.linear(a * hidden, x["layer2.weight"], x["layer2.bias"])


@pytest.mark.parametrize("network", [Free({"layer1": 5}), Hypernetwork({"layer1": 5}, inputs=3, hidden=2)], ids=str)
@pytest.mark.parametrize("damping", [0.01, 1.0])
def test_it_is_what_dense_matrices_give(network, damping):
    scores = replace(gate_scores(TASK), network=network)
    inner, x, phi = Relaxed(scores, TASK), TASK.init(), network.init(random.key(2))
    keep = torch.tensor([0, 3])
    v = {name: torch.zeros_like(part) for name, part in x.items()}
    v["layer1.weight"][keep] = random.normal(random.key(5), 2, 4)
    v["layer2.weight"][:, keep] = random.normal(random.key(6), 3, 2)
    got = second_term(inner, inner.masked, x, phi, v, BATCH, damping=damping, **EXACT)

    flat_x, unravel_x = tree.ravel(x)
    flat_phi, unravel_phi = tree.ravel(phi)

    def soft(phi):
        return torch.sigmoid(network(unravel_phi(phi))["layer1"] / 0.5)

    def outputs(phi):
        return gated(x, soft(phi)).reshape(-1)

    def slope(flat):  # of the loss in phi, as a function of x
        at = flat_phi.clone().requires_grad_()
        loss = F.cross_entropy(gated(unravel_x(flat), soft(at)), BATCH.y)
        return torch.autograd.grad(loss, at, create_graph=True)[0]

    p = outputs(flat_phi).reshape(12, 3).softmax(1)
    blocks = [(torch.diag(row) - torch.outer(row, row)) / 12 for row in p]  # of the cross-entropy in the outputs
    k = jacobian(outputs, flat_phi)
    h = k.T @ torch.block_diag(*blocks) @ k + damping * torch.eye(len(flat_phi))
    right = jacobian(soft, flat_phi).T @ (x["layer2.weight"] * v["layer2.weight"]).sum(0)
    wanted = -jacobian(slope, flat_x).T @ torch.linalg.solve(h, right)
    torch.testing.assert_close(tree.ravel(got.value)[0], wanted, rtol=1e-6, atol=1e-9)
    outside = got.value["layer1.weight"][torch.tensor([1, 2, 4])]
    assert float(outside.norm()) > 0  # what the client did not train moves, too


def test_gauss_newton_is_positive_where_the_hessian_is_not():
    """Eq. (7)'s Hessian in phi has negative eigenvalues even in the free form, so that conjugate gradients need it."""
    scores = replace(gate_scores(TASK), network=Free({"layer1": 5}))
    inner, x = Relaxed(scores, TASK), {name: 3 * part for name, part in TASK.init().items()}
    phi = torch.tensor([1.0, 2.0, 0.5, 3.0, -2.0])
    whole = hessian(lambda s: inner(x, {"layer1": s}, BATCH), phi)
    assert float(torch.linalg.eigvalsh(whole)[0]) < -1e-6
    v = random.normal(random.key(4), *x["layer2.weight"].shape)
    changes = {**tree.zeros_like(x), "layer2.weight": v}
    term = second_term(inner, inner.masked, x, {"layer1": phi}, changes, BATCH, damping=1e-3, **EXACT)
    assert float(term.residual) < 1e-10


def test_the_mask_itself_has_the_derivative_of_the_relaxed_gates():
    """Straight through: <v, hard(a) * x> and <v, a * x> have one derivative in phi where units are read."""
    scores = replace(gate_scores(TASK), network=Free({"layer1": 5}))
    inner, x = Relaxed(scores, TASK), TASK.init()
    v = {name: random.normal(random.fold(random.key(4), n), *part.shape) for n, (name, part) in enumerate(x.items())}
    slopes = []
    for through in (hard, dict):
        phi = torch.tensor([1.0, -2.0, 0.5, 3.0, -0.3], requires_grad=True)
        masked = scores.gating.weighted(x, through(inner.gates({"layer1": phi})))
        tree.dot(masked, v).backward()
        slopes.append(phi.grad)
    torch.testing.assert_close(*slopes)


def test_it_goes_to_0_with_large_damping_and_is_0_where_nothing_was_learned():
    scores, x = gate_scores(TASK, steps=2, batch_size=6), TASK.init()
    ctx = Ctx(0, 0.5, random.key(1))
    phi = scores.fit(scores.init(ctx.key), x, Shard(Samples(*BATCH)), ctx)
    inner = Relaxed(scores, scores.local(Shard(Samples(*BATCH))))
    v = {name: random.normal(random.fold(random.key(4), n), *part.shape) for n, (name, part) in enumerate(x.items())}
    sizes = [
        float(tree.norm(second_term(inner, inner.masked, x, phi, v, BATCH, damping=d).value)) for d in (1, 1e3, 1e6)
    ]
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[2] == pytest.approx(sizes[1] / 1e3, rel=0.05)
    nothing = second_term(inner, inner.masked, x, phi, tree.zeros_like(x), BATCH, damping=1.0)
    assert float(tree.norm(nothing.value)) == 0


def test_a_term_may_be_bounded_by_the_first_one():
    term, first = {"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([0.0, 1.0])}
    assert bounded(term, first, 2.0)["w"].tolist() == pytest.approx([1.2, 1.6])
    assert torch.equal(bounded(term, first, 6.0)["w"], term["w"])
    assert bounded(tree.zeros_like(term), first, 1.0)["w"].tolist() == [0.0, 0.0]
