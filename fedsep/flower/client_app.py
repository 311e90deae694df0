"""The site's end in Flower's terms: a ClientApp that gives every letter to the site and sends its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from flwr.app import Context, Message, RecordDict  # pyright: ignore[reportMissingImports]
from flwr.clientapp import ClientApp  # pyright: ignore[reportMissingImports]

from fedsep.core import FedSepError
from fedsep.engines.lost import lost
from fedsep.flower.letters import shortened
from fedsep.flower.records import from_records, serialised, to_records


class Answers(Protocol):
    """Who answers letters."""

    def answer(self, letter: Mapping[str, Any], size: int = 0) -> dict[str, Any]:
        """The answer to a letter of so many bytes."""
        ...

    def refused(self, letter: Mapping[str, Any], size: int, why: str) -> dict[str, Any]:
        """The answer to one that cannot be read; ``letter`` is what can be said of it."""
        ...


def client_app(who: Callable[[Context], Answers]) -> ClientApp:
    """An app that has letters answered.

    Args:
        who: Gives the one who answers, from what the node knows of itself.
    """
    app = ClientApp()

    def handle(message: Message, context: Context) -> Message:
        return Message(to_records(_answered(who(context), message.content)), reply_to=message)

    for kind in (app.train, app.evaluate, app.query):
        kind("fedsep")(handle)
    return app


def _answered(site: Answers, content: RecordDict) -> dict[str, Any]:
    """The answer to whatever came: what is no letter is written down as well."""
    size = serialised(content)
    try:
        letter = from_records(content)
        if not isinstance(letter, dict):
            raise FedSepError(f"not a letter: {shortened(letter)} where a block of names should be")
    except Exception as error:
        return site.refused({}, size, lost(error, "site").reason)
    return site.answer(letter, size)  # pyright: ignore[reportUnknownArgumentType]
