"""Bytes per client, round and direction: measured on what crossed, nothing estimated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from fedsep import tree
from fedsep.core import HEADER_BYTES, Failure, Reply


class Message(NamedTuple):
    """One message between the server and a client; ``parts`` are payload bytes by top-level name.

    ``failure`` is set on the message after which, or in which, the client failed; ``serialised`` are the bytes that the
    engine made of it, None where it does not say.
    """

    client: int
    direction: Literal["down", "up"]
    parts: dict[str, int]
    failure: Failure | None = None
    serialised: int | None = None

    @property
    def payload(self) -> int:
        """Bytes of tensors."""
        return sum(self.parts.values())

    @property
    def header(self) -> int:
        """Bytes of the constant header; none where nothing was sent."""
        return HEADER_BYTES if self.parts else 0


class Totals(NamedTuple):
    """What crossed since the start of the run: payload and header bytes, and how many messages."""

    up: int = 0
    down: int = 0
    header: int = 0
    messages_up: int = 0
    messages_down: int = 0
    failures: int = 0

    def plus(self, messages: Iterable[Message]) -> Totals:
        """The totals with a round's messages added."""
        up, down, header, messages_up, messages_down, failures = self
        for message in messages:
            sent = int(bool(message.parts))
            if message.direction == "up":
                up, messages_up = up + message.payload, messages_up + sent
            else:
                down, messages_down = down + message.payload, messages_down + sent
            header += message.header
            failures += message.failure is not None
        return Totals(up, down, header, messages_up, messages_down, failures)


def exchanged(reply: Reply) -> list[Message]:
    """The two messages of a client that replied."""
    down, up = reply.serialised or (None, None)
    return [
        Message(reply.client, "down", reply.sent, serialised=down),
        Message(reply.client, "up", tree.named_bytes(reply.payload), serialised=up),
    ]


def failed(failure: Failure) -> list[Message]:
    """What a client without a usable reply was sent (no parts if it failed before), and what arrived of it."""
    sent, received = failure.serialised or (None, None)
    down = Message(failure.client, "down", failure.sent, serialised=sent)
    if not failure.received:
        return [down._replace(failure=failure)]
    up = Message(failure.client, "up", failure.received, failure, received)
    return [down, up] if failure.sent else [up]


def rows(round: int, messages: Iterable[Message], accepted: bool) -> list[dict[str, Any]]:
    """A round's lines of ``ledger.jsonl``.

    Args:
        round: Number of the round, from 1.
        messages: In the order of clients.
        accepted: Whether the round was kept; a void round's bytes crossed all the same.
    """
    return [_row(round, message, accepted) for message in messages]


def _row(round: int, message: Message, accepted: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "round": round,
        "client": message.client,
        "direction": message.direction,
        "payload": message.payload,
        "header": message.header,
        "serialised": message.serialised,
        "parts": message.parts,
    }
    if message.direction == "up":
        row["accepted"] = accepted and message.failure is None
    if message.failure is not None:
        row["failure"] = {"stage": message.failure.stage, "reason": message.failure.reason}
    return row
