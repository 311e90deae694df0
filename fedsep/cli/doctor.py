"""``fedsep doctor``: what is here, what is missing, and how to get it."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

from fedsep.cli.diagnosis import Finding, as_json, diagnose, healthy
from fedsep.cli.entry import DONE, FAILED


def doctor(data_dir: Path | None, as_line: bool) -> int:
    """Shows all findings.

    Returns:
        0 if fedsep can be used here, 1 if something that it needs is missing or wrong.

    Raises:
        FedSepError: There is no such folder.
    """
    if data_dir is not None and not data_dir.is_dir():
        from fedsep.core import FedSepError  # which needs torch, whose absence is to be told rather than met

        raise FedSepError(f"--data-dir: there is no folder {data_dir}")
    findings = diagnose(data_dir)
    print(json.dumps(as_json(findings)) if as_line else text(findings))
    return DONE if healthy(findings) else FAILED


def text(findings: list[Finding]) -> str:
    """The findings for a reader: each section, then what to do."""
    lines: list[str] = []
    for section, group in groupby(findings, lambda finding: finding.section):
        found = list(group)
        width = max(len(finding.name) for finding in found)
        lines += [f"{section}:", *(f"  {_mark(f)} {f.name:<{width}}  {f.state}" for f in found), ""]
    return "\n".join([*lines, *_advice(findings)])


def _mark(finding: Finding) -> str:
    return "+" if finding.fine else "!" if finding.needed else "-"


def _advice(findings: list[Finding]) -> list[str]:
    cures = [f for f in findings if not f.fine and f.cure]
    told = {f.cure: f for f in reversed(cures)}  # an extra's packages have one cure
    lines = [f"  {'needed' if f.needed else 'optional'}: {f.name}: {f.cure}" for f in reversed(told.values())]
    verdict = "fedsep can be used here." if healthy(findings) else "fedsep cannot be used here as it is."
    return [*(["To get what is missing:", *lines, ""] if lines else []), verdict]
