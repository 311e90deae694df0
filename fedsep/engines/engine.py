"""What the loop asks of an engine, and what an engine is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor

from fedsep.core import Algorithm, Failure, Invitation, Params, Reply, Samples, Shard, Task, Tree

Split = Literal["validation", "test"]
Metrics = dict[str, float]


class Fleet(Protocol):
    """The clients' data: a shard is made on demand, so that memory does not grow with the number of clients.

    One that has ``sizes``, the number of training examples of every client, lets engines begin costly clients first.
    """

    @property
    def clients(self) -> int:
        """Number of clients."""
        ...

    @property
    def validation(self) -> Samples | None:
        """What the server selects on."""
        ...

    @property
    def test(self) -> Samples | None:
        """What the server is judged on."""
        ...

    def shard(self, client: int) -> Shard:
        """One client's data."""
        ...


class Recall(Protocol):
    """A client's memory after the round ``seen``; None if it has none and must enroll."""

    def __call__(self, client: int, seen: int) -> Tree | None:
        """The memory."""
        ...


class Delivered(NamedTuple):
    """A reply, and the client's memory if the reply is accepted."""

    reply: Reply
    memory: Tree


class Local(NamedTuple):
    """A client's metrics on its own test part, before and after its local steps."""

    client: int
    before: Metrics
    after: Metrics


class Session(Protocol):
    """A running engine: processes, devices and data are ready."""

    def round(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Delivered | Failure]:
        """Runs the cohort and yields one outcome per client, in the order of ``cohort``."""
        ...

    def local(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Local | Failure]:
        """Each client's metrics before and after its local steps; nothing is remembered or sent."""
        ...

    def predict(self, params: Params, split: Split) -> Tensor:
        """The model's outputs on one of the server's sets, shape (n, outputs)."""
        ...

    def close(self) -> None:
        """Gives back processes and memory."""
        ...


class Engine(Protocol):
    """How clients are run; the description of an engine, which ``open`` brings to life."""

    def open(self, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, recall: Recall) -> Session:
        """Starts the engine for one run."""
        ...
