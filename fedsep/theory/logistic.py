"""The second test bed, whose curvature changes with y: ridge-regularised logistic regression, tilted by x.

    g(x, y) = mean_j log(1 + exp(-s_j a_j' y)) + mu/2 |y|^2 - y' B x,      f(y) = sqrt(1 + |y - b|^2) - 1

f is 1-smooth with gradients below 1, so Assumption 3.2 holds with C_f = 1; L = 1 bounds d_yy g and d_xy g.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from fedsep.core import Batch, Params, Samples, Shard, Tree
from fedsep.random import fold, key, normal


@dataclass(frozen=True)
class Logistic:
    """One client's problem.

    Attributes:
        rows: s_j a_j, shape (n, d).
        tilt: B, orthogonal, shape (d, d).
        target: b, shape (d,).
        mu: The ridge: 1 / kappa.
    """

    rows: Tensor
    tilt: Tensor
    target: Tensor
    mu: float

    @property
    def shard(self) -> Shard:
        """The rows, and b as every example's target."""
        return Shard(Samples(self.rows, self.target.expand(len(self.rows), -1)))

    @property
    def third(self) -> float:
        """A bound on L_yy: |sigmoid''| is at most 1 / (6 sqrt 3)."""
        return float(self.rows.norm(dim=-1).pow(3).mean()) / (6 * 3**0.5)

    @property
    def lhat(self) -> float:
        """Lhat of Prop. 3.6: how fast d_xy g (d_yy g)^-1 grad f turns with y; L_xy = 0."""
        return self.third / self.mu**2

    @property
    def lbar(self) -> float:
        """Lbar of Prop. 3.6: the smoothness of h, of order kappa^3."""
        return self.lhat / self.mu + 1 / self.mu**2

    def inner(self, x: Tree, y: Params, batch: Batch | None) -> Tensor:
        """g."""
        assert batch is not None
        ridge = 0.5 * self.mu * y["y"].square().sum()
        return softplus(-(batch.x @ y["y"])).mean() + ridge - y["y"] @ (self.tilt @ x["x"])

    def hessian(self, y: Tensor) -> Tensor:
        """d_yy g, shape (d, d)."""
        share = torch.sigmoid(self.rows @ y)
        bent = self.rows.mT * (share * (1 - share)) @ self.rows / len(self.rows)
        return bent + self.mu * torch.eye(len(y))

    def tilted_to(self, y: Tensor) -> Tensor:
        """The x whose y_x is y: g's gradient in y is linear in x."""
        plain = -(self.rows.mT @ torch.sigmoid(-(self.rows @ y))) / len(self.rows) + self.mu * y
        return self.tilt.mT @ plain

    def slope(self, y: Tensor) -> Tensor:
        """The gradient of f."""
        gone = y - self.target
        return gone / (1 + gone @ gone).sqrt()

    def jacobian(self, y: Tensor) -> Tensor:
        """J at the x whose y_x is y."""
        return torch.linalg.solve(self.hessian(y), self.tilt)

    def bend(self, y: Tensor) -> float:
        """The norm of the second derivative of h at the x whose y_x is y, by automatic differentiation of J' grad f."""
        turned = torch.func.jacrev(lambda at: self.jacobian(at).mT @ self.slope(at))(y)
        return float(torch.linalg.matrix_norm(turned @ self.jacobian(y), 2))


@dataclass(frozen=True)
class LogisticTask:
    """f of the bed as a task of the library; y_0 = 0."""

    d: int

    def init(self) -> Params:
        """y_0."""
        return {"y": torch.zeros(self.d)}

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """y for every example."""
        return params["y"].expand(len(x), -1)

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """sqrt(1 + |y − b|²) − 1, mean over examples."""
        return ((1 + (outputs - targets).square().sum(-1)).sqrt() - 1).mean()

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """f."""
        return self.criterion(self.predict(params, batch.x), batch.y)

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """The loss."""
        return {"loss": float(self.criterion(outputs, targets))}


def logistic(seed: int, *, kappa: float, d: int = 3, n: int = 12) -> Logistic:
    """A bed whose g has curvatures between 1/kappa and 1."""
    draw, mu = key(seed), 1 / kappa
    rows = normal(fold(draw, 0), n, d)
    largest = float(torch.linalg.eigvalsh(rows.mT @ rows / n).max()) / 4
    tilt = torch.linalg.qr(normal(fold(draw, 1), d, d))[0]
    return Logistic(rows * ((1 - mu) / largest) ** 0.5, tilt, 3 * normal(fold(draw, 2), d), mu)
