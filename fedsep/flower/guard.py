"""Flower's programs, held to what fedsep needs of them: no code that came over the network is run, at no end.

Flower's nodes fetch an app from the server and run it, and its server runs the app that anyone hands in who can reach
its control interface. Here each process runs the app of the fedsep that is installed beside it, whatever came; and the
control interface, by which runs and nodes are registered, answers this machine alone. Where a release of Flower has not
the names that are replaced for that, nothing is started.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fedsep.flower.allowance import ALLOWED, KEYS, Allowance, Bounded, named

_WATCH = 0.5  # seconds
_Address = tuple[str, int | None] | None

SITE = "FEDSEP_FLOWER_SITE"
"""Names the file with a site's settings."""


def clientapp() -> None:
    """``flwr-clientapp``: answers one message, by the site's own fedsep."""
    import torch

    from fedsep.flower.client_app import client_app
    from fedsep.flower.reception import reception

    torch.set_num_threads(1)
    site = reception(Path(os.environ[SITE]))
    replaced("flwr.supernode.runtime.run_clientapp", "install_from_fab", _nothing)
    replaced("flwr.supernode.runtime.run_clientapp", "install_app_dependencies", _nothing)
    own = client_app(lambda _context: site)
    replaced("flwr.supernode.runtime.run_clientapp", "get_load_client_app_fn", lambda **_: lambda *_: own)
    started("flwr.supernode.cli", "flwr_clientapp")


def serverapp() -> None:
    """``flwr-serverapp``: runs the order that this server was started with."""

    def run(grid: Any, server_app_dir: str, server_app_attr: str, context: Any) -> Any:
        from fedsep.flower.server_app import app

        app(grid, context)
        return context

    replaced("flwr.superlink.runtime.run_serverapp", "install_app_dependencies", _nothing)
    replaced("flwr.superlink.runtime.run_serverapp", "run_", run)
    started("flwr.superlink.cli", "flwr_serverapp")


def supernode() -> None:
    """``flower-supernode``: it does not outlive who started it, who may have been killed to end it."""
    _bound()
    started("flwr.supernode.cli", "flower_supernode")


def superlink() -> None:
    """``flower-superlink``: sites are answered from everywhere, the control interface from this machine."""
    _bound()
    from starlette.middleware import Middleware  # pyright: ignore[reportMissingImports]

    keys = os.environ.get(KEYS)
    allowance = Allowance(int(os.environ[ALLOWED]), names={} if keys is None else named(Path(keys)))
    ours = [Middleware(OnlyHere), Middleware(Bounded, allowance=allowance)]
    inside = replaced("flwr.superlink.main", "_get_middleware", lambda: [*ours, *inside()])
    started("flwr.superlink.cli", "flower_superlink")


class OnlyHere:
    """Refuses requests from other machines, but for what sites need."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        """Takes the application that it stands before."""
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Lets a request through, or answers 403."""
        if scope["type"] == "http" and not allowed(scope["path"], scope["client"], scope.get("server")):
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"this interface answers the server's own machine only"})
            return
        await self.app(scope, receive, send)


def allowed(path: str, client: _Address, server: _Address = None) -> bool:
    """Whether a request from ``client`` (address, port), which called ``server``, may reach ``path``.

    From a machine to one of its own addresses comes only what that machine sends: the command's own calls, where the
    server listens at an address that is not the loopback interface's.
    """
    if path.startswith(("/v1/fleet/", "/health")):
        return True
    caller = _parsed(client)
    return caller is not None and (caller.is_loopback or caller == _parsed(server))


def _parsed(address: _Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address("" if address is None else address[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def replaced(module: str, name: str, by: Any) -> Any:
    """Replaces a name in one of Flower's modules, and gives what was there.

    Raises:
        SystemExit: This release of Flower has it not: then it is not known what its programs would run.
    """
    there = importlib.import_module(module)
    if not hasattr(there, name):
        sys.exit(f"{module} has no {name}: fedsep does not know this release of Flower. Install flwr==1.41.0")
    before = getattr(there, name)
    setattr(there, name, by)
    return before


def started(module: str, program: str) -> None:
    """Runs one of Flower's programs in this process, with this process's arguments."""
    getattr(importlib.import_module(module), program)()


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Installs nothing."""


def _bound() -> None:
    """Ends this process when its parent is gone; Flower's other programs watch this one in the same way."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


PROGRAMS = {
    "flwr-clientapp": clientapp,
    "flwr-serverapp": serverapp,
    "flower-superlink": superlink,
    "flower-supernode": supernode,
}

if __name__ == "__main__":
    name = sys.argv.pop(1)
    sys.argv[0] = name
    PROGRAMS[name]()
