"""Flower's programs as children of this one, in an environment in which they call nobody and install nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedsep.core import FedSepError
from fedsep.files import writing

GUARDED = ("flwr-clientapp", "flwr-serverapp")

_SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",  # telemetry.flower.ai
    "FLWR_DISABLE_UPDATE_CHECK": "1",  # api.flower.ai
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",  # uv sync of an app's requirements
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    "NO_COLOR": "1",
}

_GRACE = 10.0  # seconds that a program has to end by itself
_PAUSE = 0.2


@dataclass
class Programs:
    """Some of Flower's programs with their logs; on leaving, all of them and their children are ended.

    Attributes:
        folder: Where Flower keeps its state, and the logs.
        extra: More environment.
    """

    folder: Path
    extra: Mapping[str, str] = field(default_factory=dict[str, str])
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, subprocess.Popen[bytes]])

    def __enter__(self) -> Programs:
        with writing(self.folder):
            bin = self.folder / "bin"
            bin.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            for name in GUARDED:
                command = shlex.join([sys.executable, "-m", "fedsep.flower.guard", name])
                (bin / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
                (bin / name).chmod(stat.S_IRWXU)
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.running.values()):
            end(process)

    @property
    def environment(self) -> dict[str, str]:
        """Of the programs: ours are found before Flower's own."""
        path = [str(self.folder.resolve() / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        home = {"FLWR_HOME": str(self.folder.resolve() / "home"), "PATH": os.pathsep.join(path)}
        return {**os.environ, **_SWITCHES, **home, **self.extra}

    def start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Starts a program in a session of its own; what it says is in ``<name>.log``."""
        with writing(self.log(name)), open(self.log(name), "ab") as log:
            self.running[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        return self.running[name]

    def log(self, name: str) -> Path:
        """Where a program's words go."""
        return self.folder / f"{name}.log"

    def call(self, command: Sequence[str], seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end.

        Raises:
            FedSepError: It does not end in time.
        """
        nothing = subprocess.DEVNULL
        try:
            return subprocess.run(
                command,
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
                stdin=nothing,
            )
        except subprocess.TimeoutExpired as error:
            raise FedSepError(f"Flower did not answer within {seconds:g} s: {shlex.join(command)}") from error

    def require(self, name: str) -> None:
        """Sees that a program is still there.

        Raises:
            FedSepError: It has ended; the message has the end of its log.
        """
        code = self.running[name].poll()
        if code is not None:
            raise FedSepError(f"Flower's program {name} ended (exit code {code}):\n{self.tail(name)}")

    def tail(self, name: str, lines: int = 12) -> str:
        """The end of a program's log."""
        text = self.log(name).read_text(encoding="utf-8", errors="replace")
        return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])

    def reachable(self, name: str, host: str, port: int, seconds: float) -> None:
        """Waits until a program answers.

        Raises:
            FedSepError: It ended, or does not answer.
        """
        until = time.monotonic() + seconds
        while not listening(host, port):
            self.require(name)
            if time.monotonic() > until:
                raise FedSepError(f"Flower's program {name} does not answer at {host}:{port} after {seconds:g} s")
            time.sleep(_PAUSE)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a program and all that it started, first in peace."""
    for number, seconds in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, _GRACE)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)


def listening(host: str, port: int) -> bool:
    """Whether anything takes connections there."""
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def require_free(host: str, port: int) -> None:
    """Sees that a port can be listened at.

    Raises:
        FedSepError: It is in use, or not ours to use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror as error:
            raise FedSepError(f"--host: {host} is no address of this machine ({error.strerror})") from error
        except OSError as error:
            flag = "--host" if error.errno == errno.EADDRNOTAVAIL else "--port"
            raise FedSepError(
                f"{flag}: {host}:{port} cannot be listened at ({error.strerror}): choose another"
            ) from error


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
