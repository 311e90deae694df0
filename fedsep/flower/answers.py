"""What a site's answer says of each client: all of it comes from outside, and becomes a value, whatever it is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from fedsep.core import Failure, Invitation
from fedsep.engines.client import Job
from fedsep.flower.evaluating import are_named
from fedsep.flower.letters import LARGEST
from fedsep.flower.post import Answer, Sent
from fedsep.replies import received

_REPLY = {"payload", "info"}
_LONGEST = 4000  # characters of a reason or a traceback that are kept


def is_reply(given: Mapping[str, Any]) -> bool:
    """Whether a client's part has what a reply has; what is in it is looked at later."""
    if "failure" in given or not given.keys() >= _REPLY or not isinstance(given["info"], dict):
        return False
    told: Mapping[str, Any] = given["info"]
    return all(not isinstance(value, int) or abs(value) < LARGEST for value in told.values())


def latecomers(sent: Sent, answer: Answer) -> Iterator[Failure]:
    """What a letter's clients sent when nobody waited any more: it crossed, and is not read further."""
    given = blocks(answer)
    late: list[Invitation] = sent.about or []
    for place, (client, ctx) in enumerate(late):
        payload = given.get(client, {}).get("payload")
        if payload is not None:
            reason = f"the reply to round {ctx.round + 1} came after the time-out"
            up = share(answer.size, place, len(late))
            yield Failure(client, ctx, "late", reason, "", {}, received(payload, None), (0, up))


def absent(job: Job) -> Failure:
    """A client that nobody can be asked about."""
    return Failure(*job.invitation, "absent", "no site that is connected has this client")


def failure(job: Job, given: Mapping[str, Any], shares: tuple[int, int] | None = None) -> Failure:
    """What a client without a reply says of it; all of it comes from outside."""
    told = given.get("failure")
    told = told if isinstance(told, dict) else {"reason": "the site sent nothing for this client"}
    stage, reason, traceback = (str(told.get(name) or "")[:_LONGEST] for name in ("stage", "reason", "traceback"))
    return Failure(*job.invitation, stage or "site", reason, traceback, job.sent, {}, shares)


def part_of(answer: Answer, client: int) -> Mapping[str, Any]:
    """A client's part of its site's answer."""
    if answer.problem:
        return {"failure": {"stage": "timeout" if answer.late else "site", "reason": answer.problem}}
    return blocks(answer).get(client, {})


def blocks(answer: Answer) -> dict[int, Mapping[str, Any]]:
    """The parts of an answer that are of the form they should be."""
    found = answer.letter.get("clients")
    return {c: part for c, part in found.items() if isinstance(part, dict)} if isinstance(found, dict) else {}


def own_blocks(answer: Answer, clients: Collection[int]) -> dict[int, Mapping[str, Any]]:
    """Of these, the parts for a site's own clients: it says nothing of another's."""
    return {client: part for client, part in blocks(answer).items() if type(client) is int and client in clients}


def share(total: int, place: int, count: int) -> int:
    """A client's part of the bytes that several share; all parts add up to ``total``."""
    return total // count + (place < total % count)


def is_metrics(value: object) -> bool:
    """Whether it is figures of merit by name."""
    return are_named(value) and all(isinstance(part, float) for part in value.values())
