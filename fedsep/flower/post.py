"""The server's post: letters go out by Flower's grid, and answers are waited for, but not beyond the time-out."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from flwr.app import Message  # pyright: ignore[reportMissingImports]

from fedsep.core import Tree
from fedsep.errors import RunFailed
from fedsep.flower.records import from_records, serialised, to_records

_LONGEST = 2000  # characters of a problem that are kept

_ERRORS = {
    1: "the site's program could not be started",
    2: "the site's program failed",
    3: "the message is not there any more",
    4: "the reply is not there any more",
    5: "the node is not connected any more",
    8: "the site's program died",
}

_PATIENCE = 3
"""A letter that was not answered in time may still be answered for this many time-outs in all; then Flower drops it."""


class Sent(NamedTuple):
    """A letter that is on its way.

    Attributes:
        number: Flower's, of the message; empty if it could not be sent.
        node: Where it goes.
        deadline: Until when it is waited for, by ``time.monotonic``.
        size: Its bytes as Flower counts them.
        about: What the sender wants to remember of it.
    """

    number: str
    node: int
    deadline: float
    size: int
    about: Any = None


class Answer(NamedTuple):
    """What came of a letter; ``problem`` says why ``letter`` is empty, in words.

    Attributes:
        letter: The answer, a block of names.
        problem: Empty if there is an answer.
        size: Its bytes as Flower counts them.
        late: Whether the time-out passed first.
    """

    letter: Mapping[str, Any]
    problem: str = ""
    size: int = 0
    late: bool = False


@dataclass
class Post:
    """Sends letters and collects their answers.

    Attributes:
        grid: Flower's.
        timeout: Seconds that an answer is waited for.
        pause: Seconds between two looks.
    """

    grid: Any
    timeout: float
    pause: float = 0.1
    _out: dict[str, Sent] = field(default_factory=dict[str, Sent])
    _come: dict[str, Answer] = field(default_factory=dict[str, Answer])
    _overdue: dict[str, Sent] = field(default_factory=dict[str, Sent])

    def nodes(self) -> list[int]:
        """The nodes that are connected now, in increasing order.

        Raises:
            RunFailed: Flower's server program cannot be reached any more.
        """
        with _reaching():
            return sorted(self.grid.get_node_ids())

    def send(
        self, kind: str, letters: Mapping[int, Tree], about: Mapping[int, Any] = MappingProxyType({})
    ) -> dict[int, Sent]:
        """Sends one letter to each of some nodes.

        Args:
            kind: ``train``, ``evaluate`` or ``query``: what Flower's tools show of it.
            letters: By node.
            about: Kept with each letter, by node, for ``late``.

        Raises:
            RunFailed: Flower's server program cannot be reached any more.
        """
        contents = {node: to_records(letter) for node, letter in letters.items()}
        valid = _PATIENCE * self.timeout
        messages = [Message(content, node, f"{kind}.fedsep", ttl=valid) for node, content in contents.items()]
        if not messages:
            return {}
        sizes = [serialised(content) for content in contents.values()]
        with _reaching():
            numbers = list(self.grid.push_messages(messages)) or [""] * len(messages)
        deadline = time.monotonic() + self.timeout
        sent = {
            node: Sent(number or "", node, deadline, size, about.get(node))
            for number, node, size in zip(numbers, contents, sizes, strict=True)
        }
        self._out |= {each.number: each for each in sent.values() if each.number}
        return sent

    def answer(self, sent: Sent) -> Answer:
        """The answer to a letter, waited for until its deadline."""
        if not sent.number:
            return Answer({}, "Flower took no message for this node: it is gone, or the message is too large")
        while not self.has(sent):
            time.sleep(self.pause)
        if sent.number in self._come:
            return self._come.pop(sent.number)
        self._overdue[sent.number] = sent
        return Answer({}, f"no answer within {self.timeout:g} s", late=True)

    def has(self, sent: Sent) -> bool:
        """Whether ``answer`` would not wait."""
        if sent.number and sent.number not in self._come:
            self.look()
        return not sent.number or sent.number in self._come or time.monotonic() >= sent.deadline

    def late(self) -> list[tuple[Sent, Answer]]:
        """Answers that have come since their letters were given up, with the letters; each is told once."""
        self.look()
        told = [
            (self._overdue.pop(number), self._come.pop(number))
            for number in list(self._overdue)
            if number in self._come
        ]
        for number, sent in list(self._overdue.items()):
            if time.monotonic() > sent.deadline + (_PATIENCE - 1) * self.timeout:
                del self._overdue[number], self._out[number]
        return told

    def look(self) -> None:
        """Fetches the answers that have come.

        Raises:
            RunFailed: Flower's server program cannot be reached any more.
        """
        if not self._out:
            return
        with _reaching():
            messages = list(self.grid.pull_messages(list(self._out)))
        for message in messages:
            sent = self._out.pop(message.metadata.reply_to_message_id, None)
            if sent is not None:
                self._come[sent.number] = _read(message)


def _read(message: Any) -> Answer:
    """An answer comes from outside: whatever it is, it is a value."""
    if message.has_error():
        code, reason = message.error.code, str(message.error.reason or "")
        return Answer(
            {}, f"{_ERRORS.get(code, 'Flower reports an error')} (code {code}{f': {reason}' if reason else ''})"
        )
    try:
        size = serialised(message.content)
        letter = from_records(message.content)
    except Exception as error:
        return Answer({}, f"the answer cannot be read: {error}")
    if not isinstance(letter, dict) or not letter.keys() & {"clients", "problem", "facts"}:
        return Answer({}, "the answer is not of the form that sites send", size)
    return Answer(letter, str(letter.get("problem", ""))[:_LONGEST], size)


@contextmanager
def _reaching() -> Generator[None]:
    """Inside, Flower's server program is asked something; it may be gone."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise RunFailed(f"Flower's server program cannot be reached: {type(error).__name__}: {error}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpcore", "grpc"):
            raise
        raise RunFailed(f"Flower's server program cannot be reached: {type(error).__name__}: {error}") from error
