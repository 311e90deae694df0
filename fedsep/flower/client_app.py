"""The site's end in Flower's terms: a ClientApp that gives every letter to the site and sends its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flwr.app import Context, Message  # pyright: ignore[reportMissingImports]
from flwr.clientapp import ClientApp  # pyright: ignore[reportMissingImports]

from fedsep.flower.records import from_records, serialised, to_records


class Answers(Protocol):
    """Who answers letters."""

    def answer(self, letter: Mapping[str, Any], size: int = 0) -> dict[str, Any]:
        """The answer to a letter of so many bytes."""
        ...


def client_app(who: Callable[[Context], Answers]) -> ClientApp:
    """An app that has letters answered.

    Args:
        who: Gives the one who answers, from what the node knows of itself.
    """
    app = ClientApp()

    def handle(message: Message, context: Context) -> Message:
        letter = from_records(message.content)
        answer = who(context).answer(letter, serialised(message.content))
        return Message(to_records(answer), reply_to=message)

    for kind in (app.train, app.evaluate, app.query):
        kind("fedsep")(handle)
    return app
