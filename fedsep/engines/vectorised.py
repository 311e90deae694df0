"""Many clients in one computation: their local steps stacked, everything else one by one as in ``sequential``.

It pays where one client's step is too small to keep the processor busy: on GPUs, and for logistic regression and
small networks on CPUs. Convolutions on CPUs are faster in ``workers``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsep.core import (
    Algorithm,
    Ctx,
    Failure,
    FedSepError,
    Info,
    Invitation,
    Params,
    Samples,
    Shard,
    Task,
    Tree,
    stage,
)
from fedsep.engines.client import (
    Job,
    Result,
    delivered,
    failure,
    memory_of,
    predict,
    scalars,
)
from fedsep.engines.engine import Delivered, Fleet, Local, Recall, Split
from fedsep.engines.room import room
from fedsep.engines.sequential import Sequential, SequentialSession
from fedsep.ranges import Count, checked
from fedsep.settle import settled

_log = logging.getLogger("fedsep")

_AT_ONCE = 128
"""Clients in a chunk where nothing else is said; fewer where they do not fit the device's memory."""
_READY_BYTES = 1 << 28
"""Training images that are kept as floats: to make floats of a minibatch's may take as long as a small step."""


class _Ready(NamedTuple):
    """A client before its local steps; ``kind``: what it must have in common with others to be stacked."""

    job: Job
    shard: Shard
    memory: Tree
    begun: Any
    kind: object

    @property
    def ctx(self) -> Ctx:
        return self.job.invitation.ctx


@dataclass
class _Session:
    """``single`` does what is not stacked, on the data as the codecs see it; ``fleet`` lies where steps are taken."""

    single: SequentialSession
    fleet: Fleet
    chunk: int
    fixed: bool
    told: set[str] = field(default_factory=set[str])
    refused: set[object] = field(default_factory=set[object])
    roomy: dict[object, int] = field(default_factory=dict[object, int])
    shaped: tuple[Params | None, object] = (None, None)

    @property
    def algorithm(self) -> Any:
        return self.single.algorithm

    def round(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Delivered | Failure]:
        reason = apart(self.algorithm)
        if reason:
            self._tell(reason)
            yield from self.single.round(state, cohort)
            return
        at = 0
        while at < len(cohort):  # a chunk that does not fit makes those after it smaller
            jobs = list(self.single.jobs(state, cohort[at : at + self.chunk]))
            at += len(jobs)
            yield from self._together(jobs)
        self.shaped = None, None

    def local(self, state: Any, cohort: Sequence[Invitation]) -> Iterator[Local | Failure]:
        return self.single.local(state, cohort)

    def predict(self, params: Params, split: Split) -> Tensor:
        samples: Samples = getattr(self.fleet, split)
        home = next(iter(params.values())).device
        there = {name: part.to(samples.x.device) for name, part in settled(params).items()}
        return predict(self.single.task, there, samples).to(home)

    def close(self) -> None:
        self.single.close()

    def _together(self, jobs: Sequence[Job | Failure]) -> Iterator[Delivered | Failure]:
        """A chunk: begun one by one, learned in groups of one shape, finished one by one in the order of the cohort."""
        begun = [self._begun(job) for job in jobs]
        groups: dict[object, list[int]] = {}
        for number, ready in enumerate(begun):
            if isinstance(ready, _Ready):
                groups.setdefault(ready.kind, []).append(number)
        self._tell_of_loners(groups)
        learned: dict[int, tuple[Params, Info] | None] = {}
        for kind, numbers in groups.items():
            if kind not in self.refused:
                own = [ready for number in numbers if isinstance(ready := begun[number], _Ready)]
                learned |= dict(zip(numbers, self._learned(own), strict=True))
        for number, ready in enumerate(begun):
            yield self._finished(ready, learned.get(number)) if isinstance(ready, _Ready) else ready

    def _begun(self, job: Job | Failure) -> _Ready | Failure:
        if isinstance(job, Failure):
            return job
        try:
            with stage("data"):
                shard = self.single.fleet.shard(job.invitation.client)
            memory = memory_of(self.algorithm, job)
            with stage("update"):
                begun = self.algorithm.begin(job.payload, memory, shard, job.invitation.ctx)
                return _Ready(job, shard, memory, begun, self._kind(begun, shard))
        except Exception as error:
            return failure(job.invitation, error, job.sent)

    def _learned(self, group: Sequence[_Ready]) -> list[tuple[Params, Info] | None]:
        """y_I of clients that are stacked; None for each of them if that cannot be done, which is said."""
        fits = self._room(group)
        if fits < len(group):
            if self.fixed:
                raise FedSepError(_too_large(len(group), fits))
            return self._in_parts(group, fits)
        try:
            return self._stacked(group)
        except Exception as error:  # one client's data may do it, which is to fail alone
            if not _no_memory(error):
                self.refused.add(group[0].kind)
                why = [*str(error).splitlines(), type(error).__name__][0]
                self._tell(f"its clients' steps cannot be stacked ({why})")
                return [None] * len(group)
        # Outside of the handler: the error's frames would keep the memory in which fewer are tried.
        if self.fixed or len(group) == 1:
            raise FedSepError(_too_large(len(group), self._fitting(group)))
        return self._in_parts(group, (len(group) + 1) // 2)

    def _in_parts(self, group: Sequence[_Ready], size: int) -> list[tuple[Params, Info] | None]:
        """The same of fewer at a time, as those after them will be, too."""
        self.chunk = min(self.chunk, size)
        _log.warning("vectorised: %d clients do not fit the device's memory together: now %d", len(group), size)
        parts = [group[at : at + size] for at in range(0, len(group), size)]
        return [own for part in parts for own in self._learned(part)]

    def _room(self, group: Sequence[_Ready]) -> int:
        """How many of them fit together, as far as that can be told before; the first group of a kind is asked."""
        first = group[0]
        if len(group) == 1 or len(group) <= self.roomy.get(first.kind, 0):
            return len(group)
        train = self.fleet.shard(first.job.invitation.client).train
        fits = room(len(group), self.algorithm.learner, first.begun.start.y, train, surely=self.fixed)
        self.roomy[first.kind] = fits
        return fits

    def _stacked(self, group: Sequence[_Ready]) -> list[tuple[Params, Info] | None]:
        starts = [ready.begun.start for ready in group]
        here = self.fleet is self.single.fleet
        shards = [ready.shard if here else self.fleet.shard(ready.job.invitation.client) for ready in group]
        return list(self.algorithm.learner.learn_together(starts, shards, [ready.ctx for ready in group]))

    def _fitting(self, group: Sequence[_Ready]) -> int:
        """How many of clients that do not fit together do, by halving what is not known; 0 if not even one does."""
        fits, fails = 0, len(group)
        while fails - fits > 1:
            at = (fits + fails) // 2
            try:
                self._stacked(group[:at])
                fits = at
            except RuntimeError as error:
                if not _no_memory(error):
                    raise
                fails = at
        return fits

    def _finished(self, ready: _Ready, learned: tuple[Params, Info] | None) -> Delivered | Failure:
        try:
            y, info = learned or self._one(ready)
            with stage("update"):
                ended = self.algorithm.finish(ready.begun, (y, info), ready.memory, ready.shard, ready.ctx)
            payload, memory, info = ended
            result = Result(payload, memory, scalars(info), ready.shard.train.size)
            return delivered(ready.job, settled(result))
        except Exception as error:
            return failure(ready.job.invitation, error, ready.job.sent)

    def _one(self, ready: _Ready) -> tuple[Params, Info]:
        """y_I of a client that could not be stacked."""
        with stage("learn"):
            return self.algorithm.learner.learn(ready.begun.start, ready.shard, ready.ctx)

    def _kind(self, begun: Any, shard: Shard) -> object:
        """What clients must have in common to be stacked: shapes of models and inputs, and sizes of minibatches."""
        y = begun.start.y
        if y is not self.shaped[0]:  # under many methods, all start at one point
            self.shaped = y, tuple([(name, part.shape, part.dtype) for name, part in y.items()])
        train, pace = shard.train, getattr(self.algorithm.learner, "pace", None)
        return self.shaped[1], train.size if pace is None else pace(shard), train.x.shape[1:]

    def _tell_of_loners(self, groups: Mapping[object, Sequence[int]]) -> None:
        """Once: that most clients have nobody to be stacked with."""
        alone, every = sum(len(own) == 1 for own in groups.values()), sum(map(len, groups.values()))
        if every > 1 and 2 * alone > every and "alone" not in self.told:
            self.told.add("alone")
            _log.warning("vectorised: %d of %d clients are alone with the sizes of their minibatches, or the shapes "
                         "of their models: they are stacked with nobody (steps instead of epochs, and no more of them "
                         "than clients have minibatches, make them alike)", alone, every)  # fmt: skip

    def _tell(self, reason: str) -> None:
        """Once: why clients run one by one."""
        if reason not in self.told:
            self.told.add(reason)
            _log.warning("vectorised: clients run one by one: %s", reason)


def apart(algorithm: Any) -> str:
    """Why a method's clients cannot share their local steps; empty if they can."""
    if not (hasattr(algorithm, "begin") and hasattr(algorithm, "finish")):
        return f"{type(algorithm).__name__} is not made of decode, learn and encode"
    if not hasattr(algorithm.learner, "learn_together"):
        return f"the learner {type(algorithm.learner).__name__} has no learn_together"
    return ""


def _no_memory(error: Exception) -> bool:
    """Whether memory ran out: on a CPU, torch says so by a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _too_large(clients: int, fits: int) -> str:
    if fits:
        return f"engine.chunk: {clients} clients do not fit the device's memory together: the most that do are {fits}"
    return "one client does not fit the device's memory: use a smaller batch_size"


@dataclass(frozen=True)
class Vectorised:
    """See ``vectorised``."""

    chunk: int | None = None
    device: str | None = None
    threads: int = 1

    def open(self, algorithm: Algorithm[Any, Any], task: Task, fleet: Fleet, recall: Recall) -> _Session:
        """Puts the data where the local steps are taken; sets the number of threads until the session is closed.

        Raises:
            FedSepError: The device is not there, or the data cannot be put on it.
        """
        there = _ready(fleet if self.device is None else _moved(fleet, self.device), algorithm)
        single = Sequential(self.threads).open(algorithm, task, fleet, recall)
        return _Session(single, there, self.chunk or _AT_ONCE, self.chunk is not None)


def _ready(fleet: Any, algorithm: Any) -> Fleet:
    """With training images as floats, if they are few; what is augmented is taken as it is stored."""
    from fedsep.data.federation import Federation

    if type(fleet) is not Federation:  # one of another kind may do something to what is stored
        return fleet
    stored = fleet.dealt[0].x
    few = stored.numel() * torch.get_default_dtype().itemsize <= _READY_BYTES
    plain = not apart(algorithm) and getattr(algorithm.learner, "augment", None) is None
    return fleet.ready() if few and plain and not stored.is_floating_point() else fleet


def _moved(fleet: Any, device: str) -> Fleet:
    try:
        torch.empty(1, device=device)
        if not hasattr(fleet, "to"):
            raise FedSepError(f"engine.device: {type(fleet).__name__} has no method `to` that puts it on a device")
        return fleet.to(device)
    except torch.OutOfMemoryError as error:
        raise FedSepError(f"engine.device: the data do not fit the memory of {device}") from error
    except (RuntimeError, AssertionError) as error:
        raise FedSepError(f"engine.device: {device} cannot be used here: {str(error).splitlines()[0]}") from error


@checked
def vectorised(*, chunk: Count | None = None, device: str | None = None, threads: Count = 1) -> Vectorised:
    """Runs the local steps of many clients as one computation; decode, encode and wires are as in ``sequential``.

    Models and minibatches of clients whose shapes agree are stacked (with ``steps``, clients with different numbers of
    examples agree as long as their minibatches are full), and one backward pass through the sum of their
    losses (by products of matrices where a classifier is a chain of linear layers, else by ``torch.func.vmap`` of the
    loss) gives the gradient of each. Training images are kept as floats, too, where these take at most 256 MiB, unless
    they are augmented. Results are those of ``sequential`` but for
    rounding: matrix products and convolutions of stacked tensors add up in another order. What cannot be stacked (a
    method without axes, a learner without ``learn_together``, such as those of sub-models, of own classes and of
    distillation, a module that vmap does not take) runs one by one where the server is, and the log says which and why.

    Args:
        chunk: Clients at once; None: 128, or as many as fit. More than fit are refused, with how many do. On a CPU
            with Linux, which promises more memory than there is, that is told from what is free and what one takes.
        device: Where the local steps and evaluations are computed, as ``cuda``, while the server, codecs and wires
            stay where they are; None: everything on torch's default device (``--device``).
        threads: Intra-op threads of torch.

    Raises:
        FedSepError: An argument is out of range.
    """
    return Vectorised(chunk, device, threads)
