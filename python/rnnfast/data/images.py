"""Labelled images: files in the IDX format of MNIST, gzip or plain, and scikit-learn's digits.

N images of H rows and W columns.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rnnfast import checks

Pixels = NDArray[np.uint8]

_CHUNK = 1 << 20  # bytes read at a time
_GZIP = b"\x1f\x8b"
_KINDS = {1: "labels", 3: "images"}  # by the number of dimensions
_PARTS = {"training": ("train",), "test": ("t10k", "test")}  # what their files' names begin with
_EVERY = 5  # of scikit-learn's digits, which have no test images of their own, every fifth is one


@dataclass(frozen=True, eq=False)
class Images:
    """Images and their classes.

    Attributes
    ----------
    pixels : numpy.ndarray
        (N, H, W) uint8, 255 the brightest.
    classes : numpy.ndarray
        (N,) indices of the labels.
    """

    pixels: Pixels
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        """Return N."""
        return len(self.classes)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images to learn from and to test with.

    Attributes
    ----------
    training, held_out : Images
        All of the same height and width.
    labels : tuple of str
        Names of the classes.
    name, digest : str
        Where they came from, and a fingerprint.
    """

    training: Images
    held_out: Images
    labels: tuple[str, ...]
    name: str
    digest: str


def read_images(folder: str | Path) -> ImageSet:
    """Read a folder of four IDX files under MNIST's names.

    These are `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k` or
    `test` for `train`, each with or without `.gz`; `.idx3-ubyte` and `.idx` do as well.

    Raises
    ------
    OSError
        If the folder or a file cannot be read.
    TypeError
        If `folder` is no path.
    ValueError
        If a file is missing, damaged or of another kind, or if files do not fit together; the
        message names the file and the place.
    """
    checks.path("read_images: folder", folder)
    files = {
        (part, kind): _find(Path(folder), part, kind) for part in _PARTS for kind in _KINDS.values()
    }
    pixels, numbers = {}, {}
    for part in _PARTS:
        images, labels = files[part, "images"], files[part, "labels"]
        pixels[part], numbers[part] = read_idx(images, 3), read_idx(labels, 1)
        if len(pixels[part]) != len(numbers[part]):
            raise ValueError(
                f"{images}: {len(pixels[part]):,} images, but {labels} has "
                f"{len(numbers[part]):,} labels"
            )
        _check_size(images, pixels[part].shape, pixels["training"].shape)
    kinds = np.unique(numbers["training"])
    if len(kinds) < 2:
        raise ValueError(
            f"{files['training', 'labels']}: all labels are {kinds[0]}, expected at least 2 classes"
        )
    _check_labels(files["test", "labels"], numbers["test"], kinds)
    parts = {part: Images(pixels[part], np.searchsorted(kinds, numbers[part])) for part in _PARTS}
    return _image_set(parts["training"], parts["test"], tuple(map(str, kinds)), str(folder))


def _find(folder: Path, part: str, kind: str) -> Path:
    """Find a file by what its name begins with; of several, the first in alphabetical order."""
    beginnings = tuple(f"{name}-{kind}" for name in _PARTS[part])
    found = sorted(path for path in folder.iterdir() if path.name.startswith(beginnings))
    if not found:
        dimensions = next(number for number, name in _KINDS.items() if name == kind)
        usual = f"{beginnings[0]}-idx{dimensions}-ubyte"
        raise ValueError(f"{folder}: no file of {part} {kind} here, expected {usual} or {usual}.gz")
    return found[0]


def _check_size(path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if 0 in shape:
        raise ValueError(f"{path}: {' x '.join(map(str, shape))} pixels, expected at least one")
    if shape[1:] != expected[1:]:
        raise ValueError(
            f"{path}: images of {shape[1]} x {shape[2]} pixels, "
            f"but the training images have {expected[1]} x {expected[2]}"
        )


def _check_labels(path: Path, numbers: Pixels, kinds: Pixels) -> None:
    unknown = ~np.isin(numbers, kinds)
    if unknown.any():
        first = int(unknown.argmax())
        raise ValueError(
            f"{path}: label {numbers[first]} of image {first} (byte {8 + first}) is none of the "
            "training labels"
        )


def read_idx(path: str | Path, dimensions: int) -> Pixels:
    """Read a file of bytes in the IDX format, gzip or plain whatever its name.

    Parameters
    ----------
    path : str or Path
        The file.
    dimensions : int
        1 for labels, 3 for images.

    Returns
    -------
    numpy.ndarray
        uint8, in the shape that the file tells.

    Raises
    ------
    OSError
        If it cannot be read.
    TypeError
        If an argument is of the wrong type.
    ValueError
        If `dimensions` is neither, or the file is damaged or of another kind; the message names the
        byte.
    """
    checks.path("read_idx: path", path)
    if checks.integer("read_idx: dimensions", dimensions, 1) not in _KINDS:
        raise ValueError(f"read_idx: dimensions is {dimensions}, expected 1 or 3")
    content = _content(Path(path))
    kind, magic, start = _KINDS[dimensions], 0x0800 + dimensions, 4 + 4 * dimensions
    found = int.from_bytes(content[:4], "big")
    if len(content) >= 4 and found != magic:
        raise ValueError(
            f"{path}: magic number 0x{found:08x} at byte 0, expected 0x{magic:08x} (IDX {kind})"
        )
    if len(content) < start:
        raise ValueError(f"{path}: ends at byte {len(content)}, within the {start} of its header")
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    expected = start + math.prod(shape)
    if len(content) != expected:
        sizes = " x ".join(map(str, shape))
        raise ValueError(
            f"{path}: has {len(content):,} bytes, expected {expected:,} for {kind} of {sizes}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    """Read a file that may be compressed."""
    with open(path, "rb") as file:
        compressed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if not compressed:
            return file.read()
        with gzip.GzipFile(fileobj=file) as unpacked:
            return _unpack(unpacked, path)


def _unpack(file: gzip.GzipFile, path: Path) -> bytes:
    content = bytearray()
    try:
        while chunk := file.read(_CHUNK):
            content += chunk
    except EOFError:
        raise ValueError(
            f"{path}: truncated gzip file, it ends after some {len(content):,} unpacked bytes"
        ) from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path}: damaged gzip file after some {len(content):,} unpacked bytes ({error})"
        ) from None
    return bytes(content)


def small_digits() -> ImageSet:
    """Take the 1,797 digits of 8 x 8 pixels that come with scikit-learn; every fifth is held out.

    Raises
    ------
    ValueError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError(
            "the digits that come with scikit-learn need it: pip install 'rnnfast[digits]', or "
            "give a folder of IDX files with --data"
        ) from None
    digits = load_digits()
    pixels = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)
    classes = digits.target.astype(np.int64)
    held_out = np.arange(len(classes)) % _EVERY == _EVERY - 1
    return _image_set(
        Images(pixels[~held_out], classes[~held_out]),
        Images(pixels[held_out], classes[held_out]),
        tuple(map(str, digits.target_names)),
        "scikit-learn's digits",
    )


def _image_set(training: Images, held_out: Images, labels: tuple[str, ...], name: str) -> ImageSet:
    digest = hashlib.blake2b(repr(labels).encode(), digest_size=16)
    for part in (training, held_out):
        digest.update(repr(part.pixels.shape).encode())
        digest.update(part.pixels.tobytes())
        digest.update(part.classes.astype("<i8").tobytes())
    return ImageSet(training, held_out, labels, name, digest.hexdigest())
