"""The three workloads of the round benchmark, and a plain PyTorch loop for each to be compared with."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedsep import data, models, random


@dataclass(frozen=True)
class Workload:
    """A federation's shape: who takes part, with how many examples, and how much each computes."""

    name: str
    clients: int
    cohort: int
    examples: int
    steps: int
    batch_size: int
    model: Callable[..., nn.Module]

    def federation(self) -> data.Federation:
        """Images of MNIST's shape with random pixels: the time of a step does not depend on what is on them."""
        x, y = _images(0, self.clients * self.examples)
        x_test, y_test = _images(2, 100)  # apart, so that every client has as many as another
        return data.arrays(x, y, x_test=x_test, y_test=y_test, clients=self.clients, name=self.name)


def _images(seed: int, count: int) -> tuple[Tensor, Tensor]:
    pixels = random.integers(random.key(seed), 256, count, 1, 28, 28).to(torch.uint8).cpu()
    return pixels, random.integers(random.key(seed + 1), 10, count).cpu()


W1 = Workload("W1", clients=10, cohort=10, examples=6000, steps=5, batch_size=64, model=models.cnn)
W2 = Workload("W2", clients=1000, cohort=100, examples=60, steps=3, batch_size=20, model=models.cnn)
W3 = Workload("W3", clients=1000, cohort=100, examples=60, steps=3, batch_size=20, model=models.logistic)


class PlainLoop:
    """FedAvg as one would write it by hand: processes of one thread, shared memory, torch.optim.

    It keeps no ledger, checks nothing, and its images are floats from the start. Weights are channels_last here;
    the CNN puts its activations into that layout itself.
    """

    def __init__(self, workload: Workload, federation: data.Federation, processes: int, lr: float = 0.1) -> None:
        self.workload = workload
        net = workload.model(federation.shape, federation.classes)
        self.x = flat(net).share_memory_()
        self.out = torch.zeros(workload.cohort, self.x.numel()).share_memory_()
        shards = [federation.shard(client).train.all() for client in range(workload.clients)]
        context = multiprocessing.get_context("fork")
        self.pipes, self.processes = [], []
        for _ in range(processes):
            ours, theirs = context.Pipe()
            arguments = (theirs, net, self.x, self.out, shards, workload, lr)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    def round(self) -> None:
        """One round over a random cohort, split evenly between the processes."""
        chosen = torch.randperm(self.workload.clients)[: self.workload.cohort].tolist()
        seats = list(enumerate(chosen))
        for number, pipe in enumerate(self.pipes):
            pipe.send(seats[number :: len(self.pipes)])
        for pipe in self.pipes:
            pipe.recv()
        self.x.copy_(self.out.mean(0))

    def close(self) -> None:
        """Ends the processes."""
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join()


class SingleLoop:
    """FedAvg as one would write it by hand in one process, on torch's default device: clients one after the other."""

    def __init__(self, workload: Workload, federation: data.Federation, lr: float = 0.1) -> None:
        self.workload, self.lr = workload, lr
        self.net = workload.model(federation.shape, federation.classes).to(torch.get_default_device())
        self.x = flat(self.net)
        self.shards = [federation.shard(client).train.all() for client in range(workload.clients)]

    def round(self) -> None:
        """One round over a random cohort."""
        chosen = torch.randperm(self.workload.clients)[: self.workload.cohort].tolist()
        total = torch.zeros_like(self.x)
        for client in chosen:
            nn.utils.vector_to_parameters(self.x.clone(), self.net.parameters())
            _train(self.net, self.shards[client], self.workload, self.lr)
            total += flat(self.net)
        self.x = total / len(chosen)

    def close(self) -> None:
        """Nothing."""


def flat(net: nn.Module) -> Tensor:
    """The parameters as one vector."""
    return nn.utils.parameters_to_vector(net.parameters()).detach().clone()


def _serve(pipe: Any, net: nn.Module, x: Tensor, out: Tensor, shards: list[Any], workload: Workload, lr: float) -> None:
    torch.set_num_threads(1)
    while (seats := pipe.recv()) is not None:
        for seat, client in seats:
            nn.utils.vector_to_parameters(x.clone(), net.parameters())
            _train(net.to(memory_format=torch.channels_last), shards[client], workload, lr)
            out[seat].copy_(torch.cat([parameter.detach().reshape(-1) for parameter in net.parameters()]))
        pipe.send(True)


def _train(net: nn.Module, shard: Any, workload: Workload, lr: float) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    order = torch.randperm(len(shard.y))
    for step in range(workload.steps):
        index = order[step * workload.batch_size : (step + 1) * workload.batch_size]
        loss = nn.functional.cross_entropy(net(shard.x[index]), shard.y[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
