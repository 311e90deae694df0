"""How much memory a run takes: a few of its rounds are played in a process of its own, and looked at from outside.

What grows with clients and rounds that are not played is added: the memories of clients that are kept in the process,
and what methods remember of earlier rounds.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from fedsep.cli.bench_apart import watch
from fedsep.core import FedSepError
from fedsep.recipes import Recipe, Sources

REMOTE = ("fedsep.engines.flower", "fedsep.engines.torchrun")
"""Engines one of whose processes does what ``sequential`` does: that one is told."""


class Peak(NamedTuple):
    """Most bytes of main memory in a run.

    Attributes:
        first: Of the process that leads, as resident in it.
        others: Of each other process.
        together: Of all of them at a time, what they share counted once.
        rounds: How many were played to see it.
        clients: How many took part in each.
    """

    first: int
    others: tuple[int, ...]
    together: int
    rounds: int
    clients: int


def rehearse(recipe: Recipe, method: str, sources: Sources) -> Peak | None:
    """The peak of a run of one method; None where the system does not tell.

    Raises:
        FedSepError: It takes more memory than there is, or the method fails.
    """
    tree = recipe.single(method, recipe.seeds[0])
    tree["engine"] = {name: value for name, value in tree["engine"].items() if name != "faults"}
    job = {
        "tree": {name: block for name, block in tree.items() if name != "accept"},
        "file": recipe.file,
        "allow": recipe.allow,
        "method": method,
        "data_dir": None if sources.data_dir is None else str(sources.data_dir),
    }
    with tempfile.TemporaryDirectory(prefix="fedsep-check-") as folder:
        job_file, result_file = Path(folder) / "job.json", Path(folder) / "result.json"
        job_file.write_text(json.dumps(job, default=str), encoding="utf-8")
        watched = watch([sys.executable, "-m", "fedsep.cli.rehearse_one", str(job_file), str(result_file)])
        if not result_file.exists():
            raise FedSepError(_ended(method, watched.code, watched.said))
        found: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
    if "error" in found:
        raise FedSepError(f"methods.{method}: {found['error']}")
    if watched.together is None or not watched.apart:
        return None
    first, *others = watched.apart
    grown = found["memories"] + found["remembered"]
    together = (max(first, watched.together) if others else first) + grown + len(others) * found["remembered"]
    return Peak(first + grown, tuple(each + found["remembered"] for each in others), together,
                found["rounds"], found["clients"])  # fmt: skip


def _ended(method: str, code: int, said: str) -> str:
    if code == -9:
        return f"methods.{method}: a round takes more memory than there is: the system ended the process that played it"
    return f"methods.{method}: the process that played a round ended with exit code {code}: {said}"
