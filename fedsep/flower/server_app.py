"""The server's end in Flower's terms: a ServerApp whose main function is ``fedsep run`` over Flower's grid."""

from __future__ import annotations

import os
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.app import Context  # pyright: ignore[reportMissingImports]
from flwr.serverapp import Grid, ServerApp  # pyright: ignore[reportMissingImports]

from fedsep import pack
from fedsep.cli.carry_out import Todo
from fedsep.cli.entry import guarded
from fedsep.cli.options import Talk, machine
from fedsep.cli.run import resume, run
from fedsep.core import FedSepError, Params
from fedsep.files import write_json
from fedsep.flower.announce import announcement
from fedsep.flower.lock import holding
from fedsep.flower.order import LOG, VARIABLE, Order, order_at
from fedsep.folder import open_folder
from fedsep.recipes.build import Sources, build

app = ServerApp()


@app.main()  # pyright: ignore[reportUntypedFunctionDecorator]
def main(grid: Grid, context: Context) -> None:
    """Runs the order that this process's environment names over ``grid``; how it ended is in the order's folder."""
    order = order_at(Path(os.environ[VARIABLE]))
    with holding(order.process):  # by which the command sees that this process is there
        order.process.write_text(str(os.getpid()), encoding="utf-8")
        with (
            open(order.folder / LOG, "w", buffering=1, encoding="utf-8") as log,
            redirect_stdout(log),
            redirect_stderr(log),
        ):
            code = guarded(lambda: carried_out(order, grid))
        write_json(order.outcome, {"code": code})


def carried_out(order: Order, grid: Any) -> int:
    """Runs the recipe's methods and seeds one after the other; the exit code.

    Raises:
        FedSepError: The recipe, the data or the folder cannot be used.
    """
    sources, talk = machine(None if order.data_dir is None else Path(order.data_dir), False, "cpu"), Talk()

    def engine(todo: Todo) -> Any:
        told = announcement(todo.recipe.single(todo.job.method, todo.job.seed))
        return connected(todo.recipe.engine.build({}), grid, told)

    def again(todo: Todo) -> None:
        deliver_again(todo, engine(todo), sources)

    if order.resume:
        return resume(Path(order.out), order.allow, sources, talk, made=engine, changes=order.lasting(), again=again)
    how = order.reading()
    return run(how, sources, talk, Path(order.out), overwrite=order.overwrite, dry_run=False, made=engine)


def deliver_again(todo: Todo, engine: Any, sources: Sources) -> None:
    """Sends the model of a run that is finished to the sites that call now: one may have been away when it ended.

    A run's files do not say how its sites are called: of those that do not call, the log names the clients.

    Raises:
        FedSepError: No site calls, or the data or the model cannot be read.
    """
    recipe, job = todo
    model = _model_at(job.folder / "model.safetensors")
    experiment = build(recipe, job.seed, sources, frozenset({job.method}))
    with closing(open_folder(job.folder, resume=True, overwrite=False)) as folder:
        session = engine.open(experiment.algorithms[job.method], experiment.task, experiment.federation, _nothing)
        with closing(session):
            session.deliver(model, folder.delivered)


def _model_at(file: Path) -> Params:
    try:
        return pack.load_named(file.read_bytes())
    except (OSError, pack.Damaged) as error:
        raise FedSepError(
            f"{file}: the model cannot be sent again: {getattr(error, 'strerror', '') or error}"
        ) from error


def _nothing(client: int, seen: int) -> None:
    """The server has no client's memory."""


def connected(engine: Any, grid: Any, told: dict[str, Any]) -> Any:
    """The engine over real sites, inside of faults if the recipe asks for some."""
    if hasattr(engine, "faults"):
        return replace(engine, engine=connected(engine.engine, grid, told))
    return replace(engine, grid=grid, announcement=told)
