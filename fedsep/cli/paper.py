"""``fedsep paper``: the paper's figures, from the runs behind them to the pictures."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from fedsep.cli import table1
from fedsep.cli.carry_out import How
from fedsep.cli.cells import Folder, carry_out_cells, check, folders
from fedsep.cli.entry import DONE, FAILED
from fedsep.cli.options import Reading, Talk
from fedsep.cli.probe import announce, probes
from fedsep.cli.screen import Screen
from fedsep.cli.sweep import sweep
from fedsep.core import FedSepError
from fedsep.paper import ablation
from fedsep.paper.ablation_page import Ablated, ablation_cells, write_ablation
from fedsep.paper.cells import Cell, Chosen, cells, chosen_by, named, tuning
from fedsep.paper.lines import LINES
from fedsep.paper.page import Drawn, failures, write_figure
from fedsep.paper.page import cells as text_cells
from fedsep.paper.results import Result
from fedsep.paper.scales import SCALES, Scale
from fedsep.paper.table1.rows import ROWS
from fedsep.paper.table1.scales import SCALES as TABLE_SCALES
from fedsep.recipes import Change, Sources
from fedsep.recipes.mistakes import nearest
from fedsep.report import read_run
from fedsep.report.describe import data_name

TITLES = {
    "fig2": "Figure 2: test accuracy against communication",
    "fig3": "Figure 3: test accuracy against communication",
}


def paper(
    figure: str,
    scale: str,
    engine: Sequence[Change],
    sources: Sources,
    talk: Talk,
    out: Path | None,
    *,
    dry_run: bool,
    jobs: int = 1,
    settings: Sequence[str] = (),
    rows: Sequence[str] = (),
) -> int:
    """Runs or resumes a figure's grid, or some rows and settings of the table, and draws it; the exit code."""
    known: dict[str, Any] = {**SCALES, "ablation": ablation.SCALES, "table1": TABLE_SCALES}
    scales = known[_known(figure, known, "paper")]
    chosen = scales[_known(scale, scales, "--scale")]
    for option, given in (("--setting", settings), ("--row", rows)):
        if given and figure != "table1":
            raise FedSepError(f"{option}: only table1 has {option.removeprefix('--')}s (got {figure})")
    out = out or Path("runs") / "paper" / f"{figure}_{chosen.name}"
    how, screen = How(sources, jobs=jobs), Screen(talk)
    try:
        if figure == "table1":
            names = [one.name for one in chosen.settings]
            wanted = frozenset(_known(setting, names, "--setting") for setting in settings or names)
            every = [row.name for row in ROWS]
            own = frozenset(_known(row, every, "--row") for row in rows or every)
            lines = [row for row in ROWS if row.name in own]
            if rows:
                table1.require_rows(chosen, wanted, lines)
            return table1.table1(chosen, wanted, lines, engine, how, screen, out, dry_run=dry_run)
        work = Work(figure, chosen, Reading(f"paper/{figure}", (), ()), tuple(engine), how, screen)
        return (_ablation if figure == "ablation" else _figure)(work, out, dry_run)
    except KeyboardInterrupt:
        if not dry_run:
            parts = "".join(f" --setting {one}" for one in settings) + "".join(f" --row {one}" for one in rows)
            made = "table" if figure == "table1" else "figure"
            screen.warn(f"fedsep paper {figure} --scale {chosen.name}{parts} --out {out} goes on with the {made}")
        raise


@dataclass(frozen=True)
class Work:
    """What is asked for."""

    figure: str
    scale: Scale
    reading: Reading
    engine: tuple[Change, ...]
    how: How
    screen: Screen

    def blocks(self) -> dict[str, Any]:
        """The recipe's methods by name."""
        return named(self.reading.read().resolved()["methods"])

    def changed(self, changes: Sequence[Change] = ()) -> Reading:
        """The recipe with changes; what the command line says has the last word."""
        return Reading(self.reading.name, self.reading.allow, (*changes, *self.engine))

    def folders(self, found: Sequence[Cell], out: Path) -> list[Folder]:
        """The cells' recipes and runs."""
        return folders(self.reading.name, self.engine, found, out)


def _known(word: str, words: Collection[str], what: str) -> str:
    if word in words:
        return word
    meant = nearest(word, words)
    raise FedSepError(
        f"{what}: there are {', '.join(words)} (got {word!r}{f'; did you mean {meant}?' if meant else ''})"
    )


def _ablation(work: Work, out: Path, dry_run: bool) -> int:
    [block] = work.blocks().values()
    found = work.folders(ablation.cells(work.scale, block), out)
    if dry_run:
        announce(work.screen, found, probes(work.screen, found, work.how.sources), work.how.jobs)
        return DONE
    check(found, work.how.sources)
    code = carry_out_cells(work.screen, found, work.how)
    runs = {one.cell.folder: [read_run(job.folder) for job in one.jobs] for one in found}
    shown = Ablated(work.scale, {where: [r for r in own if r.status == "done"] for where, own in runs.items()})
    failed = failures([(str(run.folder), run.reason) for own in runs.values() for run in own if run.status == "failed"])
    work.screen.result(f"\nAblations of {ablation.METHOD}; scale {work.scale.told}")
    work.screen.result(_table(ablation_cells(shown)))
    return max(code, _conclude(work.screen, write_ablation(shown, failed, out), failed))


def _figure(work: Work, out: Path, dry_run: bool) -> int:
    blocks = work.blocks()
    if dry_run:
        return _announce(work, blocks, out)
    check(work.folders(cells(work.scale, LINES, blocks, {}), out), work.how.sources)
    chosen = _tuned(work, blocks, out)
    found = work.folders(cells(work.scale, LINES, blocks, chosen), out)
    code = carry_out_cells(work.screen, found, work.how)
    return max(code, _draw(work, found, chosen, out))


def _announce(work: Work, blocks: dict[str, Any], out: Path) -> int:
    """What would be run; nothing is written."""
    scale = work.scale
    there = {split: out / tuning(scale, LINES, blocks, split)[0].folder / "sweep.json" for split in scale.splits}
    tuned = all(file.is_file() for file in there.values())
    chosen = chosen_by({split: _read(file) for split, file in there.items()}, LINES) if tuned else {}
    found = work.folders(cells(scale, LINES, blocks, chosen), out)
    known = probes(work.screen, found, work.how.sources, scale.tune_at)
    if tuned:
        announce(work.screen, found, known, work.how.jobs, "Settings are chosen.")
        return DONE
    tried = [line.name for line in LINES if not isinstance(line.tries, str)]
    times = scale.tries * len(scale.splits)
    told = (
        f"First {len(tried) * times} runs of {scale.tune_rounds} rounds at p = {scale.tune_at:,} that choose settings "
        f"on validation data: {scale.tries} for each of {', '.join(tried)} on each split."
    )
    at = {name: one for one in found for name in one.cell.lines}
    seconds = times * sum(known.seconds(at[name], name, scale.tune_rounds) for name in tried)
    announce(work.screen, found, known, work.how.jobs, told, seconds)
    return DONE


def _tuned(work: Work, blocks: dict[str, Any], out: Path) -> Chosen:
    """Settings chosen on validation data, split by split."""
    sweeps: dict[str, dict[str, Any]] = {}
    for split in work.scale.splits:
        cell, grid = tuning(work.scale, LINES, blocks, split)
        work.screen.note(f"settings for {split}:")
        to = out / cell.folder
        sweep(work.changed(cell.changes), grid, "validation", work.how.sources, work.screen.talk, to, work.how.jobs)
        sweeps[split] = _read(to / "sweep.json")
    return chosen_by(sweeps, LINES)


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def _draw(work: Work, found: Sequence[Folder], chosen: Chosen, out: Path) -> int:
    results, failed = _results(found)
    if not results:
        raise FedSepError(f"{out}: every run failed: there is nothing to draw")
    title = f"{TITLES[work.figure]}, {data_name(results[0].runs[0])}"
    drawn = Drawn(work.figure, title, work.scale, results, chosen, failures(failed))
    work.screen.result(f"\n{drawn.title}; scale {work.scale.told}")
    work.screen.result(_table(text_cells(drawn)))
    return _conclude(work.screen, write_figure(drawn, out), drawn.failed)


def _conclude(screen: Screen, files: Sequence[Path], failed: Sequence[str]) -> int:
    for file in files:
        screen.result(str(file))
    for failure in failed:
        screen.warn(failure)
    return FAILED if failed else DONE


def _results(found: Sequence[Folder]) -> tuple[list[Result], list[tuple[str, str]]]:
    """What is done, line by line; and what failed, with the reason."""
    results: list[Result] = []
    failed: list[tuple[str, str]] = []
    for line in LINES:
        for folder in sorted(found, key=lambda one: (one.cell.split, one.cell.p or 0)):
            own = [read_run(job.folder) for job in folder.jobs if job.method == line.name and job.folder.is_dir()]
            failed += [(str(run.folder), run.reason) for run in own if run.status == "failed"]
            done = tuple(run for run in own if run.status == "done")
            if done:
                results.append(Result(line, folder.cell.split, folder.cell.p, done))
    return results, failed


def _table(rows: Sequence[dict[str, str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in rows[0]:
        table.add_column(
            name, justify="left" if name in ("method", "split", "varied", "value") else "right", overflow="fold"
        )
    for row in rows:
        table.add_row(*row.values())
    return table
