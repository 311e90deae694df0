"""``fedsep flower server``: Flower's server program, the nodes that may call, and one run over them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedsep.core import FedSepError
from fedsep.errors import RunFailed, terminable
from fedsep.files import write_file, writing
from fedsep.flower.allowance import ALLOWED, KEYS
from fedsep.flower.certificates import AUTHORITY, CERTIFICATE, KEY, NODES, require_issued
from fedsep.flower.lock import holding, is_held
from fedsep.flower.order import LOG, VARIABLE, Order
from fedsep.flower.programs import Programs, require_free

_CONNECTION = "fedsep"
_APP = """
[project]
name = "fedsep-run"
version = "1.0.0"
dependencies = []

[tool.flwr.app]
publisher = "fedsep"

[tool.flwr.app.components]
serverapp = "fedsep.flower.server_app:app"
clientapp = "fedsep.flower.server_app:app"
"""
_STATE = "state.db"
_PAUSE = 0.5
_STARTING = 180.0  # seconds that Flower has to start the run's process
_SAVING = 60.0  # seconds that an interrupted run has for its checkpoint


@dataclass(frozen=True)
class Place:
    """Where the server listens.

    Attributes:
        host: Address.
        port: Port.
        certificates: Folder with the authority's certificate, the server's, its key, and the nodes' public keys; None:
            neither TLS nor authentication.
    """

    host: str
    port: int
    certificates: Path | None

    @property
    def here(self) -> str:
        """How this machine reaches it."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def nodes(self) -> list[Path]:
        """The public keys of nodes that may call.

        Raises:
            FedSepError: A certificate or key is missing, or no node may call.
        """
        if self.certificates is None:
            return []
        missing = [name for name in (AUTHORITY, CERTIFICATE, KEY) if not (self.certificates / name).is_file()]
        if missing:
            raise FedSepError(
                f"--certs: {self.certificates} lacks {', '.join(missing)} (fedsep flower certs makes them)"
            )
        _require_pair(self.certificates)
        keys = sorted((self.certificates / NODES).glob("*.pub"))
        if not keys:
            raise FedSepError(f"--certs: no node may call: {self.certificates / NODES} holds no public key (*.pub)")
        return keys


def _require_pair(folder: Path) -> None:
    """Sees that the server's certificate, its key and the authority can be read, and belong together."""
    context, key = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), folder / KEY

    def secret() -> str:  # else OpenSSL asks for it on the terminal, and Flower's program would
        raise FedSepError(f"--certs: {key} has a passphrase, which Flower's server program cannot ask for")

    try:
        context.load_cert_chain(folder / CERTIFICATE, key, secret)
        context.load_verify_locations(folder / AUTHORITY)
    except ssl.SSLError as error:
        kept = "KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"
        why = f"{key} is not the key of {folder / CERTIFICATE}" if error.reason in kept else "a file cannot be read"
        names = ", ".join((AUTHORITY, CERTIFICATE, KEY))
        raise FedSepError(f"--certs: {why} (of {folder}: {names}; {error.reason})") from error
    except OSError as error:
        raise FedSepError(f"--certs: {error.filename or folder} cannot be read ({error.strerror})") from error
    require_issued(folder / CERTIFICATE, folder / AUTHORITY)


def serve(order: Order, place: Place, say: Callable[[str], None]) -> int:
    """Runs an order over the sites that call, and tells what goes on; the exit code.

    Raises:
        FedSepError: The port or the folder is in use, a certificate is missing, or Flower's programs do not start.
        RunFailed: They, or the run's process, ended before the run did.
    """
    keys = place.nodes()
    require_free(place.host, place.port)
    with holding(order.folder / "lock") as alone:
        if not alone:
            raise FedSepError(f"--out: {order.out}: a server with these results is running already")
        return _served(order, place, keys, say)


def _served(order: Order, place: Place, keys: Sequence[Path], say: Callable[[str], None]) -> int:
    folder = order.folder
    _cleared(order)
    told = {VARIABLE: str((folder / "order.json").resolve()), ALLOWED: str(order.largest())}
    if place.certificates is not None:
        told[KEYS] = str((place.certificates / NODES).resolve())
    with terminable(), Programs(folder, told) as programs:
        order.write()
        programs.start("flower-superlink", _superlink(folder, place))
        host, _, port = place.here.rpartition(":")
        programs.reachable("flower-superlink", host.strip("[]"), int(port), 90.0)
        _connect(folder, place)
        for key in keys:
            _register(programs, key)
        say(f"listening at {place.host}:{place.port}; {len(keys) or 'any'} node{'s' * (len(keys) != 1)} may call")
        _submit(programs, folder)
        try:
            return _followed(programs, order, say)
        except KeyboardInterrupt:
            say("interrupted: the run saves a checkpoint")
            _interrupt(order)
            say(f"fedsep flower server ... --out {order.out} --resume goes on")
            raise


def _cleared(order: Order) -> None:
    """Removes what an earlier server left. Flower's state knows nodes whose keys may have been taken back since.

    A run goes on from its own checkpoint; a site whose node Flower does not know any more introduces itself anew.
    The run of a server that was killed may still be saving itself: its results, and its outcome, come first.

    Raises:
        FedSepError: It does not end.
    """
    until = time.monotonic() + _SAVING
    while order.process.is_file() and is_held(order.process):
        if time.monotonic() > until:
            number = order.process.read_text(encoding="utf-8")
            raise FedSepError(f"--out: {order.out}: the run of an earlier server has not ended (process {number})")
        time.sleep(_PAUSE)
    for file in (order.outcome, order.process, order.folder / LOG, *order.folder.glob(f"{_STATE}*")):
        file.unlink(missing_ok=True)


def _interrupt(order: Order) -> None:
    """Has the run save itself and end, as Ctrl-C does to a run of one process, and waits for it."""
    with suppress(OSError, ValueError):
        os.kill(int(order.process.read_text(encoding="utf-8")), signal.SIGTERM)
        until = time.monotonic() + _SAVING
        while not order.outcome.is_file() and time.monotonic() < until:
            time.sleep(_PAUSE)


def _superlink(folder: Path, place: Place) -> list[str]:
    command = [sys.executable, "-m", "fedsep.flower.guard", "flower-superlink", "--host", place.host]
    command += ["--port", str(place.port), "--database", str(folder.resolve() / _STATE)]
    command += ["--disable-runtime-dependency-installation"]
    if place.certificates is None:
        return [*command, "--insecure"]
    files = {"--ssl-ca-certfile": AUTHORITY, "--ssl-certfile": CERTIFICATE, "--ssl-keyfile": KEY}
    given = [part for flag, name in files.items() for part in (flag, str((place.certificates / name).resolve()))]
    return [*command, *given, "--enable-supernode-auth"]


def _connect(folder: Path, place: Place) -> None:
    """What Flower's command line has to know to reach the server program."""
    trust = (
        "insecure = true"
        if place.certificates is None
        else f"root-certificates = {json.dumps(str((place.certificates / AUTHORITY).resolve()))}"
    )
    text = f'[superlink]\ndefault = "{_CONNECTION}"\n\n[superlink.{_CONNECTION}]\naddress = "{place.here}"\n{trust}\n'
    with writing(folder):
        (folder / "home").mkdir(exist_ok=True)
        (folder / "app").mkdir(exist_ok=True)
    write_file(folder / "home" / "config.toml", text.encode())
    write_file(folder / "app" / "pyproject.toml", _APP.encode())


def _register(programs: Programs, key: Path) -> None:
    """Lets a node call; one that may call already is left alone."""
    done = programs.call([_flwr(), "supernode", "register", str(key.resolve()), _CONNECTION])
    said = done.stdout + done.stderr
    if done.returncode and "already" not in said.lower():
        raise FedSepError(f"{key}: Flower does not take this node's public key:\n{said.strip()[-1000:]}")


def _submit(programs: Programs, folder: Path) -> None:
    done = programs.call([_flwr(), "run", str((folder / "app").resolve()), _CONNECTION])
    if done.returncode:
        raise FedSepError(f"Flower does not start the run:\n{(done.stdout + done.stderr).strip()[-2000:]}")


def _followed(programs: Programs, order: Order, say: Callable[[str], None]) -> int:
    """Shows what the run says until it has ended."""
    log, shown, until = programs.folder / LOG, 0, time.monotonic() + _STARTING
    while True:
        lost = _lost(order, until)
        over = order.outcome.is_file()  # looked at last: it is written before the process ends
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        lines = text[shown:].split("\n")
        for line in lines[:-1]:
            say(line)
        shown = len(text) - len(lines[-1])
        if over:
            return int(json.loads(order.outcome.read_bytes())["code"])
        if lost:
            raise RunFailed(f"{lost}; fedsep flower server ... --out {order.out} --resume goes on")
        if programs.running["flower-superlink"].poll() is not None:
            raise RunFailed(f"Flower's server program ended:\n{programs.tail('flower-superlink')}")
        time.sleep(_PAUSE)


def _lost(order: Order, until: float) -> str:
    """Why the run will not say how it ended; empty if it may."""
    begun = order.process.is_file() and order.process.stat().st_size > 0
    if not begun and time.monotonic() > until:
        return (
            f"Flower has not started the run within {_STARTING:g} s (its log: {order.folder / 'flower-superlink.log'})"
        )
    if begun and not is_held(order.process):
        return f"the run's process ended without a word (killed? out of memory? its log: {order.folder / LOG})"
    return ""


def _flwr() -> str:
    beside = Path(sys.executable).with_name("flwr")
    found = str(beside) if beside.is_file() else shutil.which("flwr")
    if found is None:
        raise FedSepError("Flower's command flwr is not installed beside this Python: pip install 'fedsep[flower]'")
    return found
