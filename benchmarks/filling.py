"""A record that grows run by run: several at a time, written as they come, and gone on with where it was left."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fedsep.environment import environment

Asked = TypeVar("Asked")
Runs = list[dict[str, Any]]


def fill(out: Path, run: Callable[[Asked], dict[str, Any]], left: Callable[[Runs], Sequence[Asked]], jobs: int) -> None:
    """Runs what is left until nothing is.

    Args:
        out: The record; what it has is not run again.
        run: Makes one run, in a process of its own.
        left: What is to be run, by the runs that there are: those that choose something come before the others.
        jobs: Runs at a time.
    """
    record: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {"runs": []}
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        while todo := left(record["runs"]):
            for made in pool.imap_unordered(run, todo):
                record["runs"].append(made)
                record["environment"] = environment("sequential", 0)
                out.write_text(json.dumps(record, indent=1) + "\n")
                print(json.dumps(made), flush=True)
