"""Work that a process of its own does: what it is told comes from a file, and what it found goes to another."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedsep.core import FedSepError


def answer(job_file: str, result_file: str, work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Reads a job, does it, and writes what was found; what went wrong is a result, too. Of several ranks one writes.

    Args:
        job_file: JSON.
        result_file: JSON, ``{"error": ...}`` where the work was refused.
        work: Makes the result of the job.
    """
    warnings.simplefilter("ignore")
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    try:
        result = work(job)
    except FedSepError as error:
        result = {"error": str(error)}
    if os.environ.get("RANK", "0") == "0":
        Path(result_file).write_text(json.dumps(result), encoding="utf-8")
