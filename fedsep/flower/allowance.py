"""How much sites may send: it is counted as it comes in, and what is too much is refused before anybody holds it.

Flower cuts tensors into objects of 5 MiB and sends each in a request of its own. So a request is small, whatever the
reply's size is; and what a node sends between two letters that it fetched is its answer to the first of them.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ALLOWED = "FEDSEP_FLOWER_ALLOWED"
"""Names, in the environment of Flower's server program, the bytes that a node may send in answer to a letter."""

KEYS = "FEDSEP_FLOWER_KEYS"
"""Names, there, the folder with the public keys of nodes; not set where any node may call."""

REQUEST = 32 << 20
"""Bytes of one request: six times an object of Flower's. The one that comes before the objects lists them all."""

_FLEET = "/v1/fleet/"
_FETCH = f"{_FLEET}pull-messages"
_PUSH = (f"{_FLEET}push-messages", f"{_FLEET}push-object")
_KEY = b"flwr-public-key"
_LARGEST = (
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
        names: Of nodes, by the keys that their requests say they have.
        sent: By node, since its latest letter, in requests that Flower accepted: then the node was who it said.
        coming: By caller, in requests that have not ended.
    """

    largest: int
    request: int = REQUEST
    names: Mapping[bytes, str] = field(default_factory=dict[bytes, str])
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
        request.over = request.refusal(_declared(scope))
        if not request.over:
            await self._passed(scope, request)
        if request.over and not request.status:
            _log.warning("%s sends %s: it is refused", self._called(scope), request.over.decode())
            await send({"type": "http.response.start", "status": 413, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": request.over})

    def _called(self, scope: Mapping[str, Any]) -> str:
        """Who sends a request, by what it says and where it comes from."""
        name = self.allowance.names.get(dict(scope["headers"]).get(_KEY, b""))
        return f"{'a site' if name is None else f'the node {name}'} at {(scope['client'] or ('?',))[0]}"

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
    over: bytes = b""

    def refusal(self, more: int) -> bytes:
        """Why so many further bytes are too many; empty if they are not."""
        if self.size + more > self.allowance.request:
            return b"more than the %d bytes that this server takes in one request" % self.allowance.request
        return _LARGEST if self.path in _PUSH and more > self.allowance.left(self.node, self.caller) else b""

    async def receive(self) -> Any:
        message = {"type": "http.disconnect"} if self.over else await self.inward()
        more = len(message.get("body", b""))
        self.over = self.over or self.refusal(more)
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


def named(keys: Path) -> dict[bytes, str]:
    """Nodes' names by their keys as Flower's requests say them, from the public keys in a folder."""
    from cryptography.hazmat.primitives import serialization as s  # pyright: ignore[reportMissingImports]

    found: dict[bytes, str] = {}
    for file in keys.glob("*.pub"):
        with suppress(Exception):  # what is no key is refused elsewhere, and only the name is missing here
            key = s.load_ssh_public_key(file.read_bytes())
            pem = key.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
            found[base64.b64encode(pem)] = file.stem
    return found


def _who(scope: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The node that a request says it is from, and that with the address: anybody can say the former."""
    address = str((scope["client"] or ("",))[0]).encode()
    key = dict(scope["headers"]).get(_KEY, address)
    return hashlib.sha256(key).digest(), hashlib.sha256(key + b"@" + address).digest()


def _declared(scope: Mapping[str, Any]) -> int:
    """The length that a request says it has; of one that does not say it, what comes is counted all the same."""
    told = dict(scope["headers"]).get(b"content-length", b"")
    return int(told) if told.isdigit() else 0
