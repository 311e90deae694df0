"""The contract: what crosses the wire, who knows what, and the six functions an engine needs.

Read this file first, then ``fedsep.py``, which composes the five parts into Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

Tree = Any
"""A tensor, or a dict, tuple, list or NamedTuple of trees."""
Params = dict[str, Tensor]
"""Model parameters by name."""
Payload = Any
"""A tree of tensors and nothing else: its bytes are measured, never estimated."""
Info = dict[str, Tensor]
"""Scalars that a client or server reports about a round; they are logged, not communicated."""

ASTRAY = -2
"""``Ctx.seen`` of a client whose memory proved to be wrong: whatever it remembers, it is sent everything."""

HEADER_BYTES = 32
"""Constant header of every message: round, key, last accepted round, digest (8 bytes each)."""


class Ctx(NamedTuple):
    """What both ends know about one client in one round, without a byte sent.

    It carries no client id: what the server knows of a client is what the client reported.

    Attributes:
        round: Number of the round, from 0.
        capability: Fraction of the server's model that this client can hold, in (0, 1].
        key: int64 scalar, private to this client and round.
        seen: Round of this client's last *accepted* reply, -1 if there was none, ``ASTRAY`` if its memory was wrong.
        report: What the client sent under ``"report"`` with its last accepted reply, or None.
        digest: Of what the client should hold of the server's state; None where the method keeps no digest.
    """

    round: int
    capability: float
    key: Tensor
    seen: int = -1
    report: Tree = None
    digest: int | None = None


class Batch(NamedTuple):
    """Examples ready to compute with: ``x`` floating point, ``y`` integers or floats."""

    x: Tensor
    y: Tensor


class Samples(NamedTuple):
    """Examples as stored: images stay uint8 until a minibatch is taken.

    Attributes:
        x: Inputs, shape (n, ...), uint8 or floating point.
        y: Targets, shape (n,) or (n, k).
        shift: Subtracted from x when a batch is taken; broadcasts against x[i]. None: nothing.
        scale: Multiplied afterwards. None: nothing.
    """

    x: Tensor
    y: Tensor
    shift: Tensor | None = None
    scale: Tensor | None = None

    @property
    def size(self) -> int:
        """Number of examples."""
        return self.y.shape[0]

    def take(self, index: Tensor | slice) -> Batch:
        """The examples at ``index`` (int64 positions or a slice), normalised, in the default float type."""
        x, y = self.rows(index)
        return Batch(self.normalised(x), y)

    def rows(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Inputs and targets at ``index``, as they are stored."""
        if isinstance(index, Tensor):  # rows one after the other: several times as fast as x[index], which is general
            return self.x.index_select(0, index), self.y.index_select(0, index)
        return self.x[index], self.y[index]

    def normalised(self, x: Tensor) -> Tensor:
        """Stored inputs as one computes with them, in the default float type."""
        if x.is_floating_point() and self.shift is None:
            return x if self.scale is None else x * self.scale.to(x.dtype)
        x = x.to(torch.get_default_dtype(), copy=True)  # so that what follows can be done in its place
        if self.shift is not None:
            x.sub_(self.shift.to(x.dtype))
        if self.scale is not None:
            x.mul_(self.scale.to(x.dtype))
        return x

    def all(self) -> Batch:
        """Every example as one batch."""
        return self.take(slice(None))


LazySamples = Samples | Callable[[], Samples | None] | None
"""A part of a client's data, or the function that gives it; None: the client has none."""


class Shard:
    """One client's data.

    Validation and test part may be given as functions, which are called whenever the part is asked for: most rounds do
    not, and where parts overlap, to gather one takes longer than a small model's local steps.

    Attributes:
        train: What the client learns from.
    """

    __slots__ = ("_test", "_validation", "train")

    def __init__(self, train: Samples, validation: LazySamples = None, test: LazySamples = None) -> None:
        self.train, self._validation, self._test = train, validation, test

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.train.size:,} training examples)"

    def __iter__(self) -> Iterator[Samples | None]:
        """Its three parts."""
        return iter((self.train, self.validation, self.test))

    def with_train(self, train: Samples) -> Shard:
        """The same client, which learns from other examples."""
        return Shard(train, self._validation, self._test)

    @property
    def validation(self) -> Samples | None:
        """What was held out of the client's share."""
        return self._validation() if callable(self._validation) else self._validation

    @property
    def test(self) -> Samples | None:
        """What the client's model is judged on: it has the client's own class set."""
        return self._test() if callable(self._test) else self._test


def _unchanged(y: Params) -> Params:
    return y


class Decoded(NamedTuple):
    """Where learning starts, and under which rules.

    Attributes:
        y: The learning parameter, y_0 of the learning stage.
        project: Maps y into the set it must stay in (a mask, a ball) after every step.
        penalty: Added to the local loss, or None.
        residual: What ``encode`` must remember of ``decode``.
    """

    y: Params
    project: Callable[[Params], Params] = _unchanged
    penalty: Callable[[Params], Tensor] | None = None
    residual: Any = None


class Update(NamedTuple):
    """One client's change as the server reads it.

    ``cover`` is 0 where the client does not hold x, and 1, or another weight of its own, where it does; None: 1
    everywhere.
    """

    value: Tree
    weight: float = 1.0
    cover: Tree | None = None


class Invitation(NamedTuple):
    """One seat in a round's cohort."""

    client: int
    ctx: Ctx


class Reply(NamedTuple):
    """What came back from a client.

    Attributes:
        client: The client's number; replies are folded in its order.
        ctx: The context of the client's invitation.
        payload: What the client sent.
        samples: Number of training examples, told once at enrolment.
        sent: Payload bytes that the client was sent, by top-level name of the payload.
        info: Scalars for the log: numbers, or tensors on a device, which are looked at when the reply is checked.
        change: The payload as ``read`` gave it when the reply was checked, so that it is read once; None: unread.
        serialised: Bytes, down and up, of what the engine made of this exchange to carry it; None: it does not say.
    """

    client: int
    ctx: Ctx
    payload: Payload
    samples: int = 1
    sent: dict[str, int] = {}  # noqa: RUF012 - never mutated
    info: dict[str, Any] = {}  # noqa: RUF012
    change: Update | None = None
    serialised: tuple[int, int] | None = None


class Expected(NamedTuple):
    """What a client's reply looks like, whatever it says.

    Attributes:
        payload: A reply of the same tree, shapes and dtypes; its numbers mean nothing.
        longest: Most bytes of a reply in which packed strings (uint8, one axis) may have any length, since it depends
            on what they say; None: every shape is as in ``payload``.
        vectors: Whether not only packed strings but all tensors of one axis may.
    """

    payload: Payload
    longest: int | None = None
    vectors: bool = False


class Failure(NamedTuple):
    """A client that did not deliver is a value, not an exception: the round goes on without it.

    Attributes:
        client: The client's number.
        ctx: The context of its invitation.
        stage: What failed: a part of its work, or what became of its reply (``reply``, ``late``, ``stale``, ...).
        reason: Why, in words.
        traceback: Of the error, if there was one.
        sent: Payload bytes that the client was sent, by top-level name; empty if it failed before.
        received: Bytes of a reply that arrived and was refused; empty if none arrived.
        serialised: As a reply's; the second is 0 if none arrived.
    """

    client: int
    ctx: Ctx
    stage: str
    reason: str
    traceback: str = ""
    sent: dict[str, int] = {}  # noqa: RUF012
    received: dict[str, int] = {}  # noqa: RUF012
    serialised: tuple[int, int] | None = None


S = TypeVar("S")
C = TypeVar("C")
M = TypeVar("M")


class Algorithm(Protocol[S, C]):
    """All that an engine knows of a method: six pure functions.

    A method that fits none of the five axes of ``fedsep.FedSep`` implements these directly.
    State goes in, state comes out; nothing is changed in place.

    Two more let the server check a reply before it is folded: ``expected(state, ctx) -> Expected``, whose shapes may
    depend on the state, the round, the capability and the report, and ``read(state, reply) -> Update``. Without them
    a reply is only known to be tensors and finite. A third spares it work: ``form(ctx)``, something hashable on which,
    beside state and report, the form of a reply depends; ``expected`` is asked for every client where it is missing.
    """

    def init(self, params: Params) -> S:
        """The server's state before the first round."""
        ...

    def broadcast(self, state: S, ctx: Ctx) -> Payload:
        """Server: what this client is sent in this round."""
        ...

    def enroll(self, payload: Payload, ctx: Ctx) -> C:
        """Client: its memory before its first accepted round."""
        ...

    def update(self, payload: Payload, client: C, shard: Shard, ctx: Ctx) -> tuple[Payload, C, Info]:
        """Client: a round of work; the reply, the memory if the reply is accepted, and scalars to log."""
        ...

    def aggregate(self, state: S, replies: Iterable[Reply]) -> tuple[S, Info]:
        """Server: the state after the round.

        One result is kept a round: with no replies when the round was void, and then only the clock moves.
        A round turns out to be void while its replies are being read, so such a result may be thrown away.
        """
        ...

    def model(self, state: S) -> Params:
        """The parameters that the server would evaluate or export."""
        ...


class Codec(Protocol[M]):
    """How the communication parameter x becomes the learning parameter y, and back."""

    def init(self, params: Params) -> Tree:
        """x_1, from the model's initial parameters."""
        ...

    def enroll(self, x: Tree, ctx: Ctx) -> M:
        """The client's memory before its first round."""
        ...

    def decode(self, x: Tree, memory: M, shard: Shard, ctx: Ctx) -> tuple[Decoded, M]:
        """y = argmin_y g(x, y), or an approximation of it."""
        ...

    def encode(self, start: Decoded, y: Params, x: Tree, memory: M, shard: Shard, ctx: Ctx) -> tuple[Tree, M, Info]:
        """dx = J^T (y - start.y), J the Jacobian of decode at x."""
        ...

    def advance(self, x: Tree, round: int) -> tuple[Tree, bool]:
        """Server: x as it enters ``round``, and whether its coordinates mean something new from now on.

        Most codecs return ``(x, False)``; where it is True the server's optimiser forgets its state.
        """
        ...

    def model(self, x: Tree) -> Params:
        """The server's model: decode without a client."""
        ...


class View(Protocol):
    """Which part of x a client is sent; ``paste`` is the transpose of ``cut``.

    A view under which clients of one capability change parts of other names or shapes says by a further method,
    ``form(ctx)``, on what these depend (something hashable): a reply of another form than expected is refused.
    """

    def cut(self, x: Tree, ctx: Ctx) -> Tree:
        """What this client is sent of x."""
        ...

    def like(self, x: Tree, ctx: Ctx) -> Tree:
        """A tree of the shape that this client's change has, to read its reply by."""
        ...

    def paste(self, dx: Tree, x: Tree, ctx: Ctx) -> tuple[Tree, Tree | None]:
        """The client's change in the server's shape, and its cover (None: everywhere)."""
        ...


class Learner(Protocol):
    """How a client learns."""

    def learn(self, start: Decoded, shard: Shard, ctx: Ctx) -> tuple[Params, Info]:
        """y_I from y_0 = start.y."""
        ...


class Wire(Protocol[M]):
    """How a tree becomes bytes, and back."""

    def init(self, like: Tree) -> M:
        """The sender's memory before its first message."""
        ...

    def pack(self, tree: Tree, memory: M, ctx: Ctx) -> tuple[Payload, M]:
        """The payload, and the sender's memory if it is accepted."""
        ...

    def unpack(self, payload: Payload, like: Tree, ctx: Ctx) -> Tree:
        """The tree as the receiver reads it; ``like`` gives shapes and dtypes, None if unknown."""
        ...


class Server(Protocol[S]):
    """How updates change x."""

    def init(self, x: Tree) -> S:
        """The optimiser's state before the first round."""
        ...

    def step(self, x: Tree, updates: Iterable[Update], state: S) -> tuple[Tree, S]:
        """x after the round; with no updates, x and the state as they were."""
        ...


class Task(Protocol):
    """The local problem: what is minimised and what is measured.

    A class whose gradients are quick to compute for many clients at once may say so by ``gradients_together(params,
    batch)``: both have a first dimension over clients, and it gives each client's loss, shape (clients,), and the
    gradients, or None, and then ``loss`` is asked.
    """

    def init(self) -> Params:
        """The model's initial parameters, as fresh tensors."""
        ...

    def predict(self, params: Params, x: Tensor) -> Tensor:
        """The model's outputs, shape (batch, outputs)."""
        ...

    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch's outputs, a scalar."""
        ...

    def loss(self, params: Params, batch: Batch) -> Tensor:
        """Mean loss of a batch, a scalar: ``criterion(predict(params, batch.x), batch.y)``."""
        ...

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Figures of merit from all outputs and targets; the first is the one reported."""
        ...


class FedSepError(Exception):
    """A mistake that the user can mend; its message says how. Never shown as a traceback."""


_stage_watchers: list[Callable[[str], None]] = []


class stage:
    """Names the part of a client's work that is running, so that a failure can say where it was."""

    __slots__ = ("_name",)  # a class of its own, since one is entered several times for every client

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        for watch in _stage_watchers:
            watch(self._name)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception) and not hasattr(error, "stage"):
            error.stage = self._name  # type: ignore[attr-defined]


def watch_stages(watch: Callable[[str], None]) -> None:
    """Calls ``watch`` with the name of every stage that starts in this process."""
    _stage_watchers.append(watch)
