"""How much memory a process and all that it started take, as Linux tells."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

_PROC = Path("/proc")


def footprint(pid: int) -> int | None:
    """Bytes of a process and its descendants, what they share counted once; None where that cannot be told."""
    if not (_PROC / "self/smaps_rollup").exists():
        return None
    children = _children()
    total, todo = 0, [pid]
    while todo:
        one = todo.pop()
        total += _bytes(one)
        todo += children[one]
    return total


def _children() -> defaultdict[int, list[int]]:
    found: defaultdict[int, list[int]] = defaultdict(list)
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            try:
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            except (OSError, IndexError):  # it has ended
                continue
            found[int(parent)].append(int(entry.name))
    return found


def _bytes(pid: int) -> int:
    """The process's share of the memory it uses: a page that n processes have counts 1/n."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
