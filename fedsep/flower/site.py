"""One site's part: it answers the server's letters for its clients, with its own data, memories and limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fedsep import random, tree
from fedsep.core import Algorithm, Ctx, Failure, FedSepError, Invitation, Params, Payload, Shard, Task, Tree
from fedsep.engines.client import Job, plain, run, run_local
from fedsep.engines.engine import Fleet
from fedsep.engines.lost import lost
from fedsep.flower.audit import Audit, Unwritten
from fedsep.flower.evaluating import judged, measured
from fedsep.flower.letters import is_whole, require_places, shortened
from fedsep.flower.limits import Limits, Taken, kept_to
from fedsep.flower.store import Kept, Remembering
from fedsep.flower.versions import difference, facts, mismatch
from fedsep.settle import settled


@dataclass(frozen=True)
class Site:
    """A site that is ready to work for one run.

    Attributes:
        name: What the server's log calls it.
        algorithm: The run's method, built here from the recipe.
        task: The local problem.
        fleet: This site's data, by the clients' numbers in the federation.
        clients: Numbers of the clients that are here.
        memories: What they remember.
        limits: What one client's part of a round may take.
        audit: Where it is written what was received, run and sent.
        keep: Takes the model that the run ends with.
        frank: Whether tracebacks, which show paths and values, may leave the site.
    """

    name: str
    algorithm: Algorithm[Any, Any]
    task: Task
    fleet: Fleet
    clients: tuple[int, ...]
    memories: Remembering
    limits: Limits = Limits()
    audit: Audit = field(default_factory=Unwritten)
    keep: Callable[[Params], None] | None = None
    frank: bool = False

    def answer(self, letter: Mapping[str, Any], size: int = 0) -> dict[str, Any]:
        """The answer to a letter, whatever is in it; ``size`` is what Flower made of it, in bytes, for the audit log.

        A letter that cannot be answered gets ``{"problem": ...}``.
        """
        kind, began = letter.get("kind"), time.monotonic()
        try:
            given = self._answer(kind, letter)
        except Exception as error:
            given = {"problem": lost(error, "site").reason}
        self.audit.write(self._entry(letter, given, size, time.monotonic() - began))
        return given

    def _answer(self, kind: object, letter: Mapping[str, Any]) -> dict[str, Any]:
        match kind:
            case "hello":
                return self.hello(letter)
            case "round":
                outcomes = {seat[0]: self._seat(letter, *seat) for seat in letter["seats"]}
            case "local":
                outcomes = {seat[0]: self._local(letter, *seat) for seat in letter["seats"]}
            case "evaluate":
                outcomes = self._of_each(lambda shard: judged(self.task, letter["model"], shard))
            case "statistics":
                outcomes = self._of_each(lambda shard: measured(self.task, letter["model"], shard, letter["examples"]))
            case "model":
                if self.keep is not None:
                    self.keep(letter["model"])
                outcomes = {}
            case _:
                raise FedSepError(f"a letter of the kind {kind!r}, which this site does not know")
        return {"clients": outcomes}

    def refused(self, letter: Mapping[str, Any], size: int, why: str) -> dict[str, Any]:
        """Writes down why a letter is not answered; what the server is told."""
        given = {"problem": why}
        self.audit.write(self._entry(letter, given, size, 0.0))
        return given

    def hello(self, letter: Mapping[str, Any]) -> dict[str, Any]:
        """Who is here, if the two ends can work together."""
        here = facts()
        why = mismatch(letter.get("facts", {}), here)
        if why:
            return {"problem": f"the server cannot work with this site: {why}", "facts": here}
        samples = {client: self.fleet.shard(client).train.size for client in self.clients}
        differs = difference(letter.get("facts", {}), here)
        warned = {"warning": f"the server: {differs}"} if differs else {}
        return {"name": self.name, "facts": here, "samples": samples, **warned}

    def _of_each(self, found: Callable[[Shard], dict[str, Any]]) -> dict[int, dict[str, Any]]:
        """What is found on every client's data, each in the time that this site gives."""
        outcomes: dict[int, dict[str, Any]] = {}
        for client in self.clients:
            with kept_to(replace(self.limits, steps=None), "the evaluation of a client"):
                outcomes[client] = found(self.fleet.shard(client))
        return outcomes

    def _seat(
        self, letter: Mapping[str, Any], client: int, width: float, key: int, seen: int, digest: int | None,
        report: Tree, payload: Payload,
    ) -> dict[str, Any]:  # fmt: skip
        """A client's part of a round, its memory kept before the reply leaves."""
        try:
            kept, job = self._job(letter, client, width, key, seen, digest, report, payload)
            with kept_to(self.limits) as taken:
                result = run(self.algorithm, job, self.fleet)
            if isinstance(result, Failure):
                return self._failed(result) | _spent(taken)
            result = settled(result)
            told = result.payload.get("report") if isinstance(result.payload, dict) else None
            kept = Kept(result.memory, job.invitation.ctx.report if told is None else told)
            self.memories.put(client, job.invitation.ctx.round, kept)
        except Exception as error:
            return self._failed(lost(error, "site"))
        return {"payload": result.payload, "info": plain(result.info)} | _spent(taken)

    def _local(self, letter: Mapping[str, Any], client: int, *seat: Any) -> dict[str, Any]:
        """A client's metrics before and after its local steps; nothing is remembered."""
        try:
            _, job = self._job(letter, client, *seat)
            with kept_to(self.limits):
                found = run_local(self.algorithm, self.task, job, self.fleet)
        except Exception as error:
            return self._failed(lost(error, "site"))
        return self._failed(found) if isinstance(found, Failure) else {"before": found.before, "after": found.after}

    def _job(
        self, letter: Mapping[str, Any], client: int, width: float, key: int, seen: int, digest: int | None,
        report: Tree, payload: Payload,
    ) -> tuple[Kept | None, Job]:  # fmt: skip
        require_places(letter, client, seen)
        if client not in self.clients:
            raise FedSepError(f"client {client} is not at this site")
        self.memories.settle(client, seen, letter["checkpoints"])
        kept = self.memories.recall(client, seen)
        own = kept.report if kept is not None and report is None else report
        ctx = Ctx(letter["round"], width, random.as_key(key), seen, own, digest)
        return kept, settled(Job(Invitation(client, ctx), payload, None if kept is None else kept.memory))

    def _failed(self, why: Any) -> dict[str, Any]:
        traceback = why.traceback if self.frank else ""
        return {"failure": {"stage": why.stage, "reason": why.reason, "traceback": traceback}}

    def _entry(self, letter: Mapping[str, Any], given: Mapping[str, Any], size: int, seconds: float) -> dict[str, Any]:
        outcomes, told = given.get("clients", {}), letter.get("round")
        return {
            "received": shortened(letter.get("kind")),
            "run": shortened(letter.get("run")),
            "round": told + 1 if is_whole(told, 0) else shortened(told),
            "letter_bytes": size,
            "seconds": round(seconds, 3),
            "sent": {shortened(client): _brief(outcome) for client, outcome in outcomes.items()},
            **{name: given[name] for name in ("problem", "warning") if name in given},
        }


def _spent(taken: Taken) -> dict[str, Any]:
    return {"steps": taken.steps, "seconds": taken.seconds}


def _brief(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit log says of an answer for one client: sizes and numbers, no tensors."""
    brief = {key: value for key, value in outcome.items() if key not in ("payload", "moments", "failure")}
    for name in ("payload", "moments"):
        if name in outcome:
            brief[f"{name}_bytes"] = tree.nbytes(outcome[name])
    if "failure" in outcome:
        brief["failure"] = {name: outcome["failure"][name] for name in ("stage", "reason")}
    return brief
