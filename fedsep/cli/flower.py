"""``fedsep flower``: runs over real sites, or over such in this process; certificates for a trial."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedsep.cli import options as o

app = typer.Typer(
    name="flower",
    help="Real sites over Flower's network transport (its extra is called flower).",
    no_args_is_help=True,
)

RecipeName = Annotated[str, typer.Argument(help="A YAML file or a shipped recipe's name.")]
Insecure = Annotated[bool, typer.Option("--insecure", help="Without TLS and without authentication: for trials only.")]


@app.command()
def simulate(
    recipe: RecipeName,
    changes: o.Set = None,
    out: o.Out = None,
    data_dir: o.DataDir = None,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Sites; each has a part of the clients.")] = 2,
    seed: o.Seed = None,
    allow: o.Allow = None,
    overwrite: o.Overwrite = False,
    quiet: o.Quiet = False,
    json: o.Json = False,
) -> int:
    """Run a recipe with sites in this process: what crosses is what would cross, and it is counted."""
    from fedsep.cli.run import run
    from fedsep.flower import require_flower

    require_flower()
    engine = f"{{use: fedsep.engines.flower, nodes: {nodes}}}"
    how = o.reading(recipe, changes, engine, seed, None, allow)
    sources, talk = o.machine(data_dir, False, "cpu"), o.talk(quiet, json)
    return run(how, sources, talk, out, overwrite=overwrite, dry_run=False)


@app.command()
def server(
    recipe: RecipeName,
    changes: o.Set = None,
    out: o.Out = None,
    data_dir: o.DataDir = None,
    certs: Annotated[
        Path, typer.Option("--certs", help="Folder with ca.crt, server.pem, server.key, nodes/*.pub.")
    ] = Path("certs"),
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen at (0.0.0.0; insecure: 127.0.0.1).")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen at.")] = 8443,
    seed: o.Seed = None,
    allow: o.Allow = None,
    overwrite: o.Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the runs in the results folder.")] = False,
    insecure: Insecure = False,
) -> int:
    """Run a recipe over the sites that call; stop and go on as often as you like (--resume)."""
    from fedsep.cli.flowers import serve

    place = (host or ("127.0.0.1" if insecure else "0.0.0.0"), port, None if insecure else certs)
    return serve(recipe, changes, out, data_dir, place, seed, allow, overwrite=overwrite, resume=resume)


@app.command()
def client(
    data: Annotated[
        Path, typer.Option("--data", help="Folder with this site's data; data.yaml says how to read them.")
    ],
    server: Annotated[
        str, typer.Option("--server", metavar="HOST:PORT", help="Where the server listens.")
    ] = "127.0.0.1:8443",
    clients: Annotated[
        str | None, typer.Option("--clients", metavar="0-4,7", help="Which clients of the federation are here.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of this site (default: its data folder's).")] = None,
    ca: Annotated[Path, typer.Option("--ca", help="The authority's certificate.")] = Path("certs/ca.crt"),
    key: Annotated[Path | None, typer.Option("--key", help="This site's private key.")] = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="Folder for memories and the audit log (default: sites/NAME).")
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=1, help="Local steps of a client in a round, at most.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option("--max-seconds", min=0.001, help="Seconds of a client in a round, at most.")
    ] = None,
    allow: o.Allow = None,
    check: Annotated[
        bool, typer.Option("--check", help="Show schema and sample counts; reach nobody, train nothing.")
    ] = False,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="With --check: the recipe whose data set the folder holds.")
    ] = None,
    insecure: Insecure = False,
) -> int:
    """Let this machine take part with its data; Ctrl-C ends it. The site decides: data, packages, steps, time."""
    from fedsep.cli.flowers import call, show
    from fedsep.cli.flowers import rules as made

    rules = made(data, clients, name, allow, max_steps, max_seconds)
    if check:
        return show(rules, recipe)
    return call(rules, server, None if insecure else ca, None if insecure else key, state, insecure=insecure)


@app.command()
def certs(
    folder: Annotated[Path, typer.Option("--out", help="Folder to write.")] = Path("certs"),
    host: Annotated[
        list[str] | None, typer.Option("--host", help="Name or address of the server; may be repeated.")
    ] = None,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Number of sites: site1, site2, ...")] = 2,
    days: Annotated[int, typer.Option("--days", min=1, help="For how long they are valid.")] = 30,
) -> int:
    """Make test certificates and node keys. Real organisations use their own authority, and keys made at each site."""
    from fedsep.cli.flowers import certify

    return certify(folder, host or [], [f"site{number}" for number in range(1, nodes + 1)], days)
