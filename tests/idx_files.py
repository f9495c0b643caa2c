"""Small files in the format of MNIST."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def idx(array: NDArray[Any]) -> bytes:
    """Write an array of bytes as IDX."""
    magic = 0x0800 + array.ndim
    header = np.array([magic, *array.shape], ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def bars(count: int, classes: int, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make images of 9 x 7 pixels that have a bright row, by their class, and noise."""
    labels = np.arange(count) % classes
    pixels = rng.integers(0, 60, (count, 9, 7))
    pixels[np.arange(count), 1 + 2 * labels] += 150
    return pixels, labels


def write_folder(
    folder: Path, rng: np.random.Generator, counts: tuple[int, int] = (60, 30)
) -> dict[str, Path]:
    """Write four files, those of training images compressed; return them by a short name."""
    files = {}
    for name, count in zip(("train", "t10k"), counts, strict=True):
        pixels, labels = bars(count, 3, rng)
        files[f"{name} images"] = folder / f"{name}-images-idx3-ubyte"
        files[f"{name} labels"] = folder / f"{name}-labels-idx1-ubyte"
        files[f"{name} images"].write_bytes(idx(pixels))
        files[f"{name} labels"].write_bytes(idx(labels))
    images = files["train images"]
    files["train images"] = images.rename(images.with_suffix(".gz"))
    files["train images"].write_bytes(gzip.compress(files["train images"].read_bytes()))
    return files
