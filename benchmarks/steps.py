"""What makes a local step of the four-layer CNN quicker on a core.

Layouts, the order of layers, matrix products, compilation, bfloat16.

Milliseconds of a step of SGD on random images of MNIST's shape, at W1's batch of 64 and W2's of 20, one thread, and by
the network's width. The rows take turns, so that what else the machine does is shared by all.

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
from fedsep import models, tasks
from fedsep.core import Batch
from fedsep.environment import environment
from fedsep.gradients import value_and_gradient
from fedsep.models.cnn import CNN

RECORD = Path("records/steps.json")
STEPS = 10  # between two looks at the clock
COUNTS = {"W1": 64, "W2": 20}
WIDTHS = (8, 16, 24, 32, 48, 64)


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


class Blocks(CNN):
    """``models.cnn`` in oneDNN's own layout, as local steps have it, whoever calls it."""

    def forward(self, x: Tensor) -> Tensor:
        """As ``CNN``."""
        x = x.to_mkldnn()
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu(F.max_pool2d(conv(x), 2, 2))
        return self.head(F.relu(self.conv4(x)).to_dense().flatten(1))


class Products(CNN):
    """``models.cnn`` with a matrix product for each convolution: every pixel's neighbourhood is a column."""

    def forward(self, x: Tensor) -> Tensor:
        """As ``CNN``."""
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu(F.max_pool2d(_product(conv, x), 2))
        return self.head(F.relu(_product(self.conv4, x)).flatten(1))


def _product(conv: nn.Conv2d, x: Tensor) -> Tensor:
    columns = F.unfold(x, conv.kernel_size, padding=conv.padding)  # type: ignore[arg-type]
    assert conv.bias is not None
    out = conv.weight.flatten(1) @ columns + conv.bias[:, None]
    side = x.shape[-1] + 2 * int(conv.padding[0]) - conv.kernel_size[0] + 1
    return out.unflatten(2, (side, side))


def usual(shape: Sequence[int], classes: int) -> nn.Module:
    """``models.cnn`` as it is usually written, and tuned: ReLU, then pooling; channels innermost."""
    return ChannelsLast(*shape, classes, 32)


def blocks(shape: Sequence[int], classes: int) -> nn.Module:
    """``models.cnn`` in oneDNN's layout."""
    return Blocks(*shape, classes, 32)


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


def local(x: Tensor, y: Tensor) -> Callable[[], None]:
    """A step of SGD as the library takes it."""
    task = tasks.classification(models.cnn((1, 28, 28), 10))
    at, batch = task.init(), Batch(x, y)

    def step() -> None:
        nonlocal at
        _, gradient = value_and_gradient(lambda y: task.loss(y, batch), at)
        at = {name: part.sub(gradient[name], alpha=0.1) for name, part in at.items()}

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


def by_width(repeats: int) -> list[dict[str, float]]:
    """A step at batch 20 in both layouts, by the number of channels."""
    x, y = torch.rand(COUNTS["W2"], 1, 28, 28), torch.randint(10, (COUNTS["W2"],))
    found: list[dict[str, float]] = []
    for width in WIDTHS:
        nets = {"channels innermost": CNN(1, 28, 28, 10, width), "oneDNN's layout": Blocks(1, 28, 28, 10, width)}
        found.append({"width": width, **in_turn({name: stepper(net, x, y) for name, net in nets.items()}, repeats)})
    return found


def variants(batch: int) -> dict[str, Callable[[], None]]:
    """The rows."""
    x, y = torch.rand(batch, 1, 28, 28), torch.randint(10, (batch,))
    shape = (1, 28, 28, 10, 32)
    rows = {
        "ReLU, then pooling; channels outermost": stepper(Usual(*shape), x, y),
        "channels innermost": stepper(ChannelsLast(*shape), x, y),
        "pooling, then ReLU (models.cnn)": stepper(CNN(*shape), x, y),
        "the same in oneDNN's layout": stepper(Blocks(*shape), x, y),
        "models.cnn in a local step: that layout, its numbers bounded": local(x, y),
        "convolutions alone, channels innermost": convolutions(CNN(*shape), x),
        "convolutions alone, in oneDNN's layout": convolutions(Blocks(*shape), x),
        "models.cnn in bfloat16, channels innermost": stepper(CNN(*shape), x, y, half=True),
        "models.cnn, its convolutions as matrix products": stepper(Products(*shape), x, y),
    }
    if shutil.which("g++"):
        rows["models.cnn by torch.compile, channels innermost"] = stepper(torch.compile(CNN(*shape)), x, y)  # type: ignore[arg-type]
    return rows


def in_turn(rows: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median milliseconds of a step of each."""
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
    steps = table(["a step of", *(f"{of}, batch {COUNTS[of]}, ms" for of in rows)], lines)
    layouts = [name for name in record["widths"][0] if name != "width"]
    wide = [[row["width"], *(f"{row[name]:.2f}" for name in layouts)] for row in record["widths"]]
    widths = table(["models.cnn of width, batch 20", *(f"{name}, ms" for name in layouts)], wide)
    made = record["environment"]
    told = f"{made['machine']['cpu']}, one thread, torch {made['torch']}, {made['started']}."
    return f"{steps}\n\n{widths}\n\n{told}"


def main() -> None:
    """Measures, prints and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = {"environment": environment("none", 0), "milliseconds": {}}
    for name, batch in COUNTS.items():
        record["milliseconds"][name] = in_turn(variants(batch), options.repeats)
        print(name, json.dumps(record["milliseconds"][name]), flush=True)
    record["widths"] = by_width(options.repeats)
    print("widths", json.dumps(record["widths"]), flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
