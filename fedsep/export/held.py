"""Which sub-model of a run is exported: of what capability, by whose plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from fedsep.calibrating import of_samples, with_statistics
from fedsep.core import FedSepError, Params
from fedsep.engines.sequential import SequentialSession
from fedsep.export.finished import Finished
from fedsep.holding import cuts, narrows, places, unfit
from fedsep.options import Evaluate
from fedsep.serving import Judge, best_width, densities

WIDTHS = (1.0, 0.5, 0.25)
"""Among these the served width is chosen where the run did not choose one."""


class Held(NamedTuple):
    """A sub-model.

    Attributes:
        capability: Share of the units.
        why: How the capability came about, in words.
        params: Its parameters, with statistics where the model needs them.
        places: Of every number, its place in the whole model's tensor of the name.
    """

    capability: float
    why: str
    params: Params
    places: dict[str, Tensor]


def held(run: Finished, capability: float | None, client: int | None) -> Held:
    """The sub-model that is asked for.

    Args:
        run: A finished run.
        capability: Share of the units; None: the client's where clients keep theirs, else the width that is served.
        client: Whose plan, report and key; None: the server's own.

    Raises:
        FedSepError: The capability cannot be had, or there is no such client.
    """
    if run.member is not None:
        return _member(run, run.member, client)
    if not narrows(run.algorithm) or (client is not None and not cuts(run.algorithm)):
        return _whole(run, capability, client)
    share, why, cut = _asked(run, capability) if client is None else _of_client(run, client, capability)
    wrong = unfit(run.algorithm, [share]) if client is None else run.algorithm.view.mistakes([share])  # type: ignore[attr-defined]
    if wrong:
        raise FedSepError(f"--capability: {'; '.join(wrong)}")
    return Held(share, why, ready(run, cut(run.params), client), places(cut, run.params))


Cut = Callable[[Params], Params]


def _asked(run: Finished, capability: float | None) -> tuple[float, str, Cut]:
    """The server's, as it would serve it."""
    share, why = _served(run) if capability is None else (capability, "as asked for")
    method: Any = run.algorithm
    return share, why, lambda params: method.narrower(run.state, params, share)


def _of_client(run: Finished, client: int, capability: float | None) -> tuple[float, str, Cut]:
    """A client's own, by its plan as it would be in the next round."""
    own = run.experiment.recipe.options()["cohort"].draw != "dynamic"
    why = "as asked for" if capability is not None else f"what client {client} can hold"
    if capability is None and not own:
        capability, why = _served(run)
    ctx, method = run.ctx(client, capability), cast(Any, run.algorithm)
    return ctx.capability, why, lambda params: method.submodel(run.state, params, ctx)


def ready(run: Finished, params: Params, client: int | None) -> Params:
    """With the statistics of static batch normalisation: a client's of its own data, as where clients are evaluated."""
    if client is None:
        return _judge(run).ready(params)
    calibration = run.experiment.recipe.options()["evaluate"].calibration
    train = run.experiment.federation.shard(client).train
    return with_statistics(run.task, params, lambda: of_samples(train, calibration))


def _member(run: Finished, name: str, client: int | None) -> Held:
    """The model of clients of a capability, which is part of no other."""
    whose = f"the model of clients of capability {name}" + ("" if client is None else f", such as client {client}")
    return Held(float(name), whose, ready(run, run.params, client), places(lambda params: params, run.params))


def _whole(run: Finished, capability: float | None, client: int | None) -> Held:
    if capability not in (None, 1.0):
        raise FedSepError(
            f"--capability: the clients of {run.summary['method']} do not hold sub-models of the server's model, which "
            f"can only be exported whole: leave --capability out (got {capability:g})"
        )
    if client is not None:
        raise FedSepError(
            f"--client: {run.summary['method']} cuts no sub-models for its clients: leave --client out (got {client})"
        )
    why, params = _at_density(run)
    return Held(1.0, why, _judge(run).ready(params), places(lambda params: params, run.params))


def _at_density(run: Finished) -> tuple[str, Params]:
    """The whole model at the density that is served, where the method has several; and why."""
    sparse = densities(run.algorithm)
    if not sparse.shares:
        return "the whole model: the method has no sub-models", run.params
    told = _told(run, "served_density")
    if told is not None:
        why = "the density that the run served last, chosen on validation data"
        return f"the whole model with {told:g} of its weights: {why}", sparse.sparser(run.params, told)
    judge, most = _judge(run), sparse.shares[0]
    if not judge.fleet.validation or not judge.fleet.validation.size:
        why = "there are no validation data to choose a density by"
        return f"the whole model with {most:g} of its weights: {why}", run.params
    best = best_width(judge, {share: judge.ready(sparse.sparser(run.params, share)) for share in sparse.shares})
    why = f"the best of {', '.join(f'{share:g}' for share in sparse.shares)} on validation data"
    return f"the whole model with {best:g} of its weights: {why}", sparse.sparser(run.params, best)


def _served(run: Finished) -> tuple[float, str]:
    """The width that the run chose last on validation data; chosen now if it did not."""
    told = _told(run, "served_width")
    if told is not None:
        return told, "the width that the run served last, chosen on validation data"
    judge = _judge(run)
    if not judge.fleet.validation or not judge.fleet.validation.size:
        return 1.0, "the whole model: there are no validation data to choose a width by"
    widths = [width for width in WIDTHS if not unfit(run.algorithm, [width])]
    models = {width: judge.ready(run.algorithm.narrower(run.state, run.params, width)) for width in widths}  # type: ignore[attr-defined]
    return best_width(judge, models), f"the best of {', '.join(f'{width:g}' for width in widths)} on validation data"


def _told(run: Finished, name: str) -> float | None:
    """The last figure of a column of the run's, or of its average's."""
    rows = (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    name = f"average_{name}" if run.average else name
    told = [row[name] for row in map(json.loads, rows) if name in row]
    return float(told[-1]) if told else None


def _judge(run: Finished) -> Judge:
    """Statistics are always measured: a module that is on its own has no batches to take them from."""
    options: Evaluate = run.experiment.recipe.options()["evaluate"]
    fleet = run.experiment.federation
    session = SequentialSession(run.algorithm, run.task, fleet, lambda client, seen: None, torch.get_num_threads())
    return Judge(run.task, fleet, session, Evaluate(calibration=options.calibration))
