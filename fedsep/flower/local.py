"""Sites in this process: Flower's grid without its programs; its messages and apps are real."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import Context, Error, Message, RecordDict  # pyright: ignore[reportMissingImports]
from flwr.serverapp import Grid  # pyright: ignore[reportMissingImports]
from flwr.supercore.task_identity import TaskIdentity  # pyright: ignore[reportMissingImports]

from fedsep.flower.client_app import client_app
from fedsep.flower.site import Site

_FAILED = 2  # Flower's code of a client app that raised


class LocalGrid(Grid):  # pyright: ignore[reportUntypedBaseClass]
    """Hands each message to its node's app at once, and keeps the reply until it is asked for."""

    def __init__(self, sites: Mapping[int, Site]) -> None:
        """Takes the sites by the number of their node."""
        identify()
        self._apps = {node: client_app(lambda _context, site=site: site) for node, site in sites.items()}
        self._contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in sites}
        self._replies: dict[str, Message] = {}
        self._count = 0

    def get_node_ids(self) -> Iterable[int]:
        """All nodes."""
        return list(self._apps)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Runs the nodes' apps."""
        return [self._deliver(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies."""
        return [self._replies.pop(number) for number in message_ids if number in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Both at once."""
        return self.pull_messages(self.push_messages(messages))

    def set_run(self, run: Any) -> None:
        """There are no runs here."""

    @property
    def run(self) -> Any:
        """There are no runs here."""
        return None

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """Flower has deprecated it."""
        raise NotImplementedError

    def _deliver(self, message: Message) -> str:
        self._count += 1
        number, node = str(self._count), message.metadata.dst_node_id
        message.metadata.__dict__["_message_id"] = number  # as Flower's own grids do
        try:
            reply = self._apps[node](message, self._contexts[node])
        except Exception as error:
            reply = Message(Error(_FAILED, f"{type(error).__name__}: {error}"), reply_to=message)
        self._replies[number] = reply
        return number


def identify() -> None:
    """Flower's messages carry who sends them; in its own programs that is set already."""
    for name in ("run_id", "node_id", "task_id"):
        try:
            getattr(TaskIdentity, name)
        except RuntimeError:
            setattr(TaskIdentity, name, 1)
