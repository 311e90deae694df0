"""A module as a program of ``torch.export``, which runs where there is torch and nothing else."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


def save_program(module: nn.Module, x: Tensor, file: Path) -> tuple[nn.Module | None, str]:
    """Writes a module as a program that takes batches of any size.

    Args:
        module: In evaluation mode.
        x: Two inputs or more.
        file: ``.pt2``.

    Returns:
        The program as it is read back, or None and why the module could not be followed.
    """
    batch = torch.export.Dim("batch")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.export warns of its own inner workings
            program = torch.export.export(module, (x,), dynamic_shapes=({0: batch},))
            torch.export.save(program, file)
            return torch.export.load(file).module(), ""
    except Exception as error:  # whatever a module of the user's own does that cannot be followed
        file.unlink(missing_ok=True)
        lines = str(error).strip().splitlines()
        return None, f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
