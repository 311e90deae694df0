"""Faults on purpose, around any engine: replies that are lost, late, spoiled, stale or come twice, clients that crash.

What befalls a client in a round depends on the faults' seed, the round and the client alone: every method, every
engine and every resumed run meets the same faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from fedsep import random, tree
from fedsep.core import Algorithm, Failure, FedSepError, Invitation, Params, Payload, Reply, Task
from fedsep.engines.engine import Delivered, Engine, Fleet, Local, Recall, Session, Split
from fedsep.options import option_errors
from fedsep.ranges import NonNegativeInt, Range

Rate = Annotated[float, Range(ge=0, le=1)]

_FAULTS = int.from_bytes(b"faults", "big")  # what the seed's key is folded with
_PARTS = 1 << 30  # a draw is a whole number of these: the same in every float type


@dataclass(frozen=True)
class Faults:
    """How often each fault befalls a client in a round; at most one of them does, so the rates add up to 1 at most.

    Attributes:
        drop: The reply is lost on its way.
        crash: The client dies before it replies.
        late: The reply comes after the server's time-out: it has crossed, and is not read. No time is spent waiting.
        stale: The reply is to the round before.
        corrupt: The reply cannot be what the method sends: numbers that are not finite, another shape, type or tree,
            something that is no tensor, or terabytes.
        duplicate: The reply comes twice.
        seed: Of which clients in which rounds; the run's own seed does not matter.
    """

    drop: Rate = 0.0
    crash: Rate = 0.0
    late: Rate = 0.0
    stale: Rate = 0.0
    corrupt: Rate = 0.0
    duplicate: Rate = 0.0
    seed: NonNegativeInt = 0

    @property
    def rates(self) -> dict[str, float]:
        """The rate of each fault."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "seed"}

    def at(self, round: int, client: int) -> str:
        """The fault that befalls a client in a round (from 0); empty if none does."""
        draw = int(random.integers(random.fold(self.key(round, client), 0), _PARTS)) / _PARTS
        for name, rate in self.rates.items():
            if draw < rate:
                return name
            draw -= rate
        return ""

    def key(self, round: int, client: int) -> Tensor:
        """What a fault's details are drawn from."""
        key = random.fold(random.key(self.seed), _FAULTS)
        return random.fold(random.fold(key, round), client)


@dataclass(frozen=True)
class Faulty:
    """See ``faulty``."""

    engine: Engine
    faults: Faults

    def open(self, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, recall: Recall) -> _Session:
        """Opens the engine inside.

        Raises:
            FedSepError: Replies are to be corrupt, and the method does not say what it expects of them.
        """
        if self.faults.corrupt and not hasattr(algorithm, "expected"):
            name = type(algorithm).__name__
            raise FedSepError(f"engine.faults.corrupt needs a method that says what it expects of replies (got {name})")
        return _Session(self.engine.open(algorithm, task, fleet, recall), self.faults)


@dataclass(frozen=True)
class _Session:
    inner: Session
    faults: Faults

    def round(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Delivered | Failure]:
        for outcome in self.inner.round(state, cohort):
            yield from [outcome] if isinstance(outcome, Failure) else self._befallen(outcome)

    def local(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Local | Failure]:
        return self.inner.local(state, cohort)

    def predict(self, params: Params, split: Split) -> Tensor:
        return self.inner.predict(params, split)

    def close(self) -> None:
        self.inner.close()

    def __getattr__(self, name: str) -> Any:
        """What only some engines can, such as to evaluate at sites."""
        if name == "inner":  # not there yet: the session is being copied
            raise AttributeError(name)
        return getattr(self.inner, name)

    def _befallen(self, delivered: Delivered) -> list[Delivered | Failure]:
        reply = delivered.reply
        place = reply.ctx.round, reply.client
        match self.faults.at(*place):
            case "drop" | "crash" | "late" as name:
                return [_lost(reply, name)]
            case "stale":
                earlier = reply.ctx._replace(round=reply.ctx.round - 1)
                return [delivered._replace(reply=reply._replace(ctx=earlier))]
            case "corrupt":
                payload = corrupted(reply.payload, random.fold(self.faults.key(*place), 1))
                return [delivered._replace(reply=reply._replace(payload=payload))]
            case "duplicate":
                return [delivered, delivered]
            case _:
                return [delivered]


def _lost(reply: Reply, name: str) -> Failure:
    """A reply that the server does not read; a late one has crossed, as has the letter before any."""
    arrived = tree.named_bytes(reply.payload) if name == "late" else {}
    down, up = reply.serialised or (0, 0)
    crossed = (down, up if name == "late" else 0) if reply.serialised else None
    reason = f"{_REASONS[name]} (injected)"
    return Failure(reply.client, reply.ctx, name, reason, "", reply.sent, arrived, crossed)


_REASONS = {
    "drop": "the reply was lost",
    "crash": "the client died before it replied",
    "late": "the reply came after the time-out",
}


def faulty(engine: Engine, faults: Faults) -> Faulty:
    """An engine whose clients' replies meet faults; all else is the engine's. In recipes: ``engine.faults``.

    Raises:
        FedSepError: A rate is out of range, or all of them add up to more than 1.
    """
    errors = option_errors("faults", faults)
    if not errors and sum(faults.rates.values()) > 1 + 1e-9:
        errors = [f"faults must have rates that add up to at most 1 (got {sum(faults.rates.values()):g})"]
    if errors:
        raise FedSepError("; ".join(errors))
    return Faulty(engine, faults)


def corrupted(payload: Payload, key: Tensor) -> Any:
    """Something that cannot be a reply of the method that sends ``payload``; the key says what."""
    leaves, structure = tree.flatten(payload)

    def with_leaf(place: int, way: Callable[[Tensor], object]) -> Any:
        spoiled: list[Any] = [*leaves[:place], way(leaves[place]), *leaves[place + 1 :]]
        return tree.unflatten(spoiled, structure)  # type: ignore[arg-type]

    ways: list[Callable[[], Any]] = [lambda: [payload], lambda: "no tensor"]
    if leaves:
        ways += [partial(with_leaf, 0, way) for way in (_shape, _type, _terabytes, repr)]
    floats = [place for place, leaf in enumerate(leaves) if leaf.is_floating_point() and leaf.numel()]
    ways += [partial(with_leaf, place, _not_finite) for place in floats[:1]]
    return ways[int(random.integers(key, len(ways)))]()


def _shape(leaf: Tensor) -> Tensor:
    return leaf.unsqueeze(0)


def _type(leaf: Tensor) -> Tensor:
    return leaf.to(torch.int32 if leaf.is_floating_point() else torch.float32)


def _terabytes(leaf: Tensor) -> Tensor:
    """One number, seen 2**42 times: nothing is allocated."""
    return leaf.new_zeros(()).expand(1 << 42)


def _not_finite(leaf: Tensor) -> Tensor:
    return torch.full_like(leaf, float("nan"))
