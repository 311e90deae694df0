"""What a method costs, measured on a tiny run: bytes that crossed, tensors that were kept. No formulas."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fedsep import random, tree
from fedsep.core import Algorithm, Ctx, Failure, FedSepError, Invitation, Params, Payload, Samples, Shard, Task
from fedsep.engines.client import Result, Sending, delivered, run
from fedsep.engines.engine import Fleet
from fedsep.pairs import brief, sketchless

EXAMPLES = 8
"""Training examples that the measured client has."""

ROUNDS = 3
"""Rounds that are played: in the first ones a client has no memory yet, or is sent less."""

_NEGLIGIBLE = 1024  # bytes: keys and counters

_LARGE = 1 << 27  # bytes of a stored sketch that is not made for a check: it would have to be factorised


class Traffic(NamedTuple):
    """Payload bytes of one client in one round."""

    up: int
    down: int


@dataclass(frozen=True)
class Cost:
    """What one client costs.

    Attributes:
        rounds: Its traffic in the first rounds of a run.
        client: Bytes that it holds, by what they are.
        server: Bytes that the server holds, by what they are.
    """

    rounds: tuple[Traffic, ...]
    client: Mapping[str, int]
    server: Mapping[str, int]


@dataclass(frozen=True)
class _Small:
    """A federation of one client with a few of its examples, and nothing to evaluate on."""

    fleet: Fleet
    clients: int = 1
    validation: None = None
    test: None = None

    def shard(self, client: int) -> Shard:
        whole = self.fleet.shard(client)
        validation = whole.validation
        return Shard(_few(whole.train), validation and _few(validation), lambda: whole.test)


class _Touched(TorchDispatchMode):
    """Notes the memory of every tensor that an operation reads or writes."""

    def __init__(self) -> None:
        super().__init__()
        self.storages = set[int]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.storages |= _storages((args, kwargs or {}, result)).keys()
        return result


def measure(algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, capability: float, batch: int) -> Cost:
    """Plays some rounds with client 0 alone, through the functions that every engine uses.

    Args:
        algorithm: The method.
        task: The local problem.
        fleet: The data; a few examples of client 0 are used.
        capability: Of the client.
        batch: Examples in a minibatch, for the memory of activations.

    Raises:
        FedSepError: The client failed.
    """
    small, touched, algorithm = _Small(fleet), _Touched(), brief(algorithm)
    stored = _stored(algorithm)
    if stored > _LARGE:
        algorithm = sketchless(algorithm)
    traffic: list[Traffic] = []
    with touched:
        state = algorithm.init(task.init())
        memory: Any = None
        payload: Payload = None
        report: Payload = None
        for number in range(ROUNDS):
            report = payload.get("report", report) if isinstance(payload, dict) else report
            ctx = Ctx(number, capability, random.key(number), number - 1, report)
            sent, result, state = _round(algorithm, small, state, memory, ctx)
            memory, payload = result.memory, result.payload
            traffic.append(Traffic(tree.nbytes(payload), sent))
    model = algorithm.model(state)
    others = _storages((state, memory, payload, model, *fleet.shard(0)))
    kept = sum(size for where, size in _alive().items() if where in touched.storages and where not in others)
    activations = _activations(task, model, small.shard(0).train) * batch
    held = {"kept by the method (sketches)": kept} if kept > _NEGLIGIBLE else {}
    held |= {"a stored sketch (not made here)": stored} if stored > _LARGE else {}
    client = {"memory between rounds": _size(memory), "start, current point, gradient": 3 * _size(model)}
    client |= {f"activations of a batch of {batch}": activations, **held}
    return Cost(tuple(traffic), client, {"state": _size(state), "one reply": _size(payload), **held})


def _round(algorithm: Algorithm[Any, Any], fleet: Fleet, state: Any, memory: Any, ctx: Ctx) -> tuple[int, Result, Any]:
    """A round of one client: the bytes it was sent, what it gave, and the server's state after it."""
    job = Sending(algorithm, state, lambda client, seen: memory).job(Invitation(0, ctx))
    result = job if isinstance(job, Failure) else run(algorithm, job, fleet)
    if isinstance(job, Failure) or isinstance(result, Failure):
        failed = job if isinstance(job, Failure) else result
        assert isinstance(failed, Failure)
        raise FedSepError(f"a client fails in {failed.stage}: {failed.reason}")
    state, _ = algorithm.aggregate(state, [delivered(job, result).reply])
    return tree.nbytes(job.payload), result, state


def _stored(algorithm: Algorithm[Any, Any]) -> int:
    """Bytes of a stored sketch, where the codec says so."""
    tell = getattr(getattr(algorithm, "codec", None), "stored", None)
    return 0 if tell is None else tell()


def _few(samples: Samples) -> Samples:
    return samples._replace(x=samples.x[:EXAMPLES], y=samples.y[:EXAMPLES])


def _size(value: Any) -> int:
    return sum(leaf.numel() * leaf.element_size() for leaf in tree.leaves(value) if isinstance(leaf, Tensor))


def _storages(value: Any) -> dict[int, int]:
    """Bytes of the memory blocks behind the tensors of a tree, by address: views of one block count once."""
    blocks = [leaf.untyped_storage() for leaf in tree.leaves(value) if type(leaf) is Tensor]
    return {block.data_ptr(): block.nbytes() for block in blocks}


def _alive() -> dict[int, int]:
    """The memory blocks of all tensors that are alive."""
    gc.collect()
    return _storages([thing for thing in gc.get_objects() if type(thing) is Tensor])


def _activations(task: Task, params: Params, samples: Samples) -> int:
    """Bytes per example that autograd keeps for the backward pass, as counted on a few examples."""
    kept: dict[int, int] = {}

    def keep(part: Tensor) -> Tensor:
        kept.update(_storages(part))
        return part

    examples = samples.all()
    leaves = {name: part.detach().clone().requires_grad_() for name, part in params.items()}
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda part: part):
        task.loss(leaves, examples)
    return sum(size for where, size in kept.items() if where not in _storages(leaves)) // max(1, len(examples.y))
