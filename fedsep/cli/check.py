"""``fedsep check``: a recipe validated and resolved, its traffic and memory measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from rich import box
from rich.table import Table

from fedsep import tree
from fedsep.cli.entry import BAD_INPUT, DONE
from fedsep.cli.measure import Cost, measure
from fedsep.cli.options import Reading, Talk
from fedsep.cli.rehearse import REMOTE, Peak, rehearse
from fedsep.cli.screen import Screen
from fedsep.core import HEADER_BYTES, FedSepError
from fedsep.data.known import FETCH
from fedsep.data.sites import Sites
from fedsep.holding import rounded_up
from fedsep.pairs import findings
from fedsep.plan import task_of
from fedsep.recipes import Experiment, Mistake, Recipe, RecipeError, Sources, build, find
from fedsep.recipes.text import dump, file_tree
from fedsep.report.wording import bytes_text
from fedsep.theory.recipe import is_theory
from fedsep.theory.recipe import read as read_theory


def check(readings: Sequence[Reading], sources: Sources, rehearsal: bool = False) -> int:
    """Checks recipes one after the other; the exit code.

    Args:
        readings: Of the recipes.
        sources: Where data are looked for.
        rehearsal: Whether some rounds are played to tell the peak of memory, which takes as much.
    """
    screen, code = Screen(Talk()), DONE
    for reading in readings:
        try:
            _check(screen, reading, sources, rehearsal)
        except FedSepError as error:
            screen.warn(str(error))
            code = BAD_INPUT
    return code


def _check(screen: Screen, reading: Reading, sources: Sources, rehearsal: bool) -> None:
    file = find(reading.name)
    if is_theory(file_tree(file)):
        scale = read_theory(file, reading.changes)
        screen.result(f"# {file}: a recipe of fedsep theory\n{dump({'theory': asdict(scale)})}")
        return
    recipe = _read(reading, sources)
    experiment = build(recipe, recipe.seeds[0], sources)
    if isinstance(experiment.federation, Sites):
        screen.note("the data lie at their sites: what follows was measured on blank examples")
        experiment = replace(experiment, federation=experiment.federation.rehearsal())
    for name, algorithm in experiment.algorithms.items():
        for found in findings(algorithm, task_of(algorithm, experiment.task).init()):
            screen.warn(f"methods.{name}: {found.text}")
        for told in rounded_up(algorithm, experiment.recipe.settings["cohort"].build({}).capabilities):
            screen.note(f"methods.{name}: {told}")
    costs = _costs(experiment)
    parameters = tree.size(experiment.task.init())
    screen.result(f"# {recipe.file}: every default written out")
    screen.result(dump(recipe.resolved()))
    screen.result(experiment.federation.describe())
    screen.result(f"{parameters:,} parameters\n")
    screen.result("Payload bytes per client and round, measured on a tiny run:")
    screen.result(traffic_table(costs))
    screen.result(f"and a header of {HEADER_BYTES} bytes on every message.\n")
    screen.result("Tensors that are held, measured on the same run:")
    for line in _memory(experiment, costs):
        screen.result(line)
    screen.result("")
    if isinstance(experiment.federation, Sites):
        screen.result("Peak memory is that of each site's own process, and is not told here.")
    elif rehearsal:
        screen.result(peaks_told({name: rehearse(recipe, name, sources) for name in experiment.algorithms}))
        if recipe.engine.use in REMOTE:
            screen.result(f"This is one process with the clients' part in it; {recipe.engine.use} has several.")
    else:
        screen.result("--memory tells the peak of memory in all, from rounds that it plays.")
    screen.result("")


def _read(reading: Reading, sources: Sources) -> Recipe:
    """The recipe; where only some methods are written wrong, what is wrong with the others is found, too."""
    try:
        return reading.read()
    except RecipeError as error:
        if error.rest is None:
            raise
        try:
            build(error.rest, error.rest.seeds[0], replace(sources, download=False))  # a typo is told before that
        except RecipeError as more:
            # What is to be downloaded once the typo is mended is not missing.
            also = [mistake for mistake in more.mistakes if not (sources.download and FETCH in mistake.reason)]
            raise error.rest.error([*error.mistakes, *also]) from error
        raise


def _costs(experiment: Experiment) -> dict[tuple[str, float], Cost]:
    """The cost of every method at every capability of the cohort."""
    recipe, found, mistakes = experiment.recipe, dict[tuple[str, float], Cost](), list[Mistake]()
    capabilities: tuple[float, ...] = recipe.settings["cohort"].build({}).capabilities
    for name, algorithm in experiment.algorithms.items():
        for capability in dict.fromkeys(capabilities):
            batch, task = _batch(recipe.methods[name].resolved(), experiment), task_of(algorithm, experiment.task)
            try:
                found[name, capability] = measure(algorithm, task, experiment.federation, capability, batch)
            except FedSepError as error:
                mistakes.append(Mistake(f"methods.{name}", str(error)))
    if mistakes:
        raise recipe.error(mistakes)
    return found


def _batch(block: Mapping[str, Any], experiment: Experiment) -> int:
    """Examples in a method's minibatch: at most what client 0 has."""
    size = experiment.federation.shard(0).train.size
    given = block.get("batch_size")
    return min(given, size) if isinstance(given, int) else size


def traffic_table(costs: Mapping[tuple[str, float], Cost]) -> Table:
    """Measured payload bytes: of every round, or of those that have the same."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("method", "capability", "round", "up", "down"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for (name, capability), cost in costs.items():
        for up, down in dict.fromkeys(cost.rounds):
            same = [number for number, traffic in enumerate(cost.rounds, start=1) if traffic == (up, down)]
            table.add_row(name, f"{capability:g}", _label(same, len(cost.rounds)), f"{up:,}", f"{down:,}")
    return table


def _label(same: list[int], rounds: int) -> str:
    """Rounds in which the same is sent."""
    if len(same) == rounds:
        return "every"
    return "later" if same == list(range(2, rounds + 1)) else ", ".join(map(str, same))


def _memory(experiment: Experiment, costs: Mapping[tuple[str, float], Cost]) -> list[str]:
    lines = [f"  data: {_parts(_data(experiment.federation))}"]
    for name in experiment.algorithms:
        cost = max((c for (method, _), c in costs.items() if method == name), key=lambda c: sum(c.client.values()))
        lines += [f"  {name}, server: {_parts(cost.server)}", f"  {name}, client: {_parts(cost.client)}"]
    return lines


def peaks_told(peaks: Mapping[str, Peak | None]) -> Table | str:
    """Peaks of main memory by method."""
    if any(peak is None for peak in peaks.values()):
        return "Peak memory: this system does not tell what a process takes (Linux does)."
    title = "Peak of main memory, interpreter, libraries and data included, as seen in the first rounds:"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="")
    for name in ("method", "first process", "others, each", "all processes"):
        table.add_column(name, justify="left" if name == "method" else "right")
    for name, peak in peaks.items():
        assert peak is not None
        others = f"{len(peak.others)} x {bytes_text(max(peak.others))}" if peak.others else "none"
        table.add_row(name, bytes_text(peak.first), others, bytes_text(peak.together))
    return table


def _data(federation: Any) -> dict[str, int]:
    sets = {name: getattr(federation, name, None) for name in ("train", "validation", "public", "test")}
    return {
        name: sum(part.numel() * part.element_size() for part in (samples.x, samples.y))
        for name, samples in sets.items()
        if samples is not None
    }


def _parts(parts: Mapping[str, int]) -> str:
    listed = " + ".join(f"{bytes_text(size)} {name}" for name, size in parts.items() if size)
    return f"{bytes_text(sum(parts.values()))} = {listed}"
