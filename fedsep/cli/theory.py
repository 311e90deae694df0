"""``fedsep theory``: the predictions of section 3.1 beside measurements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from fedsep.cli.entry import DONE, FAILED
from fedsep.cli.options import Talk
from fedsep.cli.screen import Screen
from fedsep.core import FedSepError
from fedsep.recipes import Change, find
from fedsep.recipes.mistakes import nearest
from fedsep.report.page import write_text
from fedsep.theory import EXPERIMENTS
from fedsep.theory.page import HEAD, rows, theory_page
from fedsep.theory.recipe import read
from fedsep.theory.record import FILE, Experiment, Record, add, opened, todo, verdict


def theory(
    recipe: str,
    only: Sequence[str],
    changes: Sequence[Change],
    out: Path | None,
    talk: Talk,
    *,
    overwrite: bool = False,
) -> int:
    """Carries out what the folder does not have yet, writes ``theory.json`` and ``theory.html``; the exit code.

    Raises:
        FedSepError: There is no such recipe or experiment, or the folder holds something else.
    """
    file, chosen = find(recipe), _chosen(only)
    scale, folder, screen = read(file, changes), out or Path("runs/theory") / file.stem, Screen(talk)
    record = opened(folder, scale, afresh=overwrite)
    left = todo(record, chosen, scale)
    skipped = len(chosen) * len(scale.seeds) - len(left)
    if skipped:
        screen.note(
            f"{folder / FILE} has {skipped} of {len(chosen) * len(scale.seeds)} already; --overwrite starts anew"
        )
    for number, (experiment, seed) in enumerate(left, 1):
        found = add(record, folder, experiment, scale, seed)
        told = "holds" if found.holds else "FAILS"
        screen.note(f"{number}/{len(left)} · {experiment.__name__} · seed {seed} · {len(found.checks)} checks · {told}")
    record["experiments"] = _ordered(record)
    page = write_text(folder / "theory.html", theory_page(record))
    screen.result(_table(record))
    screen.result(f"{folder / FILE}\n{page}")
    return _concluded(screen, record)


def _chosen(names: Sequence[str]) -> list[Experiment]:
    """The experiments named; all if none is."""
    known = {one.__name__: one for one in EXPERIMENTS}
    for name in names:
        if name not in known:
            meant = nearest(name, known)
            hint = f"; did you mean {meant}?" if meant else ""
            raise FedSepError(f"--only: there is no experiment {name!r}{hint} (there are {', '.join(known)})")
    return [one for name, one in known.items() if not names or name in names]


def _ordered(record: Record) -> Record:
    have = record["experiments"]
    return {one.__name__: have[one.__name__] for one in EXPERIMENTS if one.__name__ in have}


def _table(record: Record) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for at, name in enumerate(HEAD):
        table.add_column(name, justify="left" if at < 2 else "right", overflow="fold")
    for row in rows(record):
        table.add_row(*row)
    return table


def _concluded(screen: Screen, record: Record) -> int:
    """Names what does not hold."""
    failed = [(name, what) for name, entry in record["experiments"].items() for what in verdict(entry)["failed"]]
    for name, what in failed:
        screen.warn(f"{name}: does not hold: {what}")
    return FAILED if failed else DONE
