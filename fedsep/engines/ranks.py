"""The processes that torchrun started: which of them this is, and how rank 0 talks to the others.

Rank 0 leads: it alone has the server, the clients' memories and the run's folder. The others follow: they do
clients' parts for it and keep nothing, so that a run can go on with fewer of them.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsep.core import FedSepError, watch_stages
from fedsep.engines.line import BYE, Line, News
from fedsep.engines.status import Status
from fedsep.errors import Dismissed, LostRank, deafen

_MEET_SECONDS = 300  # until all ranks are there
_PART_SECONDS = 10  # until all have said good-bye
_WHY_SECONDS = 1.0  # that another rank is gone is known by then, where torchrun ends this one for it
_NEWS_SECONDS = 1.0  # a follower that waits for news has read them by then


class Place(NamedTuple):
    """Which process this is: its number, of how many, and its number on this machine."""

    rank: int
    ranks: int
    local: int


def place() -> Place | None:
    """This process among those that torchrun started; None if it did not start this one.

    Raises:
        FedSepError: torchrun's variables are there, and cannot be right.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if not all(os.environ.get(name) for name in names):
        return None
    try:
        rank, ranks, local = (int(os.environ[name]) for name in names[:3])
    except ValueError as error:
        raise FedSepError(f"RANK, WORLD_SIZE and LOCAL_RANK must be whole numbers ({error})") from None
    return Place(rank, ranks, local)


class Group:
    """The ranks, met. There is one in a process, from the first need of it to the process's end.

    Attributes:
        place: This process's.
        lines: To all the others on rank 0, else to rank 0.
        status: What a follower is at.
        busy: Whether a follower is in the middle of a run.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._owner = os.getpid()
        self._news: SimpleQueue[News] = SimpleQueue()
        self._own, group = _met()
        others = [0] if place.rank else range(1, place.ranks)
        self.lines = {rank: Line(group, rank, self._news) for rank in others}
        self._again: News | None = None
        self.status, self.busy = Status(), False
        watch_stages(self.status.stage)

    def tell(self, note: tuple[Any, ...], parts: Sequence[Tensor | bytes] = ()) -> None:
        """Sends a message to every line."""
        for line in self.lines.values():
            line.send(note, parts)

    def hear(self, seconds: float | None = None) -> News | None:
        """The next message, waited for so long (None: for ever); None if there is none until then.

        Raises:
            LostRank: A rank is gone.
        """
        if self._again is not None:
            news, self._again = self._again, None
            return news
        try:
            news = self._news.get(timeout=seconds) if seconds != 0 else self._news.get_nowait()
        except Empty:
            return None
        if news.lost or (news.note[0] == BYE and not self.place.rank):
            raise self._lost(news.rank, news.lost or "it has ended")
        return news

    def unread(self, news: News) -> None:
        """Lets ``hear`` give this message again."""
        self._again = news

    def gone(self) -> str:
        """Which rank is gone, if that is known within a moment; messages of the others are lost."""
        until = time.monotonic() + _WHY_SECONDS
        try:
            while (left := until - time.monotonic()) > 0:
                self.hear(left)
        except LostRank as lost:
            return str(lost)
        return ""

    def leave(self) -> bool:
        """Parts from the others; whether all of them have answered. A process that was forked off does nothing."""
        global _group
        if _group is not self or os.getpid() != self._owner:
            return True
        _group = None
        seconds = None if self.place.rank else _PART_SECONDS
        open_still = [line.rank for line in self.lines.values() if not line.close(seconds)]
        if not open_still and self._own:
            torch.distributed.destroy_process_group()
        return not open_still

    def _lost(self, rank: int, reason: str) -> LostRank:
        deafen()  # torchrun is about to end this process, which has something to save and to say
        return LostRank(f"rank {rank} of {self.place.ranks} is gone ({reason}); fewer ranks can go on")


_group: Group | None = None


def meet(place: Place) -> Group:
    """The group of all ranks; waits for them the first time.

    Raises:
        FedSepError: They do not find each other.
    """
    global _group
    if _group is None:
        _group = Group(place)
        atexit.register(_group.leave)
        if place.rank:
            _follow_only(_group)
    return _group


def met() -> Group | None:
    """The group, if the ranks have met."""
    return _group


def missing(interruption: KeyboardInterrupt) -> str:
    """Which rank is gone, if torchrun ended this one, perhaps for that, before it was noticed here."""
    return _group.gone() if _group and isinstance(interruption, Dismissed) else ""


def _met() -> tuple[bool, Any]:
    """Whether the group of torch.distributed is ours to end, and the group: a user's own is left alone."""
    dist = torch.distributed
    try:
        if dist.is_initialized():
            return False, dist.new_group(backend="gloo")
        dist.init_process_group("gloo", timeout=timedelta(seconds=_MEET_SECONDS))
        return True, None
    except (RuntimeError, ValueError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise FedSepError(f"fedsep.engines.torchrun: the ranks did not find each other: {text}") from error


def _follow_only(group: Group) -> None:
    """A follower is deaf to Ctrl-C, which rank 0 hears, and ends with rank 0, also in the middle of a client's part."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        polite = group.lines[0].over()
        time.sleep(_NEWS_SECONDS)
        if group.busy:
            if not polite:
                orphaned(group.place)
            sys.stdout.flush()
            os._exit(0 if polite else 1)

    threading.Thread(target=watch, daemon=True).start()


def orphaned(place: Place) -> None:
    """Says, once for all followers, what there is to say when rank 0 is gone."""
    if place.rank == 1:
        print(
            "rank 0 is gone; its last checkpoint is whole: fedsep resume goes on from it", file=sys.stderr, flush=True
        )
