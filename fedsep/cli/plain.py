"""FedAvg as one would write it by hand: what ``fedsep bench`` compares engines with, where the method is FedAvg."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fedsep.core import FedSepError, Samples
from fedsep.recipes import Experiment, Recipe

_KNOWN = {"lr", "steps", "epochs", "batch_size", "momentum", "weight_decay", "weighting"}
_METHOD = "fedsep.algorithms.fedavg"


def why_not(recipe: Recipe, method: str) -> str:
    """Why a plain loop would not do what the method does; empty if it does."""
    block = recipe.methods[method].resolved()
    if block["use"] != _METHOD:
        return f"a plain loop is FedAvg; {method} is {block['use']}"
    given = {name for name, value in block.items() if value is not None} - {"use", "seed", "downlink", "uplink"}
    more = sorted(given - _KNOWN | {name for name in ("uplink", "downlink") if block.get(name) is not None})
    return f"a plain loop has no {', '.join(more)}" if more else ""


def plain_loop(experiment: Experiment, method: str, rounds: int) -> list[float]:
    """Seconds of each round of FedAvg in one process and one thread, with torch.optim; nothing is checked or logged.

    Raises:
        FedSepError: The method is more than that.
    """
    reason = why_not(experiment.recipe, method)
    if reason:
        raise FedSepError(reason)
    torch.set_num_threads(1)
    net, block = _module(experiment), experiment.recipe.methods[method].resolved()
    cohort, clients = experiment.recipe.options()["cohort"], experiment.federation.clients
    x, times = _flat(net), list[float]()
    for number in range(rounds):
        began = time.perf_counter()
        members = cohort.members(experiment.seed, number, clients)
        x = _averaged(net, x, [experiment.federation.shard(client).train for client in members], experiment, block)
        times.append(time.perf_counter() - began)
    return times


def _averaged(
    net: nn.Module, x: Tensor, parts: list[Samples], experiment: Experiment, block: Mapping[str, Any]
) -> Tensor:
    total, weights = torch.zeros_like(x), 0.0
    for train in parts:
        nn.utils.vector_to_parameters(x.clone(), net.parameters())
        _train(net, train, experiment, block)
        weight = train.size if block.get("weighting") == "samples" else 1.0
        total.add_(_flat(net), alpha=weight)
        weights += weight
    return total / weights


def _train(net: nn.Module, train: Samples, experiment: Experiment, block: Mapping[str, Any]) -> None:
    settings = {name: block[name] for name in ("lr", "momentum", "weight_decay") if block.get(name) is not None}
    optimizer = torch.optim.SGD(net.parameters(), **settings)
    size = min(block.get("batch_size") or train.size, train.size)
    each, order = -(-train.size // size), torch.empty(0)
    for step in range(block.get("steps") or each * (block.get("epochs") or 1)):
        if step % each == 0:
            order = torch.randperm(train.size)
        batch = train.take(order[step % each * size : (step % each + 1) * size])
        optimizer.zero_grad()
        experiment.task.criterion(net(batch.x), batch.y).backward()
        optimizer.step()


def _module(experiment: Experiment) -> nn.Module:
    federation = experiment.federation
    told = {name: getattr(federation, name) for name in ("shape", "classes") if hasattr(federation, name)}
    net: nn.Module = experiment.recipe.model.build({"seed": experiment.seed, **told})
    return net.to(torch.get_default_device())


def _flat(net: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(net.parameters()).detach().clone()
