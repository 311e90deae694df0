"""How good the server's model is, and each client's own before and after its local steps."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor

from fedsep.core import Algorithm, Failure, Invitation, Params
from fedsep.coverage import CLIENTS, overlaps
from fedsep.engines.client import own_metrics
from fedsep.engines.engine import Fleet, Local, Metrics, Session
from fedsep.errors import RunFailed
from fedsep.holding import kept, narrows, units_of
from fedsep.options import Evaluate
from fedsep.saving import Point
from fedsep.serving import Judge, densities, judged

_log = logging.getLogger("fedsep")

_AT_ONCE = 256  # clients that are invited at a time, so that memory does not grow with the fleet


def evaluate_server(algorithm: Algorithm[Any, Any], judge: Judge, point: Point) -> dict[str, float]:
    """The metrics of the server's model as columns: ``validation_accuracy``, ``test_accuracy``, ..."""

    def narrower(params: Params) -> Callable[[float], Params]:
        cut = getattr(algorithm, "narrower", None)
        return lambda width: params if cut is None else cut(point.state, params, width)

    bare = judge._replace(options=replace(judge.options, levels=None))
    params = algorithm.model(point.state)
    # Where it cannot be made narrower, every share of the units is the whole model.
    sparse = densities(algorithm)
    columns = judged(judge if narrows(algorithm) else bare, params, narrower(params), sparse=sparse)
    if point.average is not None:
        columns |= judged(bare, point.average, narrower(point.average), "average_", sparse)
    return columns


def has_central_data(fleet: Fleet) -> bool:
    """Whether the server has anything to judge a model on."""
    return any(samples is not None and samples.size for samples in (fleet.validation, fleet.test))


def evaluate_at_sites(
    algorithm: Algorithm[Any, Any], session: Any, options: Evaluate, point: Point
) -> dict[str, float]:
    """The same columns without central data: every site reports counts and metrics on its clients' own parts.

    Args:
        algorithm: The method.
        session: An engine whose sites can be asked (``evaluate``).
        options: When and how the model is evaluated.
        point: The run.
    """
    calibration = None if options.statistics == "testbatch" else options.calibration
    columns: dict[str, float] = session.evaluate(algorithm.model(point.state), calibration)
    if point.average is not None:
        average: dict[str, float] = session.evaluate(point.average, calibration, "average_")
        traffic = {name: columns[name] + average[name] for name in columns if name.startswith("evaluation_bytes")}
        columns = {**columns, **average, **traffic}
    return columns


class ClientsEvaluated(NamedTuple):
    """Means over the clients that could be evaluated as columns, and a row for every client."""

    columns: dict[str, float]
    rows: list[dict[str, Any]]


def evaluate_clients(
    session: Session, state: Any, clients: int, round: int, invite: Callable[[Sequence[int]], Sequence[Invitation]]
) -> ClientsEvaluated:
    """Every client's metrics on its own test part: ``client_accuracy_before``, ``client_accuracy_after``, ...

    Args:
        session: The engine at work.
        state: The server's.
        clients: Number of clients of the fleet.
        round: Number of the round, from 1.
        invite: Makes the invitations of some clients; nothing of this is remembered or counted.

    Raises:
        RunFailed: No client could be evaluated.
    """
    rows = [_row(round, outcome) for outcome in _outcomes(session, state, clients, invite)]
    good = [row for row in rows if "failure" not in row]
    if not good:
        stage, reason = rows[0]["failure"].values()
        raise RunFailed(f"round {round}: no client could be evaluated (client {rows[0]['client']}, {stage}: {reason})")
    lost = [row for row in rows if "failure" in row]
    if lost:
        told = (round, len(lost), len(rows), lost[0]["client"], *lost[0]["failure"].values())
        _log.warning("round %d: %d of %d clients could not be evaluated, and are in no mean (client %d, %s: %s)", *told)
    columns = {
        f"client_{name}_{when}": _mean([row[when][name] for row in good])
        for name in good[0]["before"]
        for when in ("before", "after")
    }
    return ClientsEvaluated(columns, rows)


def evaluate_held(
    algorithm: Algorithm[Any, Any],
    judge: Judge,
    point: Point,
    share: float,
    invite: Callable[[Sequence[int]], Sequence[Invitation]],
) -> ClientsEvaluated:
    """What every client would hold at one capability, on its own test part: ``client_held_accuracy``, ...

    Of classes, only those count that the client learns from.

    Args:
        algorithm: The method; nothing is found where its clients hold no sub-models.
        judge: What it takes.
        point: The run.
        share: The capability, taken for every client's.
        invite: Makes the invitations of some clients; nothing of this is remembered or counted.

    Returns:
        The means, and one row with how much the clients' units overlap where they are cut by units.
    """
    if not hasattr(getattr(algorithm, "view", None), "submodel"):
        return ClientsEvaluated({}, [])
    table = units_of(algorithm)
    params, fleet = algorithm.model(point.state), judge.fleet
    found: list[Metrics] = []
    seen: list[tuple[dict[str, Tensor], Tensor]] = []
    for start in range(0, fleet.clients, _AT_ONCE):
        for client, ctx in invite(range(start, min(start + _AT_ONCE, fleet.clients))):
            shard, ctx = fleet.shard(client), ctx._replace(capability=share)
            if shard.test is not None and shard.test.size:
                part: Params = algorithm.submodel(point.state, params, ctx)  # type: ignore[attr-defined]
                found.append(own_metrics(judge.task, part, shard.train, shard.test, own_classes=True))
            if len(seen) < CLIENTS and (keep := kept(algorithm, point.state, ctx)) is not None:
                seen.append((keep, shard.train.y))
    columns = {f"client_held_{name}": _mean([each[name] for each in found]) for name in (found[0] if found else ())}
    classes = all(not y.is_floating_point() and y.dim() == 1 for _, y in seen)
    told = overlaps(seen, table.sizes) if table is not None and classes else []
    return ClientsEvaluated(columns, [{"held": share, "overlap": told}] if told else [])


def _outcomes(
    session: Session, state: Any, clients: int, invite: Callable[[Sequence[int]], Sequence[Invitation]]
) -> Iterator[Local | Failure]:
    for start in range(0, clients, _AT_ONCE):
        yield from session.local(state, invite(range(start, min(start + _AT_ONCE, clients))))


def _row(round: int, outcome: Local | Failure) -> dict[str, Any]:
    row: dict[str, Any] = {"round": round, "client": outcome.client}
    if isinstance(outcome, Failure):
        return row | {"failure": {"stage": outcome.stage, "reason": outcome.reason}}
    return row | {"before": outcome.before, "after": outcome.after}


def _mean(values: list[float]) -> float:
    """Over the clients that have a value: an AUC needs two classes."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
