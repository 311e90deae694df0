"""Several runs at a time, each in a process of its own: the same bits as one after the other."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from fedsep.cli.carry_out import How, Notice, Todo, concluded
from fedsep.cli.entry import FAILED, INTERRUPTED
from fedsep.cli.hand import Described, Done, Failed, Refused, Setting, Stopped, serve
from fedsep.cli.plan import TOP
from fedsep.cli.progress import Watch, lines
from fedsep.cli.screen import Screen
from fedsep.core import FedSepError
from fedsep.engines.lost import death
from fedsep.errors import terminable


def side_by_side(screen: Screen, todo: Sequence[Todo], how: How, notice: Notice) -> list[int]:
    """Does runs, ``how.jobs`` at a time; their exit codes, in the order in which they end.

    Processes are started afresh rather than forked, so that each may use a GPU or fork workers of its own. They do not
    hear Ctrl-C: this process does, and asks each to stop, which saves a checkpoint.

    Raises:
        FedSepError: A run could not be begun, or the system has no processes that can be asked to stop.
        KeyboardInterrupt: Ctrl-C or SIGTERM.
    """
    if not hasattr(signal, "pthread_sigmask"):
        raise FedSepError("--jobs: this system cannot ask a process to stop and save: use --jobs 1")
    table, codes = _Table(screen, deque(todo), how, notice), list[int]()
    try:
        with terminable():
            while table.goes_on():
                table.give_out()
                codes += table.listen()
    except KeyboardInterrupt:
        table.stop()
        raise
    finally:
        table.close()
    return codes


@dataclass(eq=False)
class _Hand:
    """A process, the line to it, and the run that it is at."""

    process: Any
    line: Connection
    one: Todo | None = None
    watch: Watch | None = None

    def hear(self) -> Any:
        """What it has to say; None: it is dead."""
        try:
            return self.line.recv()
        except (EOFError, ConnectionError):
            return None


@dataclass(eq=False)
class _Table:
    """What is left to do, and who is at what."""

    screen: Screen
    left: deque[Todo]
    how: How
    notice: Notice
    hands: list[_Hand] = field(default_factory=list["_Hand"])
    said: set[str] = field(default_factory=set[str])

    def goes_on(self) -> bool:
        """Whether anything is left or under way."""
        return bool(self.left) or any(hand.one for hand in self.hands)

    def give_out(self) -> None:
        """Gives a run to every process that has none; there are never more processes than runs."""
        while self.left:
            hand = next((hand for hand in self.hands if hand.one is None), None)
            if hand is None and len(self.hands) == self.how.jobs:
                return
            self._give(hand or self._hire(), self.left.popleft())

    def listen(self) -> list[int]:
        """Waits for news; the exit codes of runs that have ended.

        Raises:
            KeyboardInterrupt: Somebody stopped one of the processes: the others are to stop with it.
        """
        ready = wait([hand.line for hand in self.hands if hand.one])
        heard = [(hand, hand.hear()) for hand in self.hands if hand.line in ready]
        codes = [self._take(hand, news) for hand, news in heard]
        if any(isinstance(news, Stopped) for _, news in heard):
            raise KeyboardInterrupt
        return [code for code in codes if code is not None]

    def stop(self) -> None:
        """Asks every run to save and stop, and waits for that; a second Ctrl-C ends them as they are."""
        self.left.clear()
        busy = [hand for hand in self.hands if hand.one]
        for hand in busy:
            hand.process.terminate()
        try:
            for hand in busy:
                while hand.one and (news := hand.hear()) is not None:
                    self._take(hand, news)
        except KeyboardInterrupt:
            for hand in busy:
                hand.process.kill()
            raise

    def close(self) -> None:
        """Lets the processes go; those that are at a run save and stop first."""
        for hand in self.hands:
            hand.line.close()
            if hand.one:
                hand.process.terminate()
        for hand in self.hands:
            hand.process.join()
        self.hands.clear()

    def _hire(self) -> _Hand:
        line, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=serve, args=(theirs, Setting.here(), self.how))
        with _deaf():
            process.start()
        theirs.close()
        self.hands.append(_Hand(process, line))
        return self.hands[-1]

    def _give(self, hand: _Hand, one: Todo) -> None:
        self.notice.begin(one)
        hand.one, hand.watch = one, None
        try:
            hand.line.send(one)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            reason = f"cannot be handed to another process ({error}): use --jobs 1"
            raise FedSepError(f"{one.job.folder}: {reason}") from error
        except ConnectionError:  # it is dead, which will be heard
            return

    def _take(self, hand: _Hand, news: Any) -> int | None:
        """Passes news on; the exit code if they are that a run has ended."""
        if isinstance(news, Described):
            self._described(hand, news.text)
        elif news is None or isinstance(news, Done | Failed | Stopped | Refused):
            one, hand.one = hand.one, None
            assert one is not None
            self.notice.end(one)
            return self._died(hand, one) if news is None else self._ended(one, news)
        elif hand.watch is not None:
            hand.watch(news)
        return None

    def _described(self, hand: _Hand, text: str) -> None:
        """A run begins in earnest: its clock does, too. Data are described once, however many runs have them."""
        if text not in self.said:
            self.said.add(text)
            self.screen.note(text)
        assert hand.one is not None
        if not self.screen.talk.quiet:
            hand.watch = lines(self.screen.note, str(hand.one.job.folder), patience=self.how.jobs)

    def _ended(self, one: Todo, news: Done | Failed | Stopped | Refused) -> int:
        title = str(one.job.folder)
        if isinstance(news, Done):
            return concluded(self.screen, title, one.job, news.summary)
        if isinstance(news, Refused):
            raise RuntimeError(f"{title}: {news.text}\n\n{news.trace}") if news.trace else FedSepError(news.text)
        self.screen.warn(f"{title}: {news.text}")
        if isinstance(news, Stopped):
            return INTERRUPTED
        if news.full:
            self.left.clear()
        return FAILED

    def _died(self, hand: _Hand, one: Todo) -> int:
        hand.process.join()
        hand.line.close()
        self.hands.remove(hand)
        begun = (one.job.folder / TOP).is_file()
        rest = f"; fedsep resume {one.job.folder} goes on" if begun else ""
        self.screen.warn(f"{one.job.folder}: {death(hand.process.exitcode, 1)}{rest}")
        return FAILED


@contextmanager
def _deaf() -> Iterator[None]:
    """What is started meanwhile never hears Ctrl-C; this process hears it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
