"""What a site received, ran and sent, one line of JSON for each letter, for those who answer for its data."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from fedsep.files import write_all, writing


class Audit(Protocol):
    """Where entries go."""

    def write(self, entry: Mapping[str, Any]) -> None:
        """Adds an entry."""
        ...


class Unwritten:
    """Nowhere: where server and sites are one process."""

    def write(self, entry: Mapping[str, Any]) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class Written:
    """In ``file``, which only ever grows."""

    file: Path

    def write(self, entry: Mapping[str, Any]) -> None:
        """Adds a line with the time.

        Raises:
            CannotWrite: The disk is full; nothing has been sent then.
        """
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **entry}
        data = (json.dumps(line, default=str) + "\n").encode()
        with writing(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                write_all(handle, data)
            finally:
                os.close(handle)
