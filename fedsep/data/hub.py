"""Data sets from the Hugging Face hub: fetched only when the user says so, with the extra ``hf``."""

from __future__ import annotations

import os
from pathlib import Path

from fedsep.core import FedSepError
from fedsep.data.search import cache_root


def download(name: str, repository: str) -> Path:
    """Fetches a data set's parquet files into the user's cache.

    An interrupted download is resumed by the next call, and is not taken for data before it is whole.

    Args:
        name: Of the folder in the cache.
        repository: ``owner/name`` on the hub.

    Raises:
        FedSepError: The extra is not installed, there is no cache folder, or the hub does not answer.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise FedSepError(f"{name}: downloading needs the extra hf: pip install 'fedsep[hf]'") from error
    root = cache_root()
    if root is None:
        raise FedSepError(f"{name}: there is no home folder to download into, set XDG_CACHE_HOME")
    partial, folder = root / f".{name}.partial", root / name
    try:
        partial.mkdir(parents=True, exist_ok=True)
        snapshot_download(repo_id=repository, repo_type="dataset", allow_patterns=["*.parquet"], local_dir=partial)
        if next(partial.rglob("*.parquet"), None) is None:
            raise FedSepError(f"{name}: {repository} on the Hugging Face hub has no parquet files")
        os.replace(partial, folder)
    except FedSepError:
        raise
    except Exception as error:  # whatever the hub's client raises, the user can do one thing about it
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FedSepError(
            f"{name}: {repository} could not be downloaded from the Hugging Face hub ({reason})"
        ) from error
    return folder
