"""``fedsep paper table1``: the runs behind the paper's Table 1, then the table."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table

from fedsep.cli.carry_out import How
from fedsep.cli.cells import Folder, carry_out_cells, check, folders
from fedsep.cli.entry import DONE, FAILED
from fedsep.cli.options import Reading
from fedsep.cli.other_rates import set_aside
from fedsep.cli.probe import announce, probes
from fedsep.cli.rates import Trying, choose, seen
from fedsep.cli.screen import Screen
from fedsep.cli.verdict import OVER
from fedsep.core import FedSepError
from fedsep.files import write_file
from fedsep.paper.cells import Cell, named
from fedsep.paper.page import failures
from fedsep.paper.table1 import costs
from fedsep.paper.table1.grid import Part, cells, chosen, parts, tuning
from fedsep.paper.table1.page import Drawn, picked, tuned, write_table
from fedsep.paper.table1.results import Result, lost, short_cells
from fedsep.paper.table1.rows import ROWS, Row
from fedsep.paper.table1.settings import Scale
from fedsep.plan import task_of
from fedsep.recipes import Change, build
from fedsep.report import read_run
from fedsep.report.reading import RunData
from fedsep.report.wording import plural

RECIPE = "paper/table1"


@dataclass(frozen=True)
class Work:
    """What is asked for; ``wanted`` are names of settings."""

    scale: Scale
    wanted: frozenset[str]
    engine: tuple[Change, ...]
    how: How
    screen: Screen
    rows: tuple[Row, ...] = ROWS

    def blocks(self) -> dict[str, Any]:
        """The recipe's methods by name."""
        return named(Reading(RECIPE, (), ()).read().resolved()["methods"])

    def folders(
        self, blocks: Mapping[str, Any], rates: Mapping[tuple[str, str], float], out: Path
    ) -> dict[str, tuple[Part, Folder]]:
        """Parts with their recipes and runs, by folder."""
        every = cells(self.scale, blocks, rates, self.rows)
        pairs = [(part, cell) for part, cell in every if part.setting.name in self.wanted]
        found = folders(RECIPE, self.engine, [cell for _, cell in pairs], out)
        return {part.folder: (part, one) for (part, _), one in zip(pairs, found, strict=True)}

    def tuning(self, blocks: Mapping[str, Any]) -> list[tuple[Part, Cell, list[str]]]:
        """The sweeps that choose the settings' learning rates."""
        return [found for found in tuning(self.scale, blocks, self.rows) if found[0].setting.name in self.wanted]

    def trying(self, tried: tuple[Part, Cell, list[str]], out: Path) -> Trying:
        """A part's learning rates, the recipe of the runs that try them, and their folder."""
        part, cell, grid = tried
        return Trying(part, Reading(RECIPE, (), (*cell.changes, *self.engine)), grid, out / cell.folder)


def table1(
    scale: Scale,
    wanted: frozenset[str],
    rows: Sequence[Row],
    engine: Sequence[Change],
    how: How,
    screen: Screen,
    out: Path,
    *,
    dry_run: bool,
) -> int:
    """Runs or resumes the rows and settings that are wanted, then writes and prints the table; the exit code."""
    work = Work(scale, wanted, tuple(engine), how, screen, tuple(rows))
    blocks = work.blocks()
    if dry_run:
        return _announce(work, blocks, out)
    check([one for _, one in work.folders(blocks, {}, out).values()], how.sources)
    rates = _tuned(work, blocks, out)
    found = work.folders(blocks, rates, out)
    for told in set_aside([one for _, one in found.values()], out):
        screen.note(told)
    code = carry_out_cells(screen, [one for _, one in found.values()], how)
    return max(code, _conclude(work, found, rates, out))


def require_rows(scale: Scale, wanted: frozenset[str], rows: Sequence[Row]) -> None:
    """Refuses rows that none of the wanted settings has.

    Raises:
        FedSepError: There are some.
    """
    had = {row.name for part in parts(scale, rows) if part.setting.name in wanted for row in part.rows}
    if lacking := [row.name for row in rows if row.name not in had]:
        raise FedSepError(f"--row: {', '.join(lacking)} is not run in {', '.join(sorted(wanted))}")


def _announce(work: Work, blocks: Mapping[str, Any], out: Path) -> int:
    """What would be run, with learning rates as far as they are chosen; nothing is written."""
    sweeps = [(tried[0], seen(work.trying(tried, out))) for tried in work.tuning(blocks)]
    rates = {(part.setting.name, row): rate for part, one in sweeps for row, settings in one.chosen.items()
             for rate in settings.values()}  # fmt: skip
    found = work.folders(blocks, rates, out)
    own = [one for _, one in found.values()]
    known, left, seconds = probes(work.screen, own, work.how.sources), 0, 0.0
    for part, one in sweeps:
        folder = found[part.folder.removeprefix("tuning/")][1]
        left += sum(one.left.values())
        seconds += sum(n and n * known.seconds(folder, row, work.scale.tune_rounds) for row, n in one.left.items())
    announce(work.screen, own, known, work.how.jobs, _told(work.scale, len(sweeps), left), seconds)
    work.screen.result(
        "Every client is taken to be full-size, and the server's work to grow with them; runs take less."
    )
    return DONE


def _told(scale: Scale, sweeps: int, left: int) -> str:
    if not sweeps:
        return "Nothing is tuned."
    rounds = f"{plural(left, 'run')} of {scale.tune_rounds} rounds"
    more = any(setting.beyond for setting in scale.settings)
    rest = ", and one more where the best rate is the lowest or the highest that was tried" if more else ""
    return f"First {rounds} that choose learning rates{rest}." if left else "Learning rates are chosen."


def _tuned(work: Work, blocks: Mapping[str, Any], out: Path) -> dict[tuple[str, str], float]:
    """Learning rates chosen on validation data."""
    sweeps: list[tuple[Part, dict[str, Any]]] = []
    for tried in work.tuning(blocks):
        work.screen.note(f"learning rates in {tried[0].setting.words}:")
        sweeps.append((tried[0], choose(work.trying(tried, out), work.how, work.screen.talk)))
    return chosen(sweeps)


def _conclude(
    work: Work, found: Mapping[str, tuple[Part, Folder]], rates: Mapping[tuple[str, str], float], out: Path
) -> int:
    results: list[Result] = []
    failed: list[tuple[str, str]] = []
    missing: list[str] = []
    for part, one in found.values():
        runs = [read_run(job.folder) for job in one.jobs if job.folder.is_dir()]
        failed += [(str(run.folder), run.reason) for run in runs if run.status == "failed"]
        over = {run.folder for run in runs if run.status in OVER}
        missing += [str(job.folder) for job in one.jobs if job.folder not in over]
        results += _results(work, part, one, [run for run in runs if run.status == "done"])
    if not results:
        raise FedSepError(f"{out}: no run is done: there is nothing to show")
    notes = [*failures(failed), *(f"{each}: not done" for each in missing), *lost(results)]
    drawn = Drawn(work.scale, results, rates, notes)
    for setting in work.scale.settings:
        if rows := [short_cells(result) for result in drawn.of(setting)]:
            work.screen.result(f"\n{setting.words}; {work.scale.told.partition(':')[0]}")
            work.screen.result(_table(rows))
            work.screen.result(picked(drawn, setting))
    work.screen.result(
        "Per cent; final, best: at full width; full, served, averaged: means of the last ten evaluations; bytes, MACs: "
        "of the strongest and the weakest client in a round; published: other protocol where noted. " + tuned(drawn)
    )
    for file in write_table(drawn, out):
        work.screen.result(str(file))
    for failure in drawn.failed:
        work.screen.warn(failure)
    return FAILED if failed else DONE


def _results(work: Work, part: Part, one: Folder, runs: Sequence[RunData]) -> list[Result]:
    cohort, macs = one.recipe.options()["cohort"], _macs(work, part, one)
    made: list[Result] = []
    for row in part.rows:
        own = tuple(run for run in runs if run.method == row.name)
        if own:
            sent = costs.bytes_by_level(own, cohort, part.setting.clients)
            made.append(Result(row, part.setting, own, sent, macs[row.name]))
    return made


def _macs(work: Work, part: Part, one: Folder) -> dict[str, dict[float, float]]:
    """Counted once, then read."""
    file = one.path / "macs.json"
    known = costs.parse(file.read_text(encoding="utf-8")) if file.is_file() else {}
    left = frozenset(row.name for row in part.rows if row.name not in known)
    if not left:
        return known
    work.screen.note(f"counting multiply-adds for {one.path}")
    experiment = build(one.recipe, one.recipe.seeds[0], work.how.sources, left)
    shard = experiment.federation.shard(0)
    with _one_thread():
        for name, method in experiment.algorithms.items():
            start = method.init(task_of(method, experiment.task).init())
            known[name] = costs.macs_by_level(method, start, shard, part.setting.capabilities)
    write_file(file, costs.dump(known).encode())
    return known


@contextmanager
def _one_thread() -> Generator[None]:
    """Counting slows every operation down, so that threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _table(rows: Sequence[Mapping[str, str]]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in rows[0]:
        made.add_column(name, justify="left" if name == "method" else "right", overflow="fold")
    for row in rows:
        made.add_row(*row.values())
    return made
