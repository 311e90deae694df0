"""Which replies are folded: those that were asked for, of the form the method expects, finite, readable, in bounds.

A reply comes from outside: whatever it is, looking at it must not fail, fill the memory, or end the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from fedsep import tree
from fedsep.core import Ctx, Expected, Failure, FedSepError, Invitation, Payload, Reply, Update
from fedsep.engines.lost import lost
from fedsep.looking import all_finite, far, floats, look, sums
from fedsep.options import Accept

Loose = Literal["none", "packed", "vectors"]
"""Which tensors of a reply may be of another length than expected."""

_MOST_NODES = 100_000
"""Parts of a reply of the wrong form that are looked at to count its bytes."""

_MOST_TOLD, _LONGEST_NAME = 256, 100
"""Numbers beside a reply, and characters of a number's name."""

DUPLICATE, LOSS = "duplicate", "loss"
"""Stages of a reply that came twice, and of a client whose training loss is not finite."""

NOT_FINITE = (
    "the reply holds numbers that are not finite: the client diverged (lower lr, or clip the gradients), "
    "or they do not fit the type that the uplink sends"
)


class Refused(FedSepError):
    """A reply that is not folded, and why."""

    def __init__(self, reason: str, stage: str = "reply") -> None:
        super().__init__(reason)
        self.stage = stage


class _Opened(NamedTuple):
    """A reply whose numbers have not been looked at.

    Attributes:
        reply: As it came.
        expected: Its form.
        change: As it is read; None where the method reads nothing, or could not.
        error: Why not.
        told: What its info tells in tensors.
        payload: Tensors of floats in the payload.
        fresh: Those in the change that are none of these.
        scalars: To be looked at: ``told``, the sums of ``payload`` and ``fresh``, and the norms in the change.
    """

    reply: Reply
    expected: Expected | None
    change: Update | None
    error: Exception | None
    told: dict[str, Tensor]
    payload: list[Tensor]
    fresh: list[Tensor]
    scalars: list[Tensor]


@dataclass
class Gate:
    """Lets a round's replies through.

    Attributes:
        algorithm: The method.
        state: The server's, before the round.
        cohort: Who was invited.
        accept: What the user asks of replies.
    """

    algorithm: Any
    state: Any
    cohort: Sequence[Invitation]
    accept: Accept = Accept()
    _invited: dict[int, Ctx] = field(init=False)
    _heard: set[int] = field(default_factory=set[int])
    _forms: dict[object, Expected] = field(default_factory=dict[object, Expected])

    def __post_init__(self) -> None:
        self._invited = {seat.client: seat.ctx for seat in self.cohort}

    def passed(self, reply: Reply) -> Reply | Failure:
        """The reply with its change, or what is wrong with it; a client is heard once a round."""
        [found] = self.judged([reply])
        return found

    def judged(self, replies: Sequence[Reply]) -> list[Reply | Failure]:
        """``passed``, of each.

        However many replies there are, and tensors in them, the host waits once for the numbers by which they are
        judged, unless one of them is not finite.
        """
        opened = [self._opened(reply) for reply in replies]
        numbers = iter(look([scalar for each in opened if isinstance(each, _Opened) for scalar in each.scalars]))
        return [
            each if isinstance(each, Failure) else self._settled(each, list(islice(numbers, len(each.scalars))))
            for each in opened
        ]

    def _opened(self, reply: Reply) -> _Opened | Failure:
        """A reply that was waited for and has the form that is expected, with what is to be looked at."""
        asked = self._invited.get(reply.client)  # what the reply says of its round is from outside
        expected = None if asked is None else self._expected(asked)
        stage, reason = self._unwanted(reply)
        if stage:
            sent = {} if stage == DUPLICATE else reply.sent  # the reply that came first has them already
            crossed = received(reply.payload, expected)
            return Failure(reply.client, reply.ctx, stage, reason, "", sent, crossed, reply.serialised)
        try:
            return self._read(reply, expected)
        except Exception as error:
            return _refused(reply, expected, error)

    def _settled(self, opened: _Opened, numbers: list[float]) -> Reply | Failure:
        try:
            return self._checked(opened, numbers)
        except Exception as error:
            return _refused(opened.reply, opened.expected, error)

    def _unwanted(self, reply: Reply) -> tuple[str, str]:
        """Stage and reason of a reply that nobody waits for; empty for one that is waited for."""
        if reply.client not in self._invited:
            return "uninvited", "the client was not invited to this round"
        if reply.ctx.round != self.cohort[0].ctx.round:
            return "stale", f"the reply is to round {reply.ctx.round + 1}, not to this one"
        if reply.client in self._heard:
            return DUPLICATE, "the client had replied already: this copy is not folded"
        self._heard.add(reply.client)
        return "", ""

    def _read(self, reply: Reply, expected: Expected | None) -> _Opened:
        """The reply, read before its numbers are looked at; an error of that counts if they are what they must be."""
        told = _require_info(reply)
        try:
            require_form(reply.payload, expected)
            payload = floats(reply.payload)
            scalars = sums(payload)
        except Exception:
            _require_finite_losses(reply, dict(zip(told, look(list(told.values())), strict=True)))
            raise
        change, error = None, None
        try:
            change = self.algorithm.read(self.state, reply) if self._reads else None
        except Exception as cause:  # the content of the payload made the method fail
            error = cause
        fresh: list[Tensor] = []
        if change is not None:
            if change.value is not reply.payload:  # what is read of a dense payload is the payload: it is looked at
                known = {id(part) for part in payload}
                fresh = [
                    part for part in tree.leaves(change.value) if id(part) not in known and part.is_floating_point()
                ]
                scalars += sums(fresh)
            if self.accept.norm is not None:
                scalars += [torch.linalg.vector_norm(part) for part in tree.leaves(change.value)]
        return _Opened(reply, expected, change, error, told, payload, fresh, [*told.values(), *scalars])

    def _checked(self, opened: _Opened, numbers: list[float]) -> Reply:
        reply, _, change, error, told, payload, fresh, _ = opened
        looked = dict(zip(told, numbers, strict=False)) if told else {}
        _require_finite_losses(reply, looked)
        first = len(told)
        last = first + len(payload)
        if not all_finite(payload, numbers[first:last]):
            raise Refused(NOT_FINITE)
        if type(reply.samples) is not int or reply.samples < 0:
            raise Refused(f"the reply's number of examples is {reply.samples!r}")
        if error is not None:
            raise error
        if fresh and not all_finite(fresh, numbers[last : last + len(fresh)]):
            raise Refused("the client's change, as it is read, is not finite")
        if self.accept.norm is not None:
            self._require_norm(numbers[last + len(fresh) :], self.accept.norm)
        return reply._replace(change=change, info={**reply.info, **looked} if looked else reply.info)

    def _require_norm(self, norms: list[float], most: float) -> None:
        if not (norm := math.hypot(*norms)) <= most:
            raise Refused(f"the client's change has norm {norm:.4g}, more than accept.norm = {most:g}")

    @property
    def _reads(self) -> bool:
        return hasattr(self.algorithm, "read")

    def _expected(self, ctx: Ctx) -> Expected | None:
        """What a client's reply looks like; asked once for all of whom the method says that they send alike."""
        if not hasattr(self.algorithm, "expected"):
            return None
        if ctx.report is not None or not hasattr(self.algorithm, "form"):
            return self.algorithm.expected(self.state, ctx)
        form = self.algorithm.form(ctx)
        if form not in self._forms:
            expected: Expected = self.algorithm.expected(self.state, ctx)
            payload = tree.map(_form, expected.payload)  # without the numbers: they may be as many as the model's
            self._forms[form] = expected._replace(payload=payload)
        return self._forms[form]


def require_form(payload: Payload, expected: Expected | None) -> None:
    """Compares tree, shapes and dtypes, and looks at no number.

    Raises:
        Refused: The payload is not of the expected form; the message says where.
        TypeError: Nothing is expected in particular, and the payload holds something that is no tensor.
    """
    if expected is None:
        tree.nbytes(payload)
        if any(part.is_meta for part in floats(payload)):
            raise Refused("the payload holds a tensor without values")
        return
    reason = _unlike(payload, expected.payload, _loose(expected), "the payload")
    if reason:
        raise Refused(f"the reply is not what the method sends: {reason}")
    if expected.longest is not None and tree.nbytes(payload) > expected.longest:
        raise Refused(f"the reply has {tree.nbytes(payload):,} bytes, more than the {expected.longest:,} it can need")


def _require_info(reply: Reply) -> dict[str, Tensor]:
    """Refuses what is no number, and a loss that is not finite; gives what lies on a device, to be looked at later."""
    later: dict[str, Tensor] = {}
    if len(reply.info) > _MOST_TOLD:  # every name becomes a column of the metrics
        raise Refused(f"the client tells {len(reply.info):,} numbers beside its reply, more than {_MOST_TOLD}")
    for name, value in reply.info.items():
        if len(name) > _LONGEST_NAME or not name.isprintable():
            raise Refused(f"the client tells a number by the name {name[:_LONGEST_NAME]!r}, which is none")
        if isinstance(value, (float, int)):
            if name.endswith("loss") and not math.isfinite(value):
                _refuse_loss(reply, name, value)
        elif isinstance(value, Tensor) and far(value) and not value.is_meta and value.ndim == 0:
            later[name] = value
        else:
            raise Refused(f"the client's {name} is a {_kind(value)}, not a number")
    return later


def _require_finite_losses(reply: Reply, told: Mapping[str, float]) -> None:
    for name, value in told.items():
        if name.endswith("loss") and not math.isfinite(value):
            _refuse_loss(reply, name, value)


def _refuse_loss(reply: Reply, name: str, value: float) -> None:
    cause = "The likely cause is a learning rate that is too high: lower lr, or clip the gradients"
    raise Refused(f"the training {name} of client {reply.client} is {value}. {cause}", LOSS)


def _refused(reply: Reply, expected: Expected | None, error: Exception) -> Failure:
    """A reply that is not folded, as a failure with the bytes that it had."""
    if isinstance(error, Refused):
        stage, reason, traceback = error.stage, str(error), ""
    else:
        stage, reason, traceback = lost(error, "reply")
        reason = f"the reply cannot be read: {reason}"
    crossed = received(reply.payload, expected)
    return Failure(reply.client, reply.ctx, stage, reason, traceback, reply.sent, crossed, reply.serialised)


def received(payload: Payload, expected: Expected | None) -> dict[str, int]:
    """Bytes of a refused reply: a server stops reading where a reply is longer than any that it expects."""
    try:
        require_form(payload, expected)
        return tree.named_bytes(payload)
    except Exception:
        most = math.inf if expected is None else expected.longest or tree.nbytes(expected.payload)
        return {"refused": int(min(count_bytes(payload), most))}


def _loose(expected: Expected) -> Loose:
    return "none" if expected.longest is None else "vectors" if expected.vectors else "packed"


def _unlike(payload: Any, pattern: Any, loose: Loose, at: str) -> str:
    """Where a payload is not of the pattern's form; empty if it is. Goes no deeper than the pattern."""
    if isinstance(pattern, Tensor):
        return _unlike_tensor(payload, pattern, loose, at)
    if isinstance(pattern, dict):
        if not isinstance(payload, dict):
            return f"{at} is a {_kind(payload)}, not names with parts"
        if payload.keys() != pattern.keys():
            return f"{at} has other names than {', '.join(map(str, list(pattern)[:5]))}"
        pairs = pattern.items()
    elif not isinstance(payload, list | tuple) or len(payload) != len(pattern):
        return f"{at} is a {_kind(payload)}, not a sequence of {len(pattern)}"
    else:
        pairs = enumerate(pattern)
    for name, own in pairs:
        reason = _unlike(payload[name], own, loose, f"{at}.{name}")
        if reason:
            return reason
    return ""


def _unlike_tensor(payload: Any, pattern: Tensor, loose: Loose, at: str) -> str:
    if not isinstance(payload, Tensor):
        return f"{at} is a {_kind(payload)}, not a tensor"
    if payload.layout is not torch.strided or payload.is_meta:
        return f"{at} is no plain tensor with values"
    if payload.dtype != pattern.dtype:
        return f"{at} is of {payload.dtype}, not {pattern.dtype}"
    varies = loose == "vectors" or (loose == "packed" and pattern.dtype == torch.uint8)
    if payload.shape != pattern.shape and not (varies and pattern.ndim == payload.ndim == 1):
        return f"{at} has the shape {tuple(payload.shape)}, not {tuple(pattern.shape)}"
    return ""


def _kind(thing: object) -> str:
    return type(thing).__name__


def _form(leaf: Tensor) -> Tensor:
    return torch.empty(leaf.shape, dtype=leaf.dtype, device="meta")


def count_bytes(payload: object) -> int:
    """Bytes of the tensors in anything at all: it may be deep, endless, or hold itself."""
    left, total = [payload], 0
    for _ in range(_MOST_NODES):
        if not left:
            break
        node = left.pop()
        if isinstance(node, Tensor):
            total += node.numel() * node.element_size()
        elif isinstance(node, dict):
            left.extend(node.values())
        elif isinstance(node, list | tuple):
            left.extend(node)
    return total
