"""How much sites may send: it is counted as it comes in, and what is too much is refused before anybody holds it.

Flower cuts tensors into objects of 5 MiB and sends each in a request of its own. So a request is small, whatever the
reply's size is; and what a node sends between two letters that it fetched is its answer to the first of them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

ALLOWED = "FEDSEP_FLOWER_ALLOWED"
"""Names, in the environment of Flower's server program, the bytes that a node may send in answer to a letter."""

REQUEST = 32 << 20
"""Bytes of one request: six times an object of Flower's."""

_FLEET = "/v1/fleet/"
_FETCH = f"{_FLEET}pull-messages"
_PUSH = (f"{_FLEET}push-messages", f"{_FLEET}push-object")
_KEY = b"flwr-public-key"
_REFUSAL = (
    b"more than this server takes from a site in answer to one letter: its engine's argument largest says how much"
)

_log = logging.getLogger("fedsep")

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


@dataclass
class Allowance:
    """What nodes have sent.

    Attributes:
        largest: Bytes that a node may send in answer to a letter.
        request: Bytes of one request.
        sent: By node, since its latest letter, in requests that Flower accepted: then the node was who it said.
        coming: By caller, in requests that have not ended.
    """

    largest: int
    request: int = REQUEST
    sent: dict[bytes, int] = field(default_factory=dict[bytes, int])
    coming: dict[bytes, int] = field(default_factory=dict[bytes, int])

    def left(self, node: bytes, caller: bytes) -> int:
        """Bytes that a node may still send."""
        return self.largest - self.sent.get(node, 0) - self.coming.get(caller, 0)

    def come(self, caller: bytes, size: int) -> None:
        """Counts what has come in a request."""
        self.coming[caller] = self.coming.get(caller, 0) + size

    def ended(self, node: bytes, caller: bytes, size: int, *, accepted: bool) -> None:
        """Counts a request for its node if it was accepted."""
        self.come(caller, -size)
        if not self.coming[caller]:
            del self.coming[caller]
        if accepted:
            self.sent[node] = self.sent.get(node, 0) + size

    def fetched(self, node: bytes) -> None:
        """A node has a letter, and may send an answer."""
        self.sent.pop(node, None)


class Bounded:
    """Answers 413 to sites' requests that are larger, or come to more, than is allowed."""

    def __init__(self, app: Callable[..., Awaitable[None]], allowance: Allowance) -> None:
        """Takes the application that it stands before, and what may come."""
        self.app, self.allowance = app, allowance

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Lets a request through for as long as it is small enough."""
        if scope["type"] != "http" or not scope["path"].startswith(_FLEET):
            await self.app(scope, receive, send)
            return
        request = _Request(self.allowance, scope["path"], *_who(scope), receive, send)
        if _declared(scope) > request.left:
            request.over = True
        else:
            await self._passed(scope, request)
        if request.over and not request.status:
            _log.warning("a site at %s sends too much: it is refused", (scope["client"] or ("?",))[0])
            await send({"type": "http.response.start", "status": 413, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": _REFUSAL})

    async def _passed(self, scope: Any, request: _Request) -> None:
        try:
            await self.app(scope, request.receive, request.send)
        except Exception:
            if not request.over:
                raise
        finally:
            request.end()


@dataclass
class _Request:
    """One request on its way in: it seems to break off where it becomes too large.

    Only parts of answers count for more than themselves: whoever has used up what it may send can still fetch a letter.
    """

    allowance: Allowance
    path: str
    node: bytes
    caller: bytes
    inward: Receive
    outward: Send
    size: int = 0
    status: int = 0
    answered: int = 0
    over: bool = False

    @property
    def left(self) -> int:
        own = self.allowance.request - self.size
        return min(own, self.allowance.left(self.node, self.caller)) if self.path in _PUSH else own

    async def receive(self) -> Any:
        message = {"type": "http.disconnect"} if self.over else await self.inward()
        more = len(message.get("body", b""))
        self.over = self.over or more > self.left
        if self.over:
            return {"type": "http.disconnect"}
        self.size += more
        if self.path in _PUSH:
            self.allowance.come(self.caller, more)
        return message

    async def send(self, message: Any) -> None:
        if self.over and not self.status:
            return  # what Flower says of a request that broke off
        self.status = message.get("status", self.status)
        self.answered += len(message.get("body", b""))
        await self.outward(message)

    def end(self) -> None:
        accepted = 0 < self.status < 400
        if self.path in _PUSH:
            self.allowance.ended(self.node, self.caller, self.size, accepted=accepted)
        elif self.path == _FETCH and accepted and self.answered:
            self.allowance.fetched(self.node)


def _who(scope: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The node that a request says it is from, and that with the address: anybody can say the former."""
    address = str((scope["client"] or ("",))[0]).encode()
    key = dict(scope["headers"]).get(_KEY, address)
    return hashlib.sha256(key).digest(), hashlib.sha256(key + b"@" + address).digest()


def _declared(scope: Mapping[str, Any]) -> int:
    """The length that a request says it has; of one that does not say it, what comes is counted all the same."""
    told = dict(scope["headers"]).get(b"content-length", b"")
    return int(told) if told.isdigit() else 0
