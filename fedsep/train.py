"""``fit``: the only loop. Sample a cohort, play a round, evaluate, log, save."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fedsep.cohort import Cohort
from fedsep.core import Algorithm, FedSepError, Params, Task
from fedsep.coverage import covered
from fedsep.engines.auto import decide
from fedsep.engines.engine import Engine, Fleet, Session
from fedsep.engines.ranks import missing
from fedsep.engines.sequential import sequential
from fedsep.engines.together import followed, instead, share, within
from fedsep.environment import chosen_engine, record_resumption, record_start
from fedsep.errors import CannotWrite, Interrupted, LostRank, RunFailed, terminable
from fedsep.evaluation import evaluate_at_sites, evaluate_clients, evaluate_held, evaluate_server, has_central_data
from fedsep.folder import CLIENTS, LEDGER, METRICS, SUBMODELS, RunFolder, finite, open_folder
from fedsep.identity import identify
from fedsep.ledger import rows as ledger_rows
from fedsep.options import Accept, Checkpoint, Evaluate, Stop
from fedsep.plan import Plan, task_of
from fedsep.privacy.meter import Meter, meter_of
from fedsep.results import Row, Run, count, summary, write_results
from fedsep.round import Played, play, too_few
from fedsep.saving import Keeper, Point, memories_in, start
from fedsep.serving import Judge, averaged

__all__ = ["Accept", "Checkpoint", "Cohort", "Evaluate", "Interrupted", "Progress", "Run", "RunFailed", "Stop", "fit"]


@dataclass(frozen=True)
class Progress:
    """A round that is over.

    Attributes:
        round: Its number, from 1.
        rounds: How many there are to be.
        metrics: Its row of ``metrics.jsonl``.
        bytes_up: Payload from all clients since the start.
        bytes_down: Payload to all clients since the start.
        seconds: Time spent in rounds since the start.
    """

    round: int
    rounds: int
    metrics: Row
    bytes_up: int
    bytes_down: int
    seconds: float


@dataclass(frozen=True)
class _Work:
    """A plan, and what carries it out."""

    plan: Plan
    keeper: Keeper
    session: Session
    parameters: int
    watch: Callable[[Progress], None] | None
    meter: Meter | None = None
    rows: list[Row] = field(default_factory=list[Row])
    began: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> RunFolder | None:
        """Where the run is written; None: nowhere."""
        return self.keeper.folder

    @property
    def path(self) -> Path | None:
        """The same as a path."""
        return self.folder.path if self.folder else None

    def late(self) -> bool:
        """Whether this call of ``fit`` has had its time."""
        limit = self.plan.stop.seconds
        return limit is not None and time.monotonic() - self.began >= limit


def fit(
    algorithm: Algorithm[Any, Any],
    task: Task,
    fleet: Fleet,
    *,
    rounds: int,
    seed: int = 0,
    cohort: Cohort = Cohort(),
    engine: Engine = sequential(),
    evaluate: Evaluate = Evaluate(),
    checkpoint: Checkpoint = Checkpoint(),
    stop: Stop = Stop(),
    accept: Accept = Accept(),
    states: Literal["memory", "disk"] = "memory",
    out: str | Path | None = None,
    name: str = "run",
    recipe: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    watch: Callable[[Progress], None] | None = None,
) -> Run:
    """Runs federated learning: the same bits for the same seed, on every engine, interrupted or not.

    Args:
        algorithm: The method.
        task: The local problem; gives the initial model and the metrics.
        fleet: The clients' data, and the server's.
        rounds: Number of rounds.
        seed: Of cohorts, capabilities and the clients' keys.
        cohort: Who takes part.
        engine: How the clients are run. With ``torchrun``, every process calls ``fit`` with the same arguments and
            gets the same result; rank 0 alone writes and is told of rounds.
        evaluate: When the model is evaluated.
        checkpoint: When the run is saved.
        stop: When it gives up, or has had its time.
        accept: What a reply must keep to, to be folded.
        states: Where the clients' memories live; ``"disk"`` for fleets whose memories do not fit.
        out: Folder of results: the run is written to ``<out>/<name>/seed<seed>``; None: nowhere.
        name: The run's name, by default its method's in a recipe.
        recipe: Written beside the results as ``recipe.yaml``.
        resume: Go on from the last checkpoint in the run's folder; start if there is none.
        overwrite: Remove what an earlier run wrote into the folder.
        watch: Called after every round.

    Raises:
        FedSepError: An argument cannot be right, the folder cannot be used, or the checkpoint is of another run.
        RunFailed: Too few replies came for too long, something is not finite, or the disk is full.
        Interrupted: Ctrl-C or SIGTERM, after a checkpoint.
    """
    _require_reach(engine, fleet)
    task = task_of(algorithm, task)
    plan = Plan(algorithm, task, fleet, rounds, seed, cohort, evaluate, checkpoint, stop, states, name, accept)
    plan.check()
    led = followed(engine, algorithm, task, fleet)
    if led is not None:
        return led
    with ExitStack() as stack:
        folder = None
        if out is not None:
            folder = open_folder(Path(out) / name / f"seed{seed}", resume=resume, overwrite=overwrite)
            stack.callback(folder.close)
        params = task.init()
        identity = identify(
            algorithm=algorithm,
            params=params,
            fleet=fleet,
            cohort=cohort,
            seed=seed,
            states=states,
            recipe=recipe,
            chosen={"accept": None if accept == Accept() else accept, "faults": getattr(engine, "faults", None)},
        )
        keeper = Keeper(folder, memories_in(folder, states, stack), identity)
        saved = keeper.find(rounds) if resume else None
        kept = chosen_engine(folder) if saved else None
        choice = decide(within(engine), algorithm, task, fleet, cohort.size(fleet.clients), kept)
        engine = engine if choice is None else instead(engine, choice.build())
        session = engine.open(algorithm, task, fleet, keeper.memories.clients.recall)
        stack.callback(session.close)
        stack.enter_context(terminable())
        work = _Work(plan, keeper, session, count(params), watch, meter_of(plan))
        if folder is not None and work.meter is not None:
            folder.restrict()
        if saved is None:
            point = start(algorithm.init(params), fleet.clients)
            record_start(folder, engine, seed, fleet, recipe, choice and choice.record())
        else:
            point = keeper.restore(saved)
            work.rows.extend(record_resumption(folder, point.round, recipe, choice and choice.record()))
        run = _run(work, point)
        share(engine, run)
        if run.summary["status"] == "done":
            _deliver(work, run.params)  # last: it may have to wait for sites, and everything is written by now
        return run


def _require_reach(engine: Any, fleet: Any) -> None:
    """Refuses data that lie at sites for an engine that reaches none: every client would fail in every round."""
    if getattr(fleet, "present", None) == () and getattr(getattr(engine, "engine", engine), "grid", None) is None:
        raise FedSepError("the data are at their sites (fedsep.data.sites): start this run by fedsep flower server")


def _run(work: _Work, point: Point) -> Run:
    """All rounds from ``point`` on; however that ends, the last complete round is saved."""
    plan = work.plan
    try:
        _save(work, point)
        while point.round < plan.rounds:
            point = _advance(work, point)
            # A private model is kept before anyone is sent it: no restart may use its round's noise for another sum.
            if work.meter is not None or plan.checkpoint.due(point.round, time.monotonic() - work.keeper.at):
                _save(work, point)
            _tell(work, point)
            if work.late():
                break
        late = f"the limit of {plan.stop.seconds} s was reached" if point.round < plan.rounds else ""
        params = plan.algorithm.model(point.state)
        return Run(work.path, _close(work, point, "interrupted" if late else "done", late, params), work.rows, params)
    except KeyboardInterrupt as interruption:
        gone = missing(interruption)
        also = f" (torchrun ended this process); {gone}" if gone else ""
        _close(work, point, "interrupted", f"interrupted from outside{also}")
        said = f"interrupted after round {point.round}{also}; {_where(work)}"
        raise Interrupted(said, work.path, point.round) from None
    except Exception as error:
        with suppress(Exception):  # what ended the run is what counts; its last checkpoint is whole in any case
            # A full disk or a lost process is no fault of the run's: whoever asks again may go on with it.
            outside = isinstance(error, CannotWrite | LostRank)
            _close(work, point, "interrupted" if outside else "failed", str(error))
        if isinstance(error, RunFailed):
            raise type(error)(f"{error}; {_where(work)}") from error
        raise


def _advance(work: _Work, point: Point) -> Point:
    """One round: played, evaluated where that is due, and logged as a whole."""
    plan, memories, began = work.plan, work.keeper.memories, time.perf_counter()
    members = plan.members(point.round, point.state)
    cohort = plan.invite(point.round, members, point.accepted, memories)
    rules = plan.stop.min_replies, plan.accept
    played = play(plan.algorithm, work.session, point.state, cohort, memories, point.accepted, *rules)
    void = 0 if played.kept else point.void + bool(cohort)  # where nobody was invited, nobody failed to reply
    in_vain = point.round + 1 == plan.rounds and bool((played.accepted.seen == -1).all())
    if void and (void >= plan.stop.patience or in_vain):
        reason = too_few(point.round + 1, void, plan.stop.min_replies, len(cohort), played.tally.failures)
        raise RunFailed(f"not one reply of the run was accepted; {reason}" if in_vain else reason)
    after = point._replace(
        round=point.round + 1,
        state=played.state,
        accepted=played.accepted,
        totals=point.totals.plus(played.tally.messages),
        void=void,
        seconds=point.seconds + time.perf_counter() - began,
    )
    if plan.evaluate.average is not None:
        average = averaged(point.average, plan.algorithm.model(after.state), plan.evaluate.average)
        after = after._replace(average=average)
    found = _evaluated(work, after)

    def report(client: int) -> Any:
        return memories.reports.recall(client, int(played.accepted.told[client]))

    trained = covered(plan.algorithm, point.state, cohort, played.tally.delivered if played.kept else (), report)
    return _log(work, *found, played, trained)


class _Found(NamedTuple):
    """The run after an evaluation, its columns, a row for every client, and what is told of their sub-models."""

    point: Point
    columns: Row
    clients: list[Row]
    held: list[Row]


def _evaluated(work: _Work, point: Point) -> _Found:
    """An evaluation; empty where none is due."""
    plan, began = work.plan, time.perf_counter()
    if not plan.evaluate.due(point.round, plan.rounds):
        return _Found(point, {}, [], [])
    judge = Judge(plan.task, plan.fleet, work.session, plan.evaluate)
    if hasattr(work.session, "evaluate") and not has_central_data(plan.fleet):
        columns: Row = dict(evaluate_at_sites(plan.algorithm, work.session, plan.evaluate, point))
    else:
        columns = dict(evaluate_server(plan.algorithm, judge, point))
    rows: list[Row] = []
    held: list[Row] = []
    invite = partial(plan.invite, point.round, accepted=point.accepted, memories=work.keeper.memories)
    if plan.evaluate.held is not None:
        own, held = evaluate_held(plan.algorithm, judge, point, plan.evaluate.held, invite)
        columns |= own
    if plan.evaluate.clients:
        own, rows = evaluate_clients(work.session, point.state, plan.fleet.clients, point.round, invite)
        columns |= own
    return _Found(point._replace(evaluating=point.evaluating + time.perf_counter() - began), columns, rows, held)


def _log(
    work: _Work, point: Point, columns: Row, clients: list[Row], held: list[Row], played: Played, trained: Row | None
) -> Point:
    """Writes a round's lines; they count from the moment that the new point is returned."""
    row: Row = {
        "round": point.round,
        **played.columns,
        "replies": len(played.tally.delivered),
        "failures": len(played.tally.failures),
        "bytes_up": point.totals.up,
        "bytes_down": point.totals.down,
        "header_bytes": point.totals.header,
        **columns,
        **({} if work.meter is None else {"epsilon": work.meter.epsilon(point.round)}),
        "wall_seconds": point.seconds,
        "wall_evaluation_seconds": point.evaluating,
    }
    row = finite(row)
    if work.folder is not None:
        work.folder.append(LEDGER, ledger_rows(point.round, played.tally.messages, played.kept))
        work.folder.append(CLIENTS, clients)
        work.folder.append(SUBMODELS, [{"round": point.round, **told} for told in (trained, *held) if told])
        work.folder.append(METRICS, [row])
        point = point._replace(offsets=work.folder.offsets())
    work.rows.append(row)
    return point


def _save(work: _Work, point: Point) -> None:
    """Makes a checkpoint; an engine whose clients keep their memories themselves is told that it is there."""
    work.keeper.save(point)
    saved = getattr(work.session, "saved", None)
    if saved is not None:
        saved(point.round)


def _deliver(work: _Work, params: Params) -> None:
    """The model that a run ends with goes to the clients, where an engine can send it."""
    deliver = getattr(work.session, "deliver", None)
    if deliver is None:
        return
    folder = work.keeper.folder
    try:
        deliver(params, (lambda _: None) if folder is None else folder.delivered)
    except KeyboardInterrupt:
        said = "the run is done, but sites may lack its final model: --resume sends it again"
        raise Interrupted(said, work.path, work.plan.rounds) from None


def _tell(work: _Work, point: Point) -> None:
    if work.watch is not None:
        up, down = point.totals.up, point.totals.down
        work.watch(Progress(point.round, work.plan.rounds, work.rows[-1], up, down, point.seconds))


def _close(work: _Work, point: Point, status: str, reason: str, model: Params | None = None) -> dict[str, Any]:
    """Leaves the folder as it was after the last complete round, saved and summarised; gives the summary."""
    del work.rows[point.round :]
    facts: dict[str, Any] = summary(work.plan, point, work.rows, work.parameters, work.path)
    facts |= {"status": status, "reason": reason}
    if work.meter is not None:
        facts |= {"privacy": work.meter.facts(point.round), "notes": [*facts["notes"], *work.meter.notes(point.round)]}
    if work.folder is not None:
        work.folder.truncate(point.offsets)
        work.keeper.save(point)
        write_results(work.folder, facts, work.rows, model)
    return facts


def _where(work: _Work) -> str:
    """What is kept of a run that ends early."""
    if work.path is None:
        return "nothing was written, since no folder was given"
    if work.keeper.round < 0:
        return "it had not been saved yet"
    return f"its checkpoint of round {work.keeper.round} is whole: fedsep resume {work.path}"
