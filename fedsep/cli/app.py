"""The commands and their options; what they do is imported when they are called, so that ``--help`` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fedsep.cli import options as o
from fedsep.cli.flower import app as flower

app = typer.Typer(
    name="fedsep",
    help="Federated learning with communication and learning kept apart: decode, learn, encode.",
    epilog="Exit codes: 0 done, 1 a run failed, 2 bad input, 130 interrupted. --debug shows tracebacks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"fedsep {version('fedsep')}")
        raise typer.Exit


@app.callback()
def fedsep(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Federated learning with communication and learning kept apart: decode, learn, encode."""


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A YAML file or a shipped recipe's name.")] = "quickstart",
    changes: o.Set = None,
    out: o.Out = None,
    data_dir: o.DataDir = None,
    download: o.Download = False,
    engine: o.Engine = None,
    device: o.Device = "cpu",
    jobs: o.Jobs = 1,
    seed: o.Seed = None,
    seeds: o.Seeds = None,
    allow: o.Allow = None,
    overwrite: o.Overwrite = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show what would run, write nothing.")
    ] = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
) -> int:
    """Run a recipe: every method, every seed; then compare them and write a report."""
    from fedsep.cli.run import run as start

    return start(
        o.reading(recipe, changes, engine, seed, seeds, allow, jobs),
        o.machine(data_dir, download, device),
        o.talk(quiet, json),
        out,
        overwrite=overwrite,
        dry_run=dry_run,
        jobs=jobs,
    )


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or the results folder above it.")],
    data_dir: o.DataDir = None,
    download: o.Download = False,
    engine: o.Engine = None,
    device: o.Device = "cpu",
    jobs: o.Jobs = 1,
    allow: o.Allow = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
) -> int:
    """Continue what was interrupted, from the last checkpoint; start what was not started."""
    from fedsep.cli.run import resume as start

    sources = o.machine(data_dir, download, device)
    return start(folder, tuple(allow or ()), sources, o.talk(quiet, json), engine=engine, jobs=jobs)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs, or folders that hold runs.")],
    to: Annotated[Path | None, typer.Option("--to", help="File to write (default: report.html in the folder).")] = None,
) -> int:
    """Write one HTML page about runs: curves, tables, recipe, environment."""
    from fedsep.cli.results import report as start

    return start(folders, to)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs, or folders that hold runs.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON line per finished run.")] = False,
) -> int:
    """Compare runs in a table: accuracy, bytes, time; mean and standard deviation over seeds."""
    from fedsep.cli.results import compare as start

    return start(folders, json)


@app.command()
def frontier(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs of one task, or folders of them.")],
    targets: Annotated[str | None, typer.Option(metavar=".95,.97,.98", help="Accuracies to tell the bytes to.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Page to write, its picture beside it.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON line per setting.")] = False,
) -> int:
    """Draw accuracy against bytes per client over all methods, with the Pareto set; tell the bytes to targets."""
    from fedsep.cli.frontier import show_frontier as start

    return start(folders, targets, to, json)


@app.command()
def paper(
    figure: Annotated[str, typer.Argument(help="fig2 (MNIST), fig3 (CIFAR-10), table1 or ablation.")],
    scale: Annotated[
        str, typer.Option(help="smoke (seconds), small (hours on two cores), paper (all), wide (of table1, for a GPU).")
    ] = "small",
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder (default: runs/paper/FIGURE_SCALE).")
    ] = None,
    data_dir: o.DataDir = None,
    download: o.Download = False,
    engine: o.Engine = None,
    device: o.Device = "cpu",
    jobs: o.Jobs = 1,
    setting: Annotated[
        list[str] | None, typer.Option("--setting", help="Of table1: this setting alone. Repeatable.")
    ] = None,
    row: Annotated[list[str] | None, typer.Option("--row", help="Of table1: this row alone. Repeatable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs with bytes and estimated time.")] = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
) -> int:
    """Run or resume the runs behind a figure or table of the paper, then draw it; what is finished is used."""
    from fedsep.cli.paper import paper as start

    changes = o.reading("", None, engine, None, None, None, jobs).changes
    sources = o.machine(data_dir, download, device)
    told = o.talk(quiet, json)
    parts = {"settings": setting or (), "rows": row or ()}
    return start(figure, scale, changes, sources, told, out, dry_run=dry_run, jobs=jobs, **parts)


@app.command()
def check(
    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE...", help="YAML files or shipped recipes' names.")],
    changes: o.Set = None,
    data_dir: o.DataDir = None,
    download: o.Download = False,
    engine: o.Engine = None,
    allow: o.Allow = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Play up to three rounds of each method and tell the peak of memory.")
    ] = False,
) -> int:
    """Validate recipes; show them resolved, with measured bytes per client and round, and memory."""
    from fedsep.cli.check import check as start

    readings = [o.reading(recipe, changes, engine, None, None, allow) for recipe in recipes]
    return start(readings, o.machine(data_dir, download, "cpu"), memory)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's folder.")],
    capability: Annotated[
        float | None,
        typer.Option(help="Share of the model (default: the served width, or what the client can hold)."),
    ] = None,
    client: Annotated[
        int | None, typer.Option(help="Take this client's own sub-model (default: the server's).")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write (default: RUN/export/CAPABILITY).")] = None,
    average: Annotated[bool, typer.Option("--average", help="Of the average of the server's parameters.")] = False,
    data_dir: o.DataDir = None,
    download: o.Download = False,
    allow: o.Allow = None,
    quiet: o.Quiet = False,
) -> int:
    """Write a run's sub-model as a plain smaller module, and the line that loads it."""
    from fedsep.cli.export import export as start

    sources, talk = o.machine(data_dir, download, "cpu"), o.talk(quiet, False)
    return start(folder, capability, client, out, sources, talk, tuple(allow or ()), average=average)


@app.command()
def sweep(
    recipe: Annotated[str, typer.Argument(help="A YAML file or a shipped recipe's name.")],
    grid: Annotated[
        list[str], typer.Option("--grid", metavar="PATH=V1,V2,...", help="Values to try; repeat for a product.")
    ],
    select: Annotated[str, typer.Option(help="What settings are chosen on: validation.")] = "validation",
    changes: o.Set = None,
    out: o.SweepOut = None,
    data_dir: o.DataDir = None,
    download: o.Download = False,
    engine: o.Engine = None,
    device: o.Device = "cpu",
    jobs: o.Jobs = 1,
    seed: o.Seed = None,
    seeds: o.Seeds = None,
    allow: o.Allow = None,
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
) -> int:
    """Try settings and choose on validation data; what is done is skipped, so a sweep can be repeated."""
    from fedsep.cli.sweep import sweep as start

    reading = o.reading(recipe, changes, engine, seed, seeds, allow, jobs)
    sources, talk = o.machine(data_dir, download, device), o.talk(quiet, json)
    return start(reading, grid, select, sources, talk, out, jobs, overwrite=overwrite)


@app.command()
def bench(
    recipe: Annotated[str, typer.Argument(help="A YAML file or a shipped recipe's name.")],
    methods: Annotated[
        list[str] | None, typer.Option("--method", help="Only this method; may be repeated (default: all).")
    ] = None,
    engines: Annotated[
        str | None, typer.Option(metavar="workers,torchrun", help="Only these engines beside sequential.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that are timed, after a first one.")] = 5,
    out: Annotated[Path | None, typer.Option("--out", help="File for the figures; without it nothing is kept.")] = None,
    changes: o.Set = None,
    data_dir: o.DataDir = None,
    download: o.Download = False,
    device: o.Device = "cpu",
    allow: o.Allow = None,
    quiet: o.Quiet = False,
    json: o.Json = False,
) -> int:
    """Time a few rounds of a recipe on every engine: speed, memory, and whether the bits are equal."""
    from fedsep.cli.bench import Bench
    from fedsep.cli.bench import bench as start

    reading, sources = o.reading(recipe, changes, None, None, None, allow), o.machine(data_dir, download, device)
    wanted = engines.split(",") if engines else None
    return start(reading, sources, o.talk(quiet, json), Bench(methods, wanted, rounds, device, out))


@app.command()
def theory(
    recipe: Annotated[
        str,
        typer.Argument(help="theory/smoke (seconds), theory/full (minutes, three seeds), or a YAML file like them."),
    ] = "theory/smoke",
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="This experiment; may be repeated (default: all)."),
    ] = None,
    changes: o.Set = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder (default: runs/theory/RECIPE).")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Measure again what the folder has.")] = False,
    quiet: o.Quiet = False,
) -> int:
    """Measure what the paper's convergence analysis predicts; what is done is skipped."""
    from fedsep.cli.theory import theory as start

    reading = o.reading(recipe, changes, None, None, None, None)
    return start(recipe, only or [], reading.changes, out, o.talk(quiet, False), overwrite=overwrite)


@app.command()
def doctor(
    data_dir: o.DataDir = None, json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False
) -> int:
    """Say what is installed, which devices, data and engines there are, what is missing and how to get it."""
    from fedsep.cli.doctor import doctor as start

    return start(data_dir, json)


@app.command()
def ls(
    kind: Annotated[str | None, typer.Argument(help="methods, recipes, datasets, models, codecs, ...")] = None,
) -> int:
    """List what there is, one line each."""
    from fedsep.cli.listing import ls as start

    return start(kind)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A name that ls lists, or a dotted path.")], allow: o.Allow = None
) -> int:
    """Say what something does: equations, parameters with defaults and ranges, bytes, source."""
    from fedsep.cli.show import show as start

    return start(name, tuple(allow or ()))


app.add_typer(flower)

__all__: list[Any] = ["app"]
