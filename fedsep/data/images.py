"""Encoded images to one uint8 array."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from fedsep.core import FedSepError

if TYPE_CHECKING:
    from PIL.Image import Image

Size = int | tuple[int, int]
"""Height and width in pixels; one number for both."""

_GREY = ("1", "L", "LA")


class _Format(NamedTuple):
    """What all images shall be; without ``resize`` they must be of that size already."""

    height: int
    width: int
    resize: bool


def decode(
    blobs: Sequence[bytes | Path], size: Size | None, name: str, grey: bool | None = None
) -> npt.NDArray[np.uint8]:
    """Images as (n, channels, height, width): one channel if all are grey, else three.

    Args:
        blobs: Encoded images, or the files that hold them.
        size: What images are resized to (bilinear); None: they must have one size already.
        name: For messages.
        grey: Whether one channel is wanted; None: if all are grey.

    Raises:
        FedSepError: An image cannot be read, or sizes differ.
    """
    if not blobs:
        raise FedSepError(f"{name}: there are no images")
    wanted = _format(blobs[0], size, name)
    pixels = _decode(blobs, wanted, name, "L", strict=grey is None) if grey is not False else None
    if pixels is None:
        pixels = _decode(blobs, wanted, name, "RGB", strict=False)
    assert pixels is not None
    return pixels


def is_jpeg(blobs: Sequence[bytes | Path]) -> bool:
    """Whether the first image is a JPEG."""
    first = blobs[0]
    return (first if isinstance(first, bytes) else first.read_bytes()).startswith(b"\xff\xd8")


def _format(first: bytes | Path, size: Size | None, name: str) -> _Format:
    if size is None:
        image = _open(first, name, 0)
        return _Format(image.height, image.width, False)
    return _Format(size, size, True) if isinstance(size, int) else _Format(size[0], size[1], True)


def _open(blob: bytes | Path, name: str, number: int) -> Image:
    from PIL import Image, UnidentifiedImageError

    what = f"{name}: image {number}" if isinstance(blob, bytes) else str(blob)
    try:
        image = Image.open(io.BytesIO(blob) if isinstance(blob, bytes) else blob)
        image.load()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise FedSepError(f"{what} is not a readable image ({type(error).__name__}: {error})") from error
    if image.mode.startswith(("I", "F")):
        raise FedSepError(f"{what} has more than 8 bits per channel (mode {image.mode}): convert it to 8 bits")
    return image


def _decode(
    blobs: Sequence[bytes | Path], wanted: _Format, name: str, mode: str, strict: bool
) -> npt.NDArray[np.uint8] | None:
    """All images in one mode; None if ``strict`` and one of them has colour."""
    channels = 3 if mode == "RGB" else 1
    out = np.empty((len(blobs), wanted.height * wanted.width * channels), np.uint8)
    for number, blob in enumerate(blobs):
        image = _open(blob, name, number)
        if strict and image.mode not in _GREY:
            return None
        if image.mode != mode:
            image = image.convert("RGBA").convert(mode) if image.mode == "P" else image.convert(mode)
        out[number] = np.frombuffer(_sized(image, wanted, name, number).tobytes(), np.uint8)
    return np.ascontiguousarray(out.reshape(-1, wanted.height, wanted.width, channels).transpose(0, 3, 1, 2))


def _sized(image: Image, wanted: _Format, name: str, number: int) -> Image:
    size = (wanted.width, wanted.height)
    if image.size == size:
        return image
    if not wanted.resize:
        raise FedSepError(
            f"{name}: image {number} is {image.height} x {image.width} pixels, the first one "
            f"{wanted.height} x {wanted.width}: give size={max(wanted.height, wanted.width)} to resize all"
        )
    return image.resize(size, 2)  # bilinear
