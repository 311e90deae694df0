"""What a private method promises, and under which conditions: the facts that its accountant reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from fedsep import random
from fedsep.calibrating import static_model
from fedsep.codecs.followed import Inside
from fedsep.core import Ctx, FedSepError
from fedsep.fedsep import FedSep
from fedsep.learners.own_classes import OwnClasses
from fedsep.ranges import Range
from fedsep.servers.announce import Announce
from fedsep.servers.optimize import Optimize, Reduced
from fedsep.servers.reduce import mean
from fedsep.servers.track import Track

if TYPE_CHECKING:
    from fedsep.plan import Plan

Mechanism = Literal["central", "distributed", "dp_sgd"]
Delta = Annotated[float, Range(gt=0, lt=1)]


@dataclass(frozen=True)
class Guarantee:
    """The Gaussian mechanism on a sum: of a round's changes, or of a minibatch's gradients.

    Attributes:
        mechanism: Who clips and adds the noise.
        clip: Largest Euclidean norm of a client's change, or of an example's gradient, over all of it together.
        noise: Standard deviation of the noise on the sum, in units of ``clip``; distributed: at least so much.
        replies: What the sum is divided by, however many terms it has.
        delta: For which epsilon is told.
        fewest: Replies without which a round is void.
        steps: Of DP-SGD, each round.
        secret: A number in place of the operating system's entropy, for tests and studies; None: entropy.
        seed: Goes with ``secret``, so that runs of several seeds have noise of their own.
    """

    mechanism: Mechanism
    clip: float
    noise: float
    replies: int
    delta: float
    fewest: int = 1
    secret: int | None = None
    seed: int = 0
    steps: int = 0


def require_plain(method: FedSep, factory: str) -> None:
    """Refuses methods in which a client has more weight than its clipped change.

    Raises:
        FedSepError: It weights clients, reduces in a way of its own, is private already, or its server looks at single
            replies.
    """
    wrong: list[str] = []
    if type(method) is not FedSep:  # called without a type checker, or by a recipe
        raise FedSepError(f"{factory}: method must be made of the five parts (got {type(method).__name__})")
    if method.privacy is not None:
        wrong.append("method must not be private already")
    if method.weighting != "uniform":
        wrong.append(
            "method must have weighting: uniform, since the number of a client's examples is told without noise and "
            f"would multiply what it can change (got {method.weighting})"
        )
    wrong += [f"method must {reason}" for reason in _servers(method.server, _owning(method.learner))]
    if wrong:
        raise FedSepError("; ".join(f"{factory}: {reason}" for reason in wrong))


def _owning(learner: object) -> bool:
    """Whether clients learn from their own classes alone, and say which these are."""
    while learner is not None and not isinstance(learner, OwnClasses):
        learner = getattr(learner, "learner", None)
    return learner is not None


def _servers(server: object, owning: bool) -> Iterator[str]:
    """A server is given one change, the noisy mean; whatever it then does to it costs no more privacy."""
    while isinstance(server, Announce | Track):
        server = server.server
    if isinstance(server, Inside):
        yield "have a plain downlink, wires.dense: x is told in full to clients that keep no copy of it"
        return
    if not isinstance(server, Optimize):
        yield f"have a server that averages changes (got {type(server).__name__}, which reads single replies)"
        return
    rules: list[object] = list(server.rule.values()) if isinstance(server.rule, dict) else [server.rule]
    if server.reduce is not mean or any(isinstance(rule, Reduced) and rule.reduce is not mean for rule in rules):
        why = "own_classes averages a class's rows over the clients that say they have it: set own_classes: false"
        yield f"reduce by the plain mean: the private mean takes its place{f' ({why})' if owning else ''}"


def mistakes(plan: Plan) -> list[str]:
    """What in a plan contradicts the guarantee of its method, as sentences; nothing for methods without one."""
    promised: Guarantee | None = getattr(plan.algorithm, "privacy", None)
    if promised is None:
        return []
    asked = (_of_the_examples,) if promised.mechanism == "dp_sgd" else (_of_the_cohort, _of_the_rest)
    found = [*_of_every_client(plan, promised), *(reason for ask in asked for reason in ask(plan, promised))]
    return found or _without_accountant()


def _of_the_cohort(plan: Plan, promised: Guarantee) -> Iterator[str]:
    clients, size = plan.fleet.clients, plan.cohort.size(plan.fleet.clients)
    if promised.replies != size:
        yield (
            f"replies must be the cohort's size, {size}: the sum is divided by it whoever replies "
            f"(got {promised.replies}; cohort.per_round says how many are invited)"
        )
    if promised.delta >= 1 / clients:
        yield (
            f"delta must be well below 1 / clients, {1 / clients:.3g}: at that, to publish a client's data outright "
            f"would count as private (got {promised.delta:g})"
        )
    least = plan.stop.min_replies
    if promised.mechanism == "central" and least != 1:
        yield (
            "stop.min_replies must be 1 with privacy.central: whether a round is void would tell, without noise, "
            f"who took part (got {least})"
        )
    if promised.mechanism == "distributed" and least < promised.fewest:
        yield (
            f"stop.min_replies must be at least fewest, {promised.fewest}: with fewer replies the shares of noise do "
            f"not add up to what is promised (got {least})"
        )
    if promised.mechanism == "distributed" and plan.cohort.sampling == "poisson":
        yield (
            "cohort.sampling must be fixed with privacy.distributed: it claims nothing from sampling, and a cohort "
            "whose size is drawn could be too small for its noise (got poisson)"
        )
    if any(capability != 1.0 for capability in plan.cohort.capabilities):
        yield "cohort.capabilities must be 1 with a private method: which part a client holds is told without noise"


def _of_the_rest(plan: Plan, promised: Guarantee) -> Iterator[str]:
    method: FedSep = plan.algorithm  # type: ignore[assignment]
    params = plan.task.init()
    expected = method.expected(method.init(params), Ctx(0, 1.0, random.key(0))).payload
    if isinstance(expected, dict) and "report" in expected:
        yield "method must send no report with its change: it would reach the server without noise"


def _of_the_examples(plan: Plan, promised: Guarantee) -> Iterator[str]:
    here = getattr(plan.fleet, "present", range(plan.fleet.clients))  # at a site, its own
    if not here:
        yield (
            "method must not be privacy.dp_sgd: epsilon is counted by the clients' numbers of examples, which are at "
            "their sites (fedsep.data.sites); privacy.distributed and privacy.central need none"
        )
        return
    known = [(client, plan.fleet.shard(client).train.size) for client in here]
    client, least = min(known, key=lambda each: each[1])
    most = max(size for _, size in known)
    if promised.delta >= 1 / most:
        yield (
            f"delta must be well below 1 / examples of a client, {1 / most:.3g}: at that, to publish an example "
            f"outright would count as private (got {promised.delta:g})"
        )
    if promised.replies > least:
        yield (
            f"batch_size must be at most the examples of each client, {least} of client {client}: a minibatch is a "
            f"random part of them (got {promised.replies})"
        )


def _of_every_client(plan: Plan, promised: Guarantee) -> Iterator[str]:
    if static_model(plan.task) is not None:
        yield (
            "model must have no static batch normalisation with a private method: its statistics are measured on the "
            "clients' data, without noise; choose norm: group"
        )
    if plan.evaluate.clients:
        yield "evaluate.clients must be off with a private method: single clients' metrics are written without noise"


def _without_accountant() -> list[str]:
    from fedsep.privacy.accountant import missing

    return missing()
