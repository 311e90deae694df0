"""What a narrow sub-model saves: the time of a step falls with the width."""

import time

import pytest
import torch

from fedsep import algorithms, models, random, tasks
from fedsep.core import Ctx, Samples, Shard
from fedsep.models.tracing.deriving import derived, example

SHAPE = (3, 32, 32)


@pytest.mark.slow
def test_a_step_at_a_quarter_of_the_width_takes_at_most_a_third_of_the_time():
    """ResNet-18 of base width 64, batches of 10, processor time on one thread."""
    torch.set_default_dtype(torch.float32)
    task = tasks.classification(models.resnet(SHAPE, 10))
    table = derived(task.model.module, example(task.model.module, (3, 8, 8)), ())
    method = algorithms.heterofl(task, units=table, lr=0.01, steps=1, batch_size=10)
    own = Shard(Samples(random.normal(random.key(1), 10, *SHAPE), torch.arange(10)))
    state, times = method.init(task.init()), {1.0: [], 0.25: []}
    for number in range(4):
        for capability, taken in times.items():
            ctx = Ctx(number, capability, random.key(number))
            sent = method.broadcast(state, ctx)
            began = time.process_time()
            method.update(sent, method.enroll(sent, ctx), own, ctx)
            taken.append(time.process_time() - began)
    assert min(times[0.25]) <= 0.35 * min(times[1.0])
