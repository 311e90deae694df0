"""The optimiser of phi: that of the paper that it is from, step for step."""

import pytest
import torch

from fedsep import random
from fedsep.core import Batch
from fedsep.gates import Adam


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_it_is_adam_with_decay_apart_from_the_gradient(decay):
    phi = {"a": random.normal(random.key(1), 3), "b": random.normal(random.key(2), 2, 2)}
    before = {name: part.clone() for name, part in phi.items()}
    batches = [Batch(random.normal(random.key(number), 3), torch.tensor(number)) for number in range(6)]

    def objective(phi, batch, key):
        return (phi["a"] - batch.x).square().sum() + phi["b"].pow(4).sum()

    got = Adam(0.1, decay).minimise(phi, objective, batches, random.key(3))
    y = torch.cat([before["a"], before["b"].reshape(-1)])  # arXiv:1412.6980, Algorithm 1; arXiv:1711.05101, line 12
    m, v = torch.zeros(7), torch.zeros(7)
    for t, batch in enumerate(batches, start=1):
        g = torch.cat([2 * (y[:3] - batch.x), 4 * y[3:] ** 3])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        step = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        y = y - 0.1 * step - 0.1 * decay * y
    torch.testing.assert_close(torch.cat([got["a"], got["b"].reshape(-1)]), y)
    assert all(torch.equal(phi[name], part) for name, part in before.items())


def test_every_step_has_noise_of_its_own():
    seen = []

    def objective(phi, batch, key):
        seen.append(int(key))
        return phi["a"].sum()

    Adam(0.1).minimise({"a": torch.zeros(2)}, objective, [Batch(torch.zeros(1), torch.zeros(1))] * 5, random.key(3))
    assert len(set(seen)) == 5
