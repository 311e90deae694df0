"""What this machine has for fedsep: packages, devices, data, engines. Looks, and changes nothing.

Each look is taken by itself: what is broken or missing, torch included, must not keep the rest from being told.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_NEEDED = re.compile(r"^([\w.-]+)(?:\[[^\]]*\])?\s*([^;]*)(?:;\s*extra\s*==\s*['\"]([\w-]+)['\"])?")
_DEVELOPERS = ("dev",)
"""Extras that those who only use fedsep are not told of."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        section: ``packages``, ``devices``, ``data`` or ``engines``.
        name: Of the thing.
        state: What was found, in words.
        fine: Whether it can be used.
        needed: Whether fedsep does not work without it.
        cure: How to get it, where it cannot be used.
    """

    section: str
    name: str
    state: str
    fine: bool = True
    needed: bool = False
    cure: str = ""


def diagnose(data_dir: Path | None = None) -> list[Finding]:
    """Everything, in the order of the sections.

    Args:
        data_dir: Folder that is searched first for data.
    """
    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        "packages": _packages,
        "devices": _devices,
        "data": lambda: _data(data_dir),
        "engines": _engines,
    }
    # To look at a GPU is to begin to use it, after which no engine could fork.
    found = {section: list(_guarded(section, looks[section])) for section in sorted(looks, key="devices".__eq__)}
    return [finding for section in looks for finding in found[section]]


def healthy(findings: list[Finding]) -> bool:
    """Whether all that is needed is there, and some engine can be used."""
    engines = [finding.fine for finding in findings if finding.section == "engines"]
    return all(finding.fine for finding in findings if finding.needed) and any(engines)


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """The findings as plain values."""
    sections = dict.fromkeys(finding.section for finding in findings)
    rows = [asdict(finding) for finding in findings]
    by = {name: [{k: v for k, v in row.items() if k != "section"} for row in rows if row["section"] == name]
          for name in sections}  # fmt: skip
    return {"healthy": healthy(findings), **by}


def unmet(installed: str, wanted: str) -> str:
    """The first of some conditions such as ``>=14,<15`` that a version does not meet; empty if it meets all."""
    for condition in filter(None, wanted.replace(" ", "").split(",")):
        match = re.match(r"(>=|<=|==|!=|<|>|~=)(.+)", condition)
        if match is None or not _meets(_numbers(installed), match[1], _numbers(match[2])):
            return condition
    return ""


def _guarded(section: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except Exception as error:
        reason = f"cannot be looked at ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        yield Finding(section, section, reason, fine=False, needed=section == "engines")


def _packages() -> Iterator[Finding]:
    about = metadata.metadata("fedsep")
    yield Finding("packages", "fedsep", about["Version"], needed=True)
    wanted = about["Requires-Python"] or ""
    yield _judged("python", platform.python_version(), wanted, "", f"install Python {wanted}")
    for line in metadata.requires("fedsep") or ():
        match = _NEEDED.match(line)
        if match and match[3] not in _DEVELOPERS:
            name, wanted, extra = match[1], match[2].strip(), match[3] or ""
            yield _judged(name, _version(name), wanted, extra, f"pip install '{_target(name, wanted, extra)}'")


def _judged(name: str, installed: str | None, wanted: str, extra: str, cure: str) -> Finding:
    """Whether a package is there in the right version; those of an extra need not be."""
    what = f"{wanted or 'any version'}{f', extra {extra}' if extra else ''}"
    wrong = unmet(installed, wanted) if installed else ""
    if installed and not wrong:
        return Finding("packages", name, f"{installed} ({what})", needed=not extra)
    state = f"{installed}, which is not {wrong} ({what})" if installed else f"not installed ({what})"
    return Finding("packages", name, state, fine=False, needed=not extra, cure=cure)


def _target(name: str, wanted: str, extra: str) -> str:
    return f"fedsep[{extra}]" if extra else f"{name}{wanted}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """``2.13.0+cpu`` as (2, 13, 0); what follows the numbers does not count."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def _meets(version: tuple[int, ...], sign: str, bound: tuple[int, ...]) -> bool:
    length = max(len(version), len(bound))
    a, b = (numbers + (0,) * (length - len(numbers)) for numbers in (version, bound))
    compatible = a >= b and version[: len(bound) - 1] == bound[:-1]
    return {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, "<": a < b, ">": a > b, "~=": compatible}[sign]


def _devices() -> Iterator[Finding]:
    from fedsep.engines.workers import usable_cores
    from fedsep.environment import processor

    yield Finding("devices", "cpu", f"{processor()}, {usable_cores()} of {os.cpu_count()} cores may be used{_memory()}")
    for kind in ("cuda", "mps"):
        yield from _accelerators(kind)


def _accelerators(kind: str) -> Iterator[Finding]:
    import torch

    from fedsep.cli.device import lacking

    why = lacking(kind)
    if why:
        cure = "an NVIDIA GPU, and a torch that was built with CUDA (pytorch.org)" if kind == "cuda" else ""
        yield Finding("devices", kind, why, fine=False, cure=cure)
    elif kind == "mps":
        yield Finding("devices", kind, "usable with --device mps")
    else:
        for number in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(number)
            size = f"{found.total_memory / 2**30:.0f} GiB"
            yield Finding("devices", f"cuda:{number}", f"{found.name}, {size}, usable with --device cuda:{number}")


def _memory() -> str:
    try:
        return f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB of memory"
    except (AttributeError, ValueError, OSError):  # no such call here
        return ""


def _data(data_dir: Path | None) -> Iterator[Finding]:
    from fedsep.data.known import KNOWN, cure
    from fedsep.data.search import find, places

    embedded = find_spec("sklearn") is not None
    yield Finding("data", "digits", f"comes with scikit-learn{'' if embedded else ', which is missing'}", embedded)
    for name, repository in KNOWN.items():
        folder = find(name, ".parquet", data_dir)
        if folder is None:
            yield Finding("data", name, "not found", fine=False, cure=cure(name, repository))
            continue
        files = list(folder.rglob("*.parquet"))
        size = sum(file.stat().st_size for file in files) / 1e6
        yield Finding("data", name, f"{folder}: {len(files)} files, {size:.0f} MB")
    for folder, why in places(data_dir):
        there = folder is not None and folder.is_dir()
        state = "not set" if folder is None else f"{folder}: {'searched' if there else 'no such folder'}"
        wrong = why == "FEDSEP_DATA" and folder is not None and not there
        cure_it = "correct FEDSEP_DATA, or unset it" if wrong else ""
        yield Finding("data", f"looked in {why}", state, fine=not wrong, cure=cure_it)


def _engines() -> Iterator[Finding]:
    """Every engine that can be made without arguments; its module's ``unusable`` says why it cannot be used here."""
    import inspect

    from fedsep.cli.docstring import docstring
    from fedsep.cli.kinds import parts

    for path, engine in parts("engines"):
        parameters = inspect.signature(engine).parameters.values()
        if any(parameter.default is inspect.Parameter.empty for parameter in parameters):
            continue
        unusable = getattr(sys.modules[engine.__module__], "unusable", None)
        why = unusable() if unusable else ""
        state = f"not here: {why}" if why else docstring(engine).summary
        yield Finding("engines", path.rpartition(".")[2], state, fine=not why, cure=why)
