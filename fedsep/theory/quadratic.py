"""The first test bed: everything is quadratic, so that y_x, h and its constants have closed forms.

    g_m(x, y; j) = 1/2 y' H_j y - y' (A_j x + c_j),      f_m(y; j) = 1/2 |R_m y - t_j|^2

A tensor called x here has shape (replicates, p): the copies are independent problems with noise of their own that run
through the library's code as one, so that an expectation costs a single run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedsep.core import Batch, Params, Samples, Shard, Tree
from fedsep.random import fold, key, normal


@dataclass(frozen=True)
class Noise:
    """Standard deviations of one example's entries around the client's mean."""

    hessian: float = 0.0
    cross: float = 0.0
    shift: float = 0.0
    target: float = 0.0


@dataclass(frozen=True)
class Quadratic:
    """M clients with problems of their own; L = 1 bounds d_yy g, d_xy g and the curvature of f.

    Attributes:
        hessian: H, shape (M, d, d).
        cross: A, shape (M, d, p).
        shift: c, shape (M, d).
        root: R with R'R the curvature of f, shape (M, d, d).
        target: t, shape (M, d).
        start: x_1, shape (p,).
        noise: Of the examples.
    """

    hessian: Tensor
    cross: Tensor
    shift: Tensor
    root: Tensor
    target: Tensor
    start: Tensor
    noise: Noise = Noise()

    @property
    def clients(self) -> int:
        """M."""
        return self.hessian.shape[0]

    @property
    def sizes(self) -> tuple[int, int]:
        """d and p."""
        return self.cross.shape[1], self.cross.shape[2]

    @property
    def mu(self) -> float:
        """The strong convexity of g."""
        return float(torch.linalg.eigvalsh(self.hessian).min())

    @property
    def jacobian(self) -> Tensor:
        """J = H^-1 A of every client, shape (M, d, p)."""
        return torch.linalg.solve(self.hessian, self.cross)

    @property
    def curvature(self) -> Tensor:
        """The second derivative of h: the mean of J' R'R J, shape (p, p)."""
        bent = self.root @ self.jacobian
        return (bent.mT @ bent).mean(0)

    @property
    def lipschitz(self) -> float:
        """Lbar, the smoothness of h."""
        return float(torch.linalg.eigvalsh(self.curvature).max())

    def solution(self, x: Tensor) -> Tensor:
        """y_x of every client, shape (M, replicates, d)."""
        right = torch.einsum("mdp,rp->mrd", self.cross, x) + self.shift[:, None]
        return torch.linalg.solve(self.hessian, right.mT).mT

    def slopes(self, y: Tensor) -> Tensor:
        """Every client's gradient of f at its own y, shape (M, replicates, d)."""
        return (y @ self.root.mT - self.target[:, None]) @ self.root

    def gradient(self, x: Tensor) -> Tensor:
        """The gradient of h, shape (replicates, p)."""
        return torch.einsum("mdp,mrd->rp", self.jacobian, self.slopes(self.solution(x))) / self.clients

    def value(self, x: Tensor) -> Tensor:
        """h, shape (replicates,)."""
        left = self.solution(x) @ self.root.mT - self.target[:, None]
        return 0.5 * left.square().sum(-1).mean(0)

    def minimiser(self) -> Tensor:
        """argmin h, shape (p,)."""
        return -torch.linalg.solve(self.curvature, self.gradient(torch.zeros(1, self.start.numel()))[0])

    def gap(self) -> float:
        """h(x_1) - inf h, which the paper writes h(x_1)."""
        return float(self.value(self.start[None]) - self.value(self.minimiser()[None]))

    def inner(self, x: Tree, y: Params, batch: Batch | None) -> Tensor:
        """g on a minibatch, summed over the replicates."""
        assert batch is not None
        hessian, cross, shift = self._read(batch.x)
        column = y["y"][..., None]
        return (column * (0.5 * hessian @ column - cross @ x["x"][..., None] - shift)).sum()

    def samples(self, client: int, count: int, copies: int, draw: Tensor, *, centred: bool = False) -> Samples:
        """Examples of one client, independent and equally distributed.

        Args:
            client: Whose.
            count: How many.
            copies: Replicates, each with noise of its own.
            draw: Key.
            centred: Whether the noise is shifted to a mean of zero, so that the client's mean is exact.
        """
        d, p = self.sizes
        made = [normal(fold(draw, at), count, copies, *shape) for at, shape in enumerate([(d, d), (d, p), (d,), (d,)])]
        hessian, cross, shift, target = [part - part.mean(0) if centred else part for part in made]
        noise, around = self.noise, 0.5**0.5 * (hessian + hessian.mT)
        parts = [
            self.hessian[client] + noise.hessian * around,
            self.cross[client] + noise.cross * cross,
            self.shift[client] + noise.shift * shift,
            self.root[client].expand(count, copies, d, d),
        ]
        rows = torch.cat([part.reshape(count, copies, -1) for part in parts], -1)
        return Samples(rows, self.target[client] + noise.target * target)

    def shards(self, count: int, copies: int, draw: Tensor) -> tuple[Shard, ...]:
        """Every client's ``count`` examples, with exact means."""
        made = [self.samples(m, count, copies, fold(draw, m), centred=True) for m in range(self.clients)]
        return tuple(Shard(samples) for samples in made)

    def starting_at(self, x: Tensor) -> Quadratic:
        """The same problem from another x_1."""
        return replace(self, start=x)

    def _read(self, rows: Tensor) -> Sequence[Tensor]:
        d, p = self.sizes
        hessian, cross, shift, _ = rows.mean(0).split([d * d, d * p, d, d * d], -1)
        return hessian.unflatten(-1, (d, d)), cross.unflatten(-1, (d, p)), shift[..., None]


@dataclass(frozen=True)
class QuadraticTask:
    """f of the bed, and y_0 = 0, as a task of the library."""

    bed: Quadratic
    copies: int

    def init(self) -> Params:
        """y_0."""
        return {"y": torch.zeros(self.copies, self.bed.sizes[0])}

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """R y, once for each example, shape (batch, replicates, d)."""
        d = self.bed.sizes[0]
        return (x[..., -d * d :].unflatten(-1, (d, d)) @ params["y"][..., None])[..., 0]

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Half the squared distance, mean over examples, sum over replicates."""
        return 0.5 * (outputs - targets).square().sum() / len(targets)

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """f on a minibatch."""
        return self.criterion(self.predict(params, batch.x), batch.y)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """The loss."""
        return {"loss": float(self.criterion(outputs, targets))}


def quadratic(
    seed: int, *, clients: int = 4, d: int = 4, p: int = 3, mu: float = 0.25, noise: Noise = Noise()
) -> Quadratic:
    """A bed with eigenvalues of H from mu to 1, in a random basis for each client.

    Args:
        seed: Of bases, offsets and targets; the targets differ between clients.
        clients: M.
        d: Entries of y.
        p: Entries of x.
        mu: 1 / kappa.
        noise: Of the examples.
    """
    draw = key(seed)

    def basis(at: int) -> Tensor:
        return torch.linalg.qr(normal(fold(draw, at), clients, d, d))[0]

    turn, bend = basis(0), basis(1)
    hessian = turn @ torch.diag(torch.linspace(mu, 1.0, d)) @ turn.mT
    return Quadratic(
        0.5 * (hessian + hessian.mT),
        basis(2)[:, :, :p].contiguous(),
        normal(fold(draw, 3), clients, d),
        torch.diag(torch.linspace(0.5, 1.0, d).sqrt()) @ bend,
        2.0 * normal(fold(draw, 4), clients, d),
        2.0 * normal(fold(draw, 5), p),
        noise,
    )
