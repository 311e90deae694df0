"""The model that a run ends with, brought to every site that took part."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedsep import tree
from fedsep.errors import RunFailed
from fedsep.flower.post import Answer
from fedsep.flower.roster import Member, Roster

_TRIES = 2  # of one node: a site that does not know the run is introduced to it again, a full disk stays full

_log = logging.getLogger("fedsep")


@dataclass
class Handing:
    """Who has the model, and who should.

    Attributes:
        roster: The sites.
        letter: With the model.
        record: Is given a row for each letter that is answered: ``site``, ``payload`` in bytes, ``serialised`` and
            ``answer`` as Flower counts bytes, and ``problem``, empty where the site took the model.
        have: Clients whose sites have it.
        tried: How often each node was sent it.
        why: Of sites that could not take it, by name.
    """

    roster: Roster
    letter: Mapping[str, Any]
    record: Callable[[dict[str, Any]], None]
    have: set[int] = field(default_factory=set[int])
    tried: dict[int, int] = field(default_factory=dict[int, int])
    why: dict[str, str] = field(default_factory=dict[str, str])

    def lacking(self) -> list[str]:
        """Names of sites that took part and do not have it."""
        return sorted({name for client, name in self.roster.homes.items() if client not in self.have})

    def once(self) -> None:
        """Sends it to the sites that are connected and do not have it."""
        self.roster.update()
        members = {node: member for node, member in self.roster.members.items() if self._wants(node, member)}
        sent = self.roster.post.send("query", dict.fromkeys(members, self.letter))
        for node, each in sent.items():
            answer = self.roster.post.answer(each)
            self.record(self._row(members[node], each.size, answer))
            self._told(node, members[node], answer)

    def _row(self, member: Member, sent: int, answer: Answer) -> dict[str, Any]:
        payload = sum(tree.named_bytes(self.letter["model"]).values())
        sizes = {"payload": payload, "serialised": sent, "answer": answer.size}
        return {"site": member.name, **sizes, "problem": answer.problem}

    def _wants(self, node: int, member: Member) -> bool:
        return self.tried.get(node, 0) < _TRIES and not self.have.issuperset(member.samples)

    def _told(self, node: int, member: Member, answer: Answer) -> None:
        self.tried[node] = self.tried.get(node, 0) + 1
        if answer.problem:
            self.why[member.name] = answer.problem
            self.roster.forget(node)
            return
        self.have.update(member.samples)
        _log.info("site %s has the final model", member.name)


def handed_out(handing: Handing) -> None:
    """Sends the model to all sites that took part, waits for those that are away, and logs who does not have it.

    It waits as long as the roster does for sites, and up to the post's time-out more for the answers of those that were
    sent it by then; the run is over, whatever comes of it. Sites are known that have called since the roster was made.
    """
    until = time.monotonic() + handing.roster.wait
    try:
        handing.once()
        if handing.lacking():
            away = ", ".join(handing.lacking())
            _log.info("the final model waits %g s at most for the sites %s", handing.roster.wait, away)
        while handing.lacking() and time.monotonic() < until:
            time.sleep(handing.roster.post.pause)
            handing.once()
    except RunFailed as error:
        _log.warning("the final model: %s", error)
    for name in handing.lacking():
        why = handing.why.get(name, "it is not connected")
        _log.warning("site %s does not have the final model: %s; --resume sends it again", name, why)
