"""What makes a local step of the four-layer CNN quicker on a core: layouts, the order of layers, compilation, bfloat16.

Milliseconds of a step of SGD on random images of MNIST's shape, at W1's batch of 64 and W2's of 20, one thread. The
rows take turns, so that what else the machine does is shared by all.

Usage: python -m benchmarks.steps [--repeats 15] [--out records/steps.json]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.markdown import table
from fedsep import models
from fedsep.environment import environment
from fedsep.models.cnn import CNN

RECORD = Path("records/steps.json")
STEPS = 10  # between two looks at the clock
COUNTS = {"W1": 64, "W2": 20}


class Usual(CNN):
    """The same layers in the usual order and layout: ReLU before pooling, channels outermost."""

    def forward(self, x: Tensor) -> Tensor:
        """As ``CNN``."""
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.max_pool2d(F.relu(conv(x)), 2)
        return self.head(F.relu(self.conv4(x)).flatten(1))


class ChannelsLast(Usual):
    """Channels innermost, which a weight's layout makes of all but one-channel images; those it leaves as they are."""

    def forward(self, x: Tensor) -> Tensor:
        """As ``CNN``."""
        return super().forward(models.layout.channels_last(x))


def usual(shape: Sequence[int], classes: int) -> nn.Module:
    """``models.cnn`` as it is usually written, and tuned: ReLU, then pooling; channels innermost."""
    return ChannelsLast(*shape, classes, 32)


def stepper(net: nn.Module, x: Tensor, y: Tensor, *, half: bool = False) -> Callable[[], None]:
    """A step of SGD on one minibatch."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = F.cross_entropy(net(x).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def convolutions(net: CNN, x: Tensor) -> Callable[[], None]:
    """The four convolutions of a step alone, forwards and backwards: what no rearrangement takes away."""
    inputs: list[tuple[nn.Conv2d, Tensor, Tensor]] = []
    hooks = [part.register_forward_hook(lambda own, given, out: inputs.append((own, given[0].detach(), out.detach())))
             for part in (net.conv1, net.conv2, net.conv3, net.conv4)]  # fmt: skip
    net(x)
    for hook in hooks:
        hook.remove()

    def play() -> None:
        for number, (conv, given, out) in enumerate(inputs):
            conv(given)
            torch.ops.aten.convolution_backward(
                out, given, conv.weight, [out.shape[1]], [1, 1], list(conv.padding), [1, 1], False, [0, 0], 1,
                [number > 0, True, True],
            )  # fmt: skip

    return play


def variants(batch: int) -> dict[str, Callable[[], None]]:
    """The rows."""
    x, y = torch.rand(batch, 1, 28, 28), torch.randint(10, (batch,))
    shape = (1, 28, 28, 10, 32)
    rows = {
        "ReLU, then pooling; channels outermost": stepper(Usual(*shape), x, y),
        "channels innermost": stepper(ChannelsLast(*shape), x, y),
        "pooling, then ReLU (models.cnn)": stepper(CNN(*shape), x, y),
        "the same in bfloat16": stepper(CNN(*shape), x, y, half=True),
        "its convolutions alone": convolutions(CNN(*shape), x),
    }
    if shutil.which("g++"):
        rows["models.cnn by torch.compile"] = stepper(torch.compile(CNN(*shape)), x, y)  # type: ignore[arg-type]
    return rows


def measured(batch: int, repeats: int) -> dict[str, float]:
    """Median milliseconds of a step."""
    rows = variants(batch)
    times: dict[str, list[float]] = {name: [] for name in rows}
    for repeat in range(repeats + 1):
        for name, step in rows.items():
            began = time.perf_counter()
            for _ in range(STEPS):
                step()
            if repeat:
                times[name].append(1e3 * (time.perf_counter() - began) / STEPS)
    return {name: round(statistics.median(each), 3) for name, each in times.items()}


def page_table() -> str:
    """The record as a table."""
    if not RECORD.is_file():
        return "Not measured yet."
    record = json.loads(RECORD.read_text())
    rows = record["milliseconds"]
    names = list(rows["W1"])
    lines = [[name, *(f"{rows[of][name]:.2f}" for of in rows)] for name in names]
    made = record["environment"]
    told = f"{made['machine']['cpu']}, one thread, torch {made['torch']}, {made['started']}."
    return f"{table(['a step of', *(f'{of}, batch {COUNTS[of]}, ms' for of in rows)], lines)}\n\n{told}"


def main() -> None:
    """Measures, prints and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = {"environment": environment("none", 0), "milliseconds": {}}
    for name, batch in COUNTS.items():
        record["milliseconds"][name] = measured(batch, options.repeats)
        print(name, json.dumps(record["milliseconds"][name]), flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
