"""From a finished run to a folder with a module: what is in it, how it is loaded, how far it was checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fedsep.core import FedSepError, Params, Samples
from fedsep.engines.client import predict
from fedsep.export.agreement import EXAMPLES, MASKED, SLICED, Agreement, difference, masked, require
from fedsep.export.finished import Finished, finished
from fedsep.export.held import Held, held
from fedsep.export.program import save_program
from fedsep.export.zoo import with_member
from fedsep.files import write_file, write_json
from fedsep.holding import units_at, units_of
from fedsep.models.exported import Origin, dump, load, scalers
from fedsep.models.smaller import averaged, smaller
from fedsep.recipes import Sources
from fedsep.tasks.ensemble import Ensemble, parted
from fedsep.tasks.pure import Pure

MODEL, PROGRAM, FACTS = "model.safetensors", "model.pt2", "export.json"


class Exported(NamedTuple):
    """What was written.

    Attributes:
        folder: Where.
        line: The line of Python that loads it.
        facts: What ``export.json`` says.
        notes: What could not be done, in words.
    """

    folder: Path
    line: str
    facts: dict[str, Any]
    notes: list[str]


def export(
    folder: str | Path,
    *,
    capability: float | None = None,
    client: int | None = None,
    out: str | Path | None = None,
    average: bool = False,
    sources: Sources = Sources(),
    allow: tuple[str, ...] = (),
) -> Exported:
    """Writes a run's sub-model as a plain smaller module, and checks that it computes what the sub-model computes.

    The folder holds ``model.safetensors``, which ``fedsep.models.load`` makes a module of; ``model.pt2``, the same as a
    program of ``torch.export``, for which torch alone does; ``export.json``: what it is, how inputs are normalised.

    Args:
        folder: Of a finished run.
        capability: Share of the units; None: the client's own where clients keep theirs, else the width that is served.
            Of methods whose clients have models of their own (``feddf``, ``fedet``): theirs, as it was last averaged.
        client: Whose sub-model, by its own plan; None: the server's.
        out: Folder to write; None: in the run's, under ``export``.
        average: Of the exponential average of the server's parameters (``evaluate.average``).
        sources: Where the run's data are looked for.
        allow: Packages of the user's own that the run's recipe may name.

    Raises:
        FedSepError: There is no such run, client or sub-model; the folder holds something else; or the module does not
            agree with the run's model.
    """
    _require_share(capability)
    run = with_member(finished(Path(folder), sources, allow, average=average), capability, client)
    chosen = held(run, capability, client)
    name = _name(chosen.capability, client, average, run.member)
    target = Path(out) if out is not None else run.folder / "export" / name
    _claim(target)
    module, origin = _module(run, chosen.params), _origin(run, chosen.params)
    write_file(target / MODEL, dump(module, origin))
    again = load(target / MODEL, None if origin.ours else _whole(run))
    program, reason = save_program(again, _inputs(run)[:2], target / PROGRAM)
    facts = _facts(run, chosen, client, origin) | {"agreement": _checked(run, chosen, again, program)._asdict()}
    facts |= {"metrics": _metrics(run, chosen.params, client)}
    write_json(target / FACTS, facts)
    notes = [f"{PROGRAM} was not written: torch.export cannot follow the model ({reason})"] if reason else []
    return Exported(target, _line(target / MODEL, origin), facts, notes)


def _require_share(capability: float | None) -> None:
    if capability is not None and not 0 < capability <= 1:
        raise FedSepError(f"--capability: must be > 0 and <= 1 (got {capability:g})")


def _name(capability: float, client: int | None, average: bool, member: str | None) -> str:
    whose = f"{'' if member is None else 'clients_'}{capability:g}"
    return f"{whose}{'' if client is None else f'_client{client}'}{'_average' if average else ''}"


def _claim(target: Path) -> None:
    try:
        taken = target.is_dir() and any(target.iterdir()) and not (target / FACTS).is_file()
        if taken:
            raise FedSepError(f"--out: {target} is not empty and holds no export: choose another folder")
        target.mkdir(parents=True, exist_ok=True)
        for name in (MODEL, PROGRAM, FACTS):
            (target / name).unlink(missing_ok=True)
    except OSError as error:
        raise FedSepError(f"--out: {target} cannot be written ({error.strerror})") from error


def _whole(run: Finished) -> nn.Module:
    """The module that the sub-model's parameters are a part of."""
    model = getattr(run.task, "model", None)
    if not isinstance(model, Pure):
        raise FedSepError(f"{run.folder}: the run's task has no module to be exported (fedsep.tasks gives one)")
    return model.module


def _module(run: Finished, params: Params) -> nn.Module:
    whole = _whole(run)
    if isinstance(run.task, Ensemble):
        return averaged(whole, parted(params).values()).eval()
    return smaller(whole, params).eval()


def _origin(run: Finished, params: Params) -> Origin:
    call, federation = run.model, run.experiment.federation
    given = {name: value for name, value in call.resolved().items() if name not in ("use", "shape", "classes")}
    blocks = len(parted(params)) if isinstance(run.task, Ensemble) else None
    return Origin(
        call.use, given, list(federation.shape), getattr(federation, "classes", None), scalers(_whole(run)), blocks
    )


def _inputs(run: Finished) -> Tensor:
    """Inputs that are compared: of the test set, else of the first client."""
    return _examples(run.experiment.federation.test or run.experiment.federation.shard(0).train).take(slice(None)).x


def _examples(samples: Samples) -> Samples:
    return samples._replace(x=samples.x[:EXAMPLES], y=samples.y[:EXAMPLES])


def _checked(run: Finished, chosen: Held, module: nn.Module, program: nn.Module | None) -> Agreement:
    """The module as it is read back, beside what the run would compute.

    Raises:
        FedSepError: They differ.
    """
    x = _inputs(run)
    with torch.no_grad():
        got, wanted = module(x), run.task.predict(chosen.params, x)
        sliced = require("the sub-model", difference(got, wanted), SLICED, x)
        again = None if program is None else require(
            "what torch.export made of it", difference(program(x), got), SLICED, x)  # fmt: skip
    table = units_of(run.algorithm)
    if run.member is not None or isinstance(run.task, Ensemble) or (table is not None and table.divisors):
        # A zoo's models are parts of none; blocks are left out; a group's statistics count zeroed channels.
        return Agreement(len(x), sliced, None, again)
    zeroed = masked(run.task, _whole(run), run.params, chosen.params, chosen.places, x)
    return Agreement(len(x), sliced, require("the masked model", difference(got, zeroed), MASKED, x), again)


def _facts(run: Finished, chosen: Held, client: int | None, origin: Origin) -> dict[str, Any]:
    samples, table = run.experiment.federation.shard(0).train, units_of(run.algorithm)
    return {
        "run": str(run.folder),
        "method": run.summary["method"],
        "seed": run.experiment.seed,
        "rounds": run.rounds,
        "average": run.average,
        "capability": chosen.capability,
        "chosen": chosen.why,
        "client": client,
        "parameters": sum(part.numel() for name, part in chosen.params.items() if not _statistic(name, run.params)),
        "of": sum(part.numel() for part in run.params.values()),
        "units": None if table is None else units_at(table, run.params, chosen.places),
        "made_from": origin._asdict(),
        "inputs": {
            "shape": list(origin.shape),
            "normalised": "(x - shift) * scale",
            "shift": None if samples.shift is None else samples.shift.tolist(),
            "scale": None if samples.scale is None else samples.scale.tolist(),
        },
    }


def _statistic(name: str, params: Params) -> bool:
    return name not in params


def _metrics(run: Finished, params: Params, client: int | None) -> dict[str, float]:
    """On the test set, or on the client's own test part."""
    federation = run.experiment.federation
    samples = federation.test if client is None else federation.shard(client).test
    if samples is None or not samples.size:
        return {}
    return dict(run.task.metrics(predict(run.task, params, samples), samples.y))


def _line(file: Path, origin: Origin) -> str:
    if origin.ours:
        return f'module = fedsep.models.load("{file.as_posix()}")'
    where, _, name = origin.use.rpartition(".")
    told = ", ".join(f"{key}={value!r}" for key, value in origin.arguments.items())
    shape = tuple(origin.shape)
    whole = f"{name}({shape}, {origin.classes}{', ' if told else ''}{told})"
    return f'from {where} import {name}; module = fedsep.models.load("{file.as_posix()}", {whole})'
