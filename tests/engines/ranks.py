"""Processes as torchrun starts them: forks of this one, since importing torch takes longer than what they do."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from fedsep.engines.ranks import met


def variables(rank: int, count: int, port: int = 1) -> dict[str, str]:
    """What torchrun tells a process."""
    values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return {name: str(value) for name, value in values.items()}


def in_ranks(act: Callable[[int], Any], folder: Path, count: int = 2, seconds: int = 300) -> tuple[Any, list[int]]:
    """What ``act`` gives on rank 0 in so many seconds, its error if it raised one, and the exit codes of all ranks."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = [_forked(act, folder, variables(rank, count, port), seconds) for rank in range(count)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return pickle.loads((folder / "told").read_bytes()), codes


def _forked(act: Callable[[int], Any], folder: Path, environment: dict[str, str], seconds: int) -> int:
    child = os.fork()
    if child:
        return child
    code, rank = 0, int(environment["RANK"])
    try:
        signal.alarm(seconds)  # whatever hangs, the tests do not
        os.environ.update(environment)
        told = _told(act, rank)
        if rank == 0:
            (folder / "told").write_bytes(pickle.dumps(told))
        group = met()
        if group is not None:
            group.leave()
    except BaseException:
        traceback.print_exc()
        code = 1
    os._exit(code)


def _told(act: Callable[[int], Any], rank: int) -> Any:
    try:
        return act(rank)
    except Exception as error:
        return error
