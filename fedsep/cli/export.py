"""``fedsep export``: a run's sub-model as a module of its own."""

from __future__ import annotations

from pathlib import Path

from fedsep.cli.entry import DONE
from fedsep.cli.options import Talk
from fedsep.cli.screen import Screen
from fedsep.recipes import Sources


def export(
    folder: Path,
    capability: float | None,
    client: int | None,
    out: Path | None,
    sources: Sources,
    talk: Talk,
    allow: tuple[str, ...],
    *,
    average: bool,
) -> int:
    """Exports and says how to load it; the exit code."""
    from fedsep.export import export as write

    screen = Screen(talk)
    done = write(folder, capability=capability, client=client, out=out, average=average, sources=sources, allow=allow)
    facts = done.facts
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in facts["metrics"].items())
    where = "test data" if client is None else f"the test data of client {client}"
    agreement = facts["agreement"]
    screen.note(
        f"capability {facts['capability']:g} ({facts['chosen']}): {facts['parameters']:,} of {facts['of']:,} parameters"
    )
    if metrics:
        screen.note(f"on {where}: {metrics}")
    told = [f"{agreement['sliced']:.0e} from the slice"]
    told += [] if agreement["masked"] is None else [f"{agreement['masked']:.0e} from the masked whole model"]
    screen.note(
        f"outputs on {agreement['examples']} inputs differ by at most {' and '.join(told)}, of the largest output"
    )
    for note in done.notes:
        screen.warn(note)
    screen.result(str(done.folder))
    screen.result(f"import fedsep; {done.line}")
    if not done.notes:
        screen.result(f'import torch; module = torch.export.load("{(done.folder / "model.pt2").as_posix()}").module()')
    return DONE
