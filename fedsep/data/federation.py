"""A federation: a data set dealt out to clients, ready for an engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedsep import random
from fedsep.core import FedSepError, Samples, Shard
from fedsep.data.deal import by_class_set, held_out, stratified
from fedsep.data.dealt import Dealt, arrange
from fedsep.data.normalise import Constants, Standard, image_constants, standard
from fedsep.data.partition import Partition
from fedsep.data.parts import Indices, Parts, by_owner
from fedsep.data.public import other_set, slice_of, unlabelled
from fedsep.data.rules import CLIENTS, Pool, Rule
from fedsep.data.source import Source, column, whole


class Dealing(NamedTuple):
    """How a source becomes a federation.

    Attributes:
        clients: Number of clients; None: what the rule says, else 10.
        partition: The rule by which training samples are dealt.
        validation: Training samples held out, uniformly at random, before the others are dealt.
        seed: Of everything that is random here.
        test: Share held out for testing, by class, where the source has no test set.
        public: Training samples that become public, held out before the others are dealt; another data set; or None.
    """

    clients: int | None
    partition: Rule
    validation: int
    seed: int
    test: float = 0.2
    public: int | Federation | None = None


@dataclass(frozen=True, eq=False)
class Federation:
    """The data of all clients and of the server.

    Training samples are copied once, client after client, so that a client's shard is a view; images stay uint8
    until a minibatch is taken, or ``ready`` is asked for. Processes forked from this one share the memory.

    Attributes:
        name: Name of the data set.
        partition: Who holds what, to be saved with the run.
        shape: Shape of one input.
        classes: Number of classes; of outputs for a regression.
        labels: Names of the classes, empty if they have none.
        note: What a reader of results must know about this copy of the data, empty if nothing.
        dealt: Training, validation and test examples with the clients' parts of them.
        public: Examples without labels, which server and clients share; None if there are none.
    """

    name: str
    partition: Partition
    shape: tuple[int, ...]
    classes: int
    labels: tuple[str, ...]
    note: str
    dealt: tuple[Dealt, Dealt | None, Dealt]
    public: Samples | None = None

    @property
    def clients(self) -> int:
        """Number of clients."""
        return self.partition.clients

    @property
    def sizes(self) -> Indices:
        """Number of training examples of each client."""
        return self.partition.train.sizes

    @property
    def train(self) -> Samples:
        """The training samples of all clients, client after client."""
        return self.dealt[0].given()

    @property
    def validation(self) -> Samples | None:
        """What the server selects on, None if nothing was held out."""
        return self.dealt[1] and self.dealt[1].all()

    @property
    def test(self) -> Samples:
        """What the server is judged on: the whole test set, whoever holds its classes."""
        return self.dealt[2].all()

    def shard(self, client: int) -> Shard:
        """One client's data. Its validation and test parts hold samples of exactly its training classes.

        Args:
            client: From 0.
        """
        train, validation, test = self.dealt
        held = None if validation is None else partial(validation.part, client)
        return Shard(train.part(client), held, partial(test.part, client))

    def ready(self) -> Federation:
        """The same federation with training inputs as minibatches have them; images then take four times the bytes."""
        train, validation, test = self.dealt
        return replace(self, dealt=(train.ready(), validation, test))

    def to(self, device: str | torch.device) -> Federation:
        """The same federation with its tensors on a device."""
        train, validation, test = self.dealt
        device = torch.device(device)
        dealt = (train.to(device), validation and validation.to(device), test.to(device))
        return replace(self, dealt=dealt, public=self.public and _on(self.public, device))

    def describe(self) -> str:
        """One line: sizes, shape, classes, partition, note."""
        counts = [f"{self.train.size:,} training"]
        if self.dealt[1] is not None:
            counts.append(f"{self.dealt[1].all().size:,} validation")
        if self.public is not None:
            counts.append(f"{self.public.size:,} public")
        counts.append(f"{self.test.size:,} test samples")
        kind = f"{self.classes} outputs" if self.train.y.is_floating_point() else f"{self.classes} classes"
        shape = " x ".join(map(str, self.shape))
        text = f"{self.name}: {', '.join(counts)} of {shape}, {kind}; {self.partition.describe()}"
        return text + (f"; {self.note}" if self.note else "")


def _on(samples: Samples, device: torch.device) -> Samples:
    shift, scale = (None if part is None else part.to(device) for part in (samples.shift, samples.scale))
    return Samples(samples.x.to(device), samples.y.to(device), shift, scale)


class _Rows(NamedTuple):
    """Positions in the source, increasing; those of the test set count in the test file if the source has one."""

    train: Indices
    validation: Indices
    test: Indices
    public: Indices


def federate(source: Source, dealing: Dealing) -> Federation:
    """Holds out, deals out and normalises a source, in main memory whatever torch's default device is.

    Raises:
        FedSepError: The numbers do not fit the data, or the rule cannot be followed.
    """
    with torch.device("cpu"):  # numpy deals, and the data stay where they are until they are sent somewhere
        return _federate(source, dealing)


def _federate(source: Source, dealing: Dealing) -> Federation:
    source = whole(source)
    _require_public(dealing.public)
    key = random.key(dealing.seed)
    rows = _hold_out(source, dealing, key)
    partition = _partition(source, dealing, key, rows)
    constants, table = Constants(None, None), None
    if source.x.dtype != np.uint8:
        table = standard(source, rows.train)
    elif source.x.ndim > 2:  # images; bytes of text, (n, places), stay the numbers of symbols
        constants = image_constants(source, np.setdiff1d(np.arange(len(source.x)), rows.train, assume_unique=True))
    test = (source.x, source.y) if source.x_test is None or source.y_test is None else (source.x_test, source.y_test)
    dealt = (
        arrange(source.x, source.y, rows.train, partition.train, constants, table),
        arrange(source.x, source.y, rows.validation, partition.validation, constants, table)
        if dealing.validation
        else None,
        arrange(*test, rows.test, partition.test, constants, table),
    )
    return Federation(
        source.name,
        partition,
        source.x.shape[1:],
        source.classes,
        source.labels,
        source.note,
        dealt,
        _public(source, dealing, rows, constants, table),
    )


def _public(
    source: Source, dealing: Dealing, rows: _Rows, constants: Constants, table: Standard | None
) -> Samples | None:
    if isinstance(dealing.public, Federation):
        parts = [part.x for part in dealing.public.dealt if part is not None]
        return other_set(dealing.public.name, parts, source, constants)
    return unlabelled(source.x[rows.public], constants, table) if dealing.public else None


def _require_public(public: object) -> None:
    """A union with a class is not checked by the signature."""
    if (
        public is None
        or isinstance(public, Federation)
        or (isinstance(public, int) and not isinstance(public, bool) and public >= 0)
    ):
        return
    raise FedSepError(f"public must be a whole number >= 0, or another data set (got {public!r})")


def _hold_out(source: Source, dealing: Dealing, key: Tensor) -> _Rows:
    labels = _labels(source, source.y)
    if source.x_test is None:
        rest, test = stratified(random.fold(key, 1), labels, dealing.test)
    else:
        rest, test = np.arange(len(labels)), np.arange(len(source.x_test))
    if dealing.validation >= len(rest):
        raise FedSepError(f"validation must leave training samples (got {dealing.validation:,} of {len(rest):,})")
    train, validation = held_out(random.fold(key, 2), len(rest), dealing.validation)
    left, public = rest[train], rest[:0]
    if not isinstance(dealing.public, Federation) and dealing.public:
        left, public = slice_of(source, left, dealing.public, random.fold(key, 6))
    return _Rows(left, rest[validation], test, public)


def _partition(source: Source, dealing: Dealing, key: Tensor, rows: _Rows) -> Partition:
    rule, labels = dealing.partition, _labels(source, source.y)
    classes = source.classes if source.categorical else 1
    group = None if rule.column is None else column(source, rule.column)[rows.train]
    pool = Pool(labels[rows.train], classes, random.fold(key, 3), group, source.labels)
    clients = _clients(rule, pool, dealing)
    owner = rule.deal(pool, clients)
    given = owner >= 0
    counts = np.bincount(owner[given] * classes + pool.labels[given], minlength=clients * classes).reshape(
        clients, classes
    )
    test = labels[rows.test] if source.y_test is None else _labels(source, source.y_test)
    holds = counts > 0
    return Partition(
        train=by_owner(owner, clients).of(rows.train),
        validation=_dealt(random.fold(key, 4), labels[rows.validation], holds, rows.validation),
        test=_dealt(random.fold(key, 5), test, holds, rows.test),
        counts=counts.astype(np.int32),
        labels=source.labels,
    )


def _clients(rule: Rule, pool: Pool, dealing: Dealing) -> int:
    said = rule.clients(pool)
    clients = dealing.clients or said or CLIENTS
    if said is not None and clients != said:
        raise FedSepError(f"clients must be {said:,}, as the partition says, or be left out (got {clients:,})")
    if clients > len(pool.labels):
        held = f", after {dealing.validation:,} were held out for validation" if dealing.validation else ""
        raise FedSepError(f"clients must be at most the {len(pool.labels):,} training samples{held} (got {clients:,})")
    return clients


def _dealt(key: Tensor, labels: Indices, holds: npt.NDArray[np.bool_], rows: Indices) -> Parts:
    return by_class_set(key, labels, holds).of(rows)


def _labels(source: Source, y: npt.NDArray[np.generic]) -> Indices:
    """The class of every sample; in a regression all are of one class."""
    return y.astype(np.int64) if source.categorical else np.zeros(len(y), np.int64)
