"""A finished run, read for what can be exported of it: its recipe built again, its model, what its clients reported."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fedsep import checkpoint, tree
from fedsep.checkpoint import Saved
from fedsep.core import Algorithm, Ctx, FedSepError, Params, Task, Tree
from fedsep.plan import task_of
from fedsep.recipes import Experiment, Sources, build, read
from fedsep.recipes.call import Call
from fedsep.round import Accepted
from fedsep.store import stored


@dataclass(frozen=True)
class Finished:
    """A run that is over.

    Attributes:
        folder: The run's.
        summary: Its ``summary.json``.
        experiment: Its recipe, built: data, task, method.
        saved: Its last checkpoint.
        params: The server's model.
        average: Whether that is the exponential average of its parameters.
        model: The block of the recipe that the module was made by.
        member: The clients' architecture that ``params`` are of, in a zoo; None: they are of the server's model.
    """

    folder: Path
    summary: dict[str, Any]
    experiment: Experiment
    saved: Saved
    params: Params
    average: bool
    model: Call
    member: str | None = None

    @property
    def algorithm(self) -> Algorithm[Any, Any]:
        """The method."""
        [method] = self.experiment.algorithms.values()
        return method

    @property
    def task(self) -> Task:
        """The local problem that the method solves, or that of the architecture."""
        if self.member is not None:
            return self.algorithm.view.zoo.members[self.member]  # type: ignore[attr-defined]
        return task_of(self.algorithm, self.experiment.task)

    @property
    def rounds(self) -> int:
        """Rounds that were run."""
        return int(self.summary["rounds"])

    @property
    def state(self) -> Any:
        """What the server kept last."""
        return self.saved.trees["server"]

    def ctx(self, client: int, capability: float | None) -> Ctx:
        """What a client would be told in the next round, with its last report; a capability in place of its own.

        Raises:
            FedSepError: There is no such client.
        """
        clients = self.experiment.federation.clients
        if not 0 <= client < clients:
            raise FedSepError(f"--client: must be one of the run's clients, 0 to {clients - 1} (got {client})")
        saved = self.saved
        accepted, cohort = Accepted(**saved.trees["accepted"]), self.experiment.recipe.options()["cohort"]

        def report(client: int) -> Tree | None:
            return _report(self.folder, saved, client, int(accepted.told[client]))

        [seat] = cohort.invitations(self.experiment.seed, self.rounds, [client], accepted.seen, report)
        return seat.ctx if capability is None else seat.ctx._replace(capability=capability)


def finished(folder: Path, sources: Sources, allow: tuple[str, ...] = (), *, average: bool = False) -> Finished:
    """Reads a run's folder.

    Args:
        folder: The run's.
        sources: Where its data are looked for: their shape and their statistics are needed.
        allow: Packages of the user's own that its recipe may name.
        average: Take the exponential average of the server's parameters in their place.

    Raises:
        FedSepError: There is no finished run, or its recipe cannot be built.
    """
    summary = _summary(folder)
    written = folder / "recipe.yaml"
    if not written.is_file():
        raise FedSepError(
            f"{folder}: {written.name} is missing: a run that was started from Python without a recipe does not say "
            "what its model is; fedsep.models.smaller makes the module of a sub-model in Python"
        )
    saved = checkpoint.load(folder / "checkpoint")
    if saved is None:
        raise FedSepError(f"{folder}: the run's checkpoint is missing, which holds what its server and clients know")
    experiment = build(recipe := read(written, allow=allow, resolved=True), recipe.seeds[0], sources)
    saved = saved._replace(trees=tree.map(_home, saved.trees))
    made = Finished(folder, summary, experiment, saved, {}, average, recipe.model)
    return replace(made, params=_average(made) if average else made.algorithm.model(made.state))


def _home(leaf: Any) -> Any:
    """A run on a GPU is exported where its data and module are: in main memory."""
    return leaf.cpu() if isinstance(leaf, Tensor) else leaf


def _summary(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise FedSepError(f"{folder}: there is no such folder")
    try:
        summary = json.loads((folder / "summary.json").read_bytes())
    except OSError:
        inner = sorted(folder.glob("*/seed*/summary.json")) or sorted(folder.glob("seed*/summary.json"))
        if inner:
            raise FedSepError(f"{folder}: holds several runs: name one of them, such as {inner[0].parent}") from None
        unfinished = (folder / "recipe.yaml").is_file()
        told = f"the run is not finished: fedsep resume {folder} goes on" if unfinished else "holds no run"
        raise FedSepError(f"{folder}: {told}") from None
    except ValueError as error:
        raise FedSepError(f"{folder / 'summary.json'}: not readable as JSON ({error})") from error
    if summary.get("status") != "done":
        raise FedSepError(
            f"{folder}: the run is not finished ({summary.get('status')}): fedsep resume {folder} goes on"
        )
    return summary


def _average(run: Finished) -> Params:
    average = run.saved.trees.get("average")
    if average is None:
        raise FedSepError("--average: the run kept no average of its parameters: evaluate.average asks for one")
    return average


def _report(folder: Path, saved: Saved, client: int, told: int) -> Tree | None:
    """A client's last accepted report, wherever the run keeps its clients' memories."""
    if told < 0:
        return None
    kept = saved.trees["reports"]
    return kept[client] if client in kept else stored(folder / "reports", client, told)
