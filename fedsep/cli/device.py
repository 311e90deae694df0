"""Whether what the user wants to compute on is there."""

from __future__ import annotations

import os

from fedsep.core import FedSepError


def use_device(name: str) -> None:
    """Makes a device torch's default, if this machine has it.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        FedSepError: There is none of this name, torch cannot use it here, or torchrun started several processes that
            would share it.
    """
    import torch

    shared = crowded(name, _started_here(), torch.cuda.device_count())
    if shared:
        raise FedSepError(f"--device: {shared}")
    name = own(name)
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and (kind != "cuda" or not number.isdecimal())):
        raise FedSepError(f"--device: must be cpu, cuda, cuda:N or mps (got {name!r})")
    why = lacking(kind, int(number or 0))
    if why:
        raise FedSepError(f"--device: {name} cannot be used here: {why} (cpu always can)")
    if kind != "cpu":
        torch.set_default_device(name)


def own(name: str) -> str:
    """The device of this process: under torchrun, ``cuda`` is the GPU of its number on this machine."""
    local = os.environ.get("LOCAL_RANK", "")
    return f"cuda:{local}" if name == "cuda" and local.isdecimal() else name


def crowded(name: str, processes: int, devices: int) -> str:
    """Why so many processes on one machine cannot have a GPU each; empty if they can, or want none.

    Args:
        name: The device that was asked for.
        processes: That torchrun started on this machine.
        devices: GPUs that torch sees there.
    """
    kind, _, number = name.partition(":")
    if kind != "cuda" or processes < 2 or not devices:  # that there is none is said elsewhere
        return ""
    if number:
        return f"{processes} processes on this machine cannot share {name}: with cuda, each has a GPU of its own"
    if processes > devices:
        return (
            f"torchrun started {processes} processes on this machine, and torch sees {devices} "
            f"GPU{'s' * (devices != 1)} here: one process has one GPU, so start no more (--nproc-per-node {devices})"
        )
    return ""


def _started_here() -> int:
    count = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(count) if count.isdecimal() else 1


def lacking(kind: str, number: int = 0) -> str:
    """Why torch cannot use ``cuda`` or ``mps`` here; empty if it can, as it always can ``cpu``."""
    return "" if kind == "cpu" else _lacking_mps() if kind == "mps" else _lacking_cuda(number)


def _lacking_cuda(number: int) -> str:
    import torch

    if not torch.backends.cuda.is_built():
        return f"torch {torch.__version__} was built without CUDA"
    count = torch.cuda.device_count()
    return "" if number < count else f"torch sees {count or 'no'} CUDA device{'s' * (count != 1)}"


def _lacking_mps() -> str:
    import torch

    return "" if torch.backends.mps.is_available() else "this is no Apple GPU, or torch was built without it"
