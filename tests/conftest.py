"""What every test has: double precision, one thread, and real data where a data folder is found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Also for what test modules build while they are collected; the fixture below guards against tests that change it.
torch.set_default_dtype(torch.float64)
# One intra-op thread where bits are compared; two test processes share two cores.
torch.set_num_threads(1)

# Processes that tests start run the code of this checkout, whatever is installed.
ROOT = Path(__file__).resolve().parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

settings.register_profile("here", deadline=None)
settings.register_profile("everywhere-the-same", deadline=None, derandomize=True)
settings.load_profile("everywhere-the-same" if os.environ.get("CI") else "here")


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """float64 by default in every test, and in what the next module builds, whatever a test or fixture did."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float64)


def data_folder(name: str) -> Path:
    """The data folder that holds ``name``: FEDSEP_DATA, or a data folder beside the checkout."""
    folders = [Path(os.environ["FEDSEP_DATA"])] if os.environ.get("FEDSEP_DATA") else []
    folders.append(ROOT.parent / "shared" / "data")
    for folder in folders:
        if (folder / name).is_dir():
            return folder
    pytest.skip(f"{name} is not in a data folder beside the checkout, nor in FEDSEP_DATA")


@pytest.fixture(scope="session")
def mnist() -> Path:
    """A folder that holds MNIST, to be given as ``data_dir``; the test is skipped where there is none."""
    return data_folder("mnist")


@pytest.fixture(scope="session")
def cifar10() -> Path:
    """A folder that holds CIFAR-10, to be given as ``data_dir``; the test is skipped where there is none."""
    return data_folder("cifar10")
