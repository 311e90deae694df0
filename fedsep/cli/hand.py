"""A process that does runs for another one: what it is sent, and what it sends back."""

from __future__ import annotations

import traceback
import warnings
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

from fedsep.cli.carry_out import How, Todo, described, fit_one
from fedsep.cli.entry import show_warning
from fedsep.core import FedSepError
from fedsep.errors import CannotWrite, RunFailed
from fedsep.recipes import build


class Setting(NamedTuple):
    """What numbers depend on beside a recipe: the same in every process."""

    device: torch.device
    dtype: torch.dtype
    threads: int

    @classmethod
    def here(cls) -> Setting:
        """That of this process."""
        return cls(torch.get_default_device(), torch.get_default_dtype(), torch.get_num_threads())

    def on(self, number: int) -> Setting:
        """That of another process, whose GPU is the ``number``-th of its machine."""
        kind = self.device.type
        return self._replace(device=torch.device(kind, number)) if kind == "cuda" else self

    def use(self) -> None:
        """Makes it that of this process."""
        if self.device.type != "cpu":
            torch.set_default_device(self.device)
        torch.set_default_dtype(self.dtype)
        torch.set_num_threads(self.threads)


class Described(NamedTuple):
    """The data of a run in a line."""

    text: str


class Done(NamedTuple):
    """A run is over, in time or at its time's limit."""

    summary: dict[str, Any]


class Failed(NamedTuple):
    """A run had to stop. ``full``: its files cannot be written, and those of others neither."""

    text: str
    full: bool = False


class Stopped(NamedTuple):
    """A run was interrupted, after a checkpoint."""

    text: str


class Refused(NamedTuple):
    """A user's mistake, or an error of the program with its traceback: nothing more should be done."""

    text: str
    trace: str = ""


Ending = Done | Failed | Stopped | Refused


def serve(line: Connection, setting: Setting, how: How) -> None:
    """Does run after run as it is asked to, until nobody asks any more."""
    warnings.showwarning = show_warning
    setting.use()
    while True:
        try:
            one: Todo = line.recv()
        except (EOFError, ConnectionError):
            return
        try:
            line.send(_ending(line, one, how))
        except ConnectionError:  # whoever asked is gone
            return


def _ending(line: Connection, one: Todo, how: How) -> Ending:
    try:
        experiment = build(one.recipe, one.job.seed, how.sources, frozenset([one.job.method]))
        line.send(Described(described(experiment)))
        return Done(fit_one(one, experiment, how, _teller(line)))
    except KeyboardInterrupt as stopped:
        return Stopped(str(stopped) or "interrupted")
    except RunFailed as error:
        return Failed(str(error), isinstance(error, CannotWrite))
    except FedSepError as error:
        return Refused(str(error))
    except Exception as error:
        return Refused(f"{type(error).__name__}: {error}", traceback.format_exc())


def _teller(line: Connection) -> Any:
    """Sends what ``fit`` tells after every round; a run that nobody waits for is interrupted, not failed."""

    def tell(event: object) -> None:
        try:
            line.send(event)
        except ConnectionError:
            raise KeyboardInterrupt from None

    return tell
