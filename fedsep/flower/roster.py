"""Which site has which clients: nodes introduce themselves, also such as come later or come back."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fedsep.core import FedSepError
from fedsep.flower.letters import is_whole
from fedsep.flower.post import Answer, Post, Sent
from fedsep.flower.versions import difference, facts, mismatch

_log = logging.getLogger("fedsep")


_AGAIN = 30.0  # seconds after which a node that was refused is asked again


_LONGEST = 80  # characters of a name


class Member(NamedTuple):
    """A site that takes part.

    Attributes:
        name: As it calls itself.
        samples: Number of training examples of each of its clients.
    """

    name: str
    samples: Mapping[int, int]


@dataclass
class Roster:
    """The sites of a run.

    Attributes:
        post: Reaches them.
        clients: Number of clients in the federation.
        announcement: What a site must know to take part: the recipe as text, the method, the seed.
        wait: Seconds that are given to sites to call where none is there.
        members: The sites that take part now, by node.
        refused: Why others do not.
        homes: By client, the site that has it, or had it when it was last heard of.
    """

    post: Post
    clients: int
    announcement: Mapping[str, Any]
    wait: float = 0.0
    members: dict[int, Member] = field(default_factory=dict[int, Member])
    refused: dict[int, str] = field(default_factory=dict[int, str])
    homes: dict[int, str] = field(default_factory=dict[int, str])
    _again: dict[int, float] = field(default_factory=dict[int, float])
    _forgotten: set[int] = field(default_factory=set[int])
    _asked: dict[int, Sent] = field(default_factory=dict[int, Sent])

    def gather(self) -> None:
        """Waits until every client has a site, or ``wait`` seconds have passed and some have.

        Raises:
            FedSepError: No site takes part; the message says what became of those that called.
        """
        until = time.monotonic() + self.wait
        self.update()
        while self.absent() and time.monotonic() < until:
            time.sleep(self.post.pause)
            self.update()
        if not self.members:
            reasons = "; ".join(f"node {node}: {why}" for node, why in self.refused.items())
            raise FedSepError(f"no site takes part after {self.wait:g} s ({reasons or 'none has called'})")
        if self.absent():
            _log.warning("clients without a site so far: %s", _listed(self.absent()))

    def ready(self) -> None:
        """Brings the roster up to date; waits for sites that introduce themselves again, or for any if none is there.

        Without that, a round that failed at every site would be followed by rounds without a site, all within a second.
        """
        until = time.monotonic() + self.wait
        self.update()
        while self._forgotten or (not self.members and time.monotonic() < until):
            time.sleep(self.post.pause)
            self.update()

    def update(self) -> None:
        """Asks nodes that are new who they are, hears those that were asked, forgets those that are gone."""
        there, now = self.post.nodes(), time.monotonic()
        for known in (self.members, self.refused, self._again, self._asked):
            for node in set(known).difference(there):
                known.pop(node)
        self._forgotten.intersection_update(there)
        new = [node for node in there if node not in self.members.keys() | self._asked.keys()]
        new = [node for node in new if now >= self._again.get(node, now)]
        hello = {"kind": "hello", "facts": facts(), **self.announcement}
        self._asked |= self.post.send("query", dict.fromkeys(new, hello))
        for node, sent in list(self._asked.items()):
            if self.post.has(sent):
                del self._asked[node]
                self._hear(node, self.post.answer(sent))

    def node_of(self, client: int) -> int | None:
        """Where a client is; None if no connected site has it."""
        return next((node for node, member in self.members.items() if client in member.samples), None)

    def samples(self, client: int) -> int:
        """Number of training examples of a client whose site takes part."""
        return next(member.samples[client] for member in self.members.values() if client in member.samples)

    def absent(self) -> list[int]:
        """Clients that no connected site has."""
        here = {client for member in self.members.values() for client in member.samples}
        return [client for client in range(self.clients) if client not in here]

    def forget(self, node: int) -> None:
        """Has a site introduce itself again: it does not know what it should."""
        if self.members.pop(node, None) is not None:
            self._forgotten.add(node)

    def _hear(self, node: int, answer: Answer) -> None:
        self._forgotten.discard(node)
        if answer.late:
            return  # it is asked again
        why = answer.problem or self._unfit(answer.letter)
        if why:
            self._refuse(node, why)
            return
        for known in (self.refused, self._again):
            known.pop(node, None)
        member = Member(answer.letter["name"][:_LONGEST], dict(answer.letter["samples"]))
        self.members[node] = member
        self.homes |= dict.fromkeys(member.samples, member.name)
        differs = difference(answer.letter["facts"], facts())
        if differs:
            _log.warning("site %s: %s", member.name, differs)
        _log.info("site %s takes part with %s", member.name, _listed(sorted(member.samples)))

    def _refuse(self, node: int, why: str) -> None:
        """A node is asked again later: who had its clients may be gone by then."""
        if self.refused.get(node) != why:
            _log.warning("node %d does not take part: %s", node, why)
        self.refused[node], self._again[node] = why, time.monotonic() + _AGAIN

    def _unfit(self, letter: Mapping[str, Any]) -> str:
        """Why a site that wants to take part cannot."""
        told, samples = letter.get("facts"), letter.get("samples")
        why = mismatch(told if isinstance(told, dict) else {}, facts())
        if why:
            return why
        if not isinstance(letter.get("name"), str):
            return "it does not say what it is called"
        if not isinstance(samples, dict) or not samples:
            return "it does not say which clients it has"
        if not all(is_whole(number, 0) for number in (*samples, *samples.values())):
            return "it does not say which clients it has"
        beyond = [client for client in samples if client >= self.clients]
        if beyond:
            return f"it has client {beyond[0]}, and the recipe's clients are 0 to {self.clients - 1}"
        twice = [client for client in samples if self.node_of(client) is not None]
        if twice:
            other = self.members[self.node_of(twice[0]) or 0].name
            return f"client {twice[0]} is at the site {other} already: give each site clients of its own (--clients)"
        return ""


def _listed(clients: list[int]) -> str:
    shown = ", ".join(map(str, clients[:10]))
    return f"client{'s' * (len(clients) != 1)} {shown}{f' and {len(clients) - 10} more' if len(clients) > 10 else ''}"
