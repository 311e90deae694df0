"""``fedsep flower client``: a site calls its server, and answers for as long as it is let."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from fedsep.core import FedSepError
from fedsep.errors import terminable
from fedsep.flower.certificates import require_private
from fedsep.flower.guard import SITE
from fedsep.flower.here import own_block
from fedsep.flower.lock import holding
from fedsep.flower.programs import Programs, free_port
from fedsep.flower.reaching import require_server
from fedsep.flower.reception import AUDIT, Reception

_NODE = "flower-supernode"
_PAUSE = 1.0
_AGAIN = 10.0  # seconds after which a node program that ended is started again
_TAKEN = "SuperNode ID:"  # what the node program says when the server has taken it
_INACTIVE = "Failed to activate SuperNode"  # and when its key is not known, or counts as in use
_STILL = 75.0  # seconds for which a node that was killed counts as connected, and some more


@dataclass(frozen=True)
class Line:
    """How a site reaches its server.

    Attributes:
        server: HOST:PORT.
        authority: Certificate by which the server's is checked; None: without TLS.
        key: The site's private key; None: without authentication.
    """

    server: str
    authority: Path | None
    key: Path | None

    def check(self) -> None:
        """Sees that the files are there and that the server answers.

        Raises:
            FedSepError: What is missing, or who answers instead.
        """
        for flag, file in (("--ca", self.authority), ("--key", self.key)):
            if file is not None and not file.is_file():
                raise FedSepError(f"{flag}: there is no file {file}")
        if self.key is not None:
            require_private(self.key)
        require_server(self.server, self.authority)

    def command(self) -> list[str]:
        """The node program, as it is started."""
        command = [sys.executable, "-m", "fedsep.flower.guard", _NODE]
        command += ["--superlink", self.server, "--port", str(free_port())]
        if self.authority is None:
            return [*command, "--insecure"]
        key = [] if self.key is None else ["--auth-supernode-private-key", str(self.key.resolve())]
        return [*command, "--root-certificates", str(self.authority.resolve()), *key]


def call(site: Reception, line: Line, say: Callable[[str], None]) -> None:
    """Answers the server until this process is interrupted.

    Raises:
        FedSepError: The server cannot be reached, or does not take this site, or another process is this site.
        KeyboardInterrupt: As it should end.
    """
    line.check()
    own_block(site.rules.data, site.rules.allow)  # what is wrong with it is better said now
    with holding(site.folder / "lock") as alone:
        if not alone:
            raise FedSepError(
                f"{site.folder}: a client keeps its memories there already: name another (--name, --state)"
            )
        with terminable(), Programs(site.folder / "flower", {SITE: str(site.save().resolve())}) as programs:
            programs.log(_NODE).unlink(missing_ok=True)
            programs.start(_NODE, line.command())
            say(f"site {site.rules.name} answers {line.server}; what it is asked and tells is in {site.folder / AUDIT}")
            _kept_going(programs, line, say, Refusals(site.folder / AUDIT))


@dataclass
class Refusals:
    """What the audit log says was refused from now on: those who started the site would wait for its rounds in vain."""

    file: Path
    place: int = field(init=False)
    told: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        self.place = self.file.stat().st_size if self.file.exists() else 0

    def fresh(self) -> list[str]:
        """Reasons that have not been told yet, from whole lines that came since the last look."""
        if not self.file.exists():
            return []
        with self.file.open("rb") as log:
            log.seek(self.place)
            lines = [line for line in log.readlines() if line.endswith(b"\n")]
        self.place += sum(map(len, lines))
        reasons = [why for line in lines if (why := _reason(line))]
        fresh = [why for why in dict.fromkeys(reasons) if why not in self.told]
        self.told.update(fresh)
        return fresh


def _reason(line: bytes) -> str:
    """Why a letter was refused or not answered; nothing if it was, or if a full disk tore the line."""
    try:
        entry = json.loads(line)
    except ValueError:
        return ""
    if entry.get("refused"):
        return f"this site does not take part: {entry['refused']}"
    return f"a letter was not answered: {entry['problem']}" if entry.get("problem") else ""


def _kept_going(programs: Programs, line: Line, say: Callable[[str], None], refusals: Refusals) -> NoReturn:
    """Starts the node program again when it ends, unless the server never took it; says what the site refuses."""
    until = time.monotonic() + _STILL
    while True:
        time.sleep(_PAUSE)
        for why in refusals.fresh():
            say(why)
        if programs.running[_NODE].poll() is None:
            continue
        said = programs.log(_NODE).read_text(encoding="utf-8", errors="replace")
        taken, later = _TAKEN in said, _INACTIVE in said and time.monotonic() < until
        if not taken and not later:
            raise FedSepError(_refused(programs, line))
        why = (
            "ended" if taken else "is not taken: perhaps the server has not noticed yet that an earlier one was killed"
        )
        say(f"Flower's node program {why}; it is started again in {_AGAIN:g} s")
        time.sleep(_AGAIN)
        programs.start(_NODE, line.command())


def _refused(programs: Programs, line: Line) -> str:
    """Why a node program ended that the server never took; Flower says it in a line of its log."""
    said = programs.tail(_NODE, 30)
    of = f"the public key that belongs to {line.key} among the server's nodes, and does no other client use it"
    key = "" if line.key is None else f": is {of}?"
    return f"{line.server} does not take this site{key} Flower's node program said:\n{said}"
