"""How much memory a process and all that it started take, as Linux tells."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

_PROC = Path("/proc")


def footprint(pid: int) -> int | None:
    """Bytes of a process and its descendants, what they share counted once; None where that cannot be told."""
    if not (_PROC / "self/smaps_rollup").exists():
        return None
    found = [_bytes(one) for one in family(pid)]
    # Programs and libraries are the same files in all of them; other programs that have them, too, change nothing.
    return sum(own for own, _ in found) + max((files for _, files in found), default=0)


def peaks(pid: int) -> dict[int, int]:
    """The most bytes that a process and each of its descendants were resident with so far; empty where not told."""
    told = {one: _status(one, "VmHWM") for one in family(pid)} if _PROC.is_dir() else {}
    return {one: size for one, size in told.items() if size}


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children, found, todo = _children(), list[int](), [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        todo += children[one]
    return found


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


def _bytes(pid: int) -> tuple[int, int]:
    """What a process has of its own, a page that n processes have counting 1/n, and what it has of files."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    told = {words[0]: 1024 * int(words[1]) for line in lines if len(words := line.split()) > 2 and words[2] == "kB"}
    if "Pss_Anon:" not in told:  # before Linux 5.4
        return told.get("Pss:", 0), 0
    return told["Pss_Anon:"] + told["Pss_Shmem:"], _status(pid, "RssFile")


def _status(pid: int, name: str) -> int:
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
