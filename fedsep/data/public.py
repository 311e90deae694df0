"""Data without labels that server and clients share: a held-out slice, or another data set. None of it is private."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from fedsep.core import FedSepError, Samples
from fedsep.data.drawing import order
from fedsep.data.normalise import Constants, Standard
from fedsep.data.parts import Indices
from fedsep.data.source import Array, Source

_BYTES = 16  # of a fingerprint: two different inputs have the same one with a probability of 2^-128


def fingerprints(x: Array) -> list[bytes]:
    """A hash of every input's bytes."""
    return [blake2b(row.tobytes(), digest_size=_BYTES).digest() for row in np.ascontiguousarray(x)]


def slice_of(source: Source, rest: Indices, count: int, key: Tensor) -> tuple[Indices, Indices]:
    """Positions that stay and ``count`` uniformly chosen ones that become public, both increasing.

    An input that occurs elsewhere in the data set, in training or test data, does not become public.

    Raises:
        FedSepError: There are not so many, or no training samples would be left.
    """
    own = fingerprints(source.x)
    often = Counter(own) + Counter([] if source.x_test is None else fingerprints(source.x_test))
    once = rest[np.array([often[own[row]] == 1 for row in rest.tolist()], dtype=bool)]
    if count > len(once) or count >= len(rest):
        raise FedSepError(
            f"public must leave training samples, and none of it may occur elsewhere in the data (got {count:,}, of "
            f"{len(rest):,} samples that are left, {len(once):,} of which occur once)"
        )
    public = np.sort(once[order(key, len(once))[:count]])
    return np.setdiff1d(rest, public, assume_unique=True), public


def unlabelled(x: Array, constants: Constants, standard: Standard | None) -> Samples:
    """Inputs as the private ones are normalised, with targets that say nothing."""
    inputs = torch.from_numpy(np.ascontiguousarray(x)) if standard is None else standard.apply(x)
    return Samples(inputs, torch.zeros(len(x), dtype=torch.int64), *constants)


def other_set(name: str, parts: Iterable[Tensor], source: Source, constants: Constants) -> Samples:
    """Another data set's images, normalised as the private ones are.

    Raises:
        FedSepError: They are no images of the same shape, or some of them are among the private or the test data.
    """
    images = torch.cat(list(parts)).cpu().numpy()
    if source.x.dtype != np.uint8 or images.dtype != np.uint8 or images.shape[1:] != source.x.shape[1:]:
        raise FedSepError(
            f"public must be images like those of {source.name}: whole-numbered pixels of shape {source.x.shape[1:]} "
            f"(got {name}, {images.dtype} of shape {images.shape[1:]}). public: N holds out training samples instead"
        )
    known = set(fingerprints(source.x)) | set([] if source.x_test is None else fingerprints(source.x_test))
    both = sum(each in known for each in fingerprints(images))
    if both:
        raise FedSepError(in_common(source.name, name, both, len(images), "images"))
    return unlabelled(images, constants, None)


def in_common(private: str, public: str, both: int, count: int, what: str) -> str:
    """The sentence about public data of which some are private, or are tested on."""
    return (
        f"public must have nothing in common with the private and the test data of {private} "
        f"(got {public}, with {both:,} of its {count:,} {what} among them)"
    )
