"""Images in the IDX format: read as written, and refused in one line that names file and place."""

import gzip
import sys

import numpy as np
import pytest

from idx_files import bars, idx, write_folder
from rnnfast.data import read_idx, read_images, small_digits


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "x.gz", "noname"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_files_read_as_written_whatever_their_name(tmp_path, rng, name, pack):
    pixels = rng.integers(0, 256, (5, 4, 3))
    (tmp_path / name).write_bytes(pack(idx(pixels)))
    read = read_idx(tmp_path / name, 3)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)


def test_a_folder_is_read(tmp_path, rng):
    seed = rng.integers(1000)
    write_folder(tmp_path, np.random.default_rng(seed))
    images = read_images(tmp_path)
    rng = np.random.default_rng(seed)
    for part, count in ((images.training, 60), (images.held_out, 30)):
        pixels, labels = bars(count, 3, rng)
        np.testing.assert_array_equal(part.pixels, pixels)
        np.testing.assert_array_equal(part.classes, labels)
        assert len(part) == count
    assert images.labels == ("0", "1", "2")
    assert images.name == str(tmp_path)


@pytest.mark.parametrize(
    ("short", "name"),
    [
        ("t10k images", "test-images-idx3-ubyte"),
        ("t10k images", "t10k-images.idx3-ubyte"),
        ("t10k labels", "test-labels.idx"),
        ("train images", "train-images-idx3-ubyte.gz"),
    ],
)
def test_other_names_do_as_well(tmp_path, rng, short, name):
    files = write_folder(tmp_path, rng)
    expected = read_images(tmp_path).digest
    files[short].rename(tmp_path / name)
    assert read_images(tmp_path).digest == expected


def test_classes_are_numbered_without_gaps(tmp_path, rng):
    files = write_folder(tmp_path, rng)
    for part in ("train", "t10k"):
        labels = read_idx(files[f"{part} labels"], 1)
        files[f"{part} labels"].write_bytes(idx(np.array([3, 7, 30])[labels]))
    images = read_images(tmp_path)
    assert images.labels == ("3", "7", "30")
    assert sorted(set(images.training.classes)) == [0, 1, 2]


@pytest.mark.parametrize("place", [0, 59])
def test_the_fingerprint_tells_other_pixels(tmp_path, rng, place):
    files = write_folder(tmp_path, rng)
    before = read_images(tmp_path).digest
    pixels = read_idx(files["train images"], 3).copy()
    pixels[place, 1, 1] ^= 1
    files["train images"].write_bytes(idx(pixels))
    assert read_images(tmp_path).digest != before


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def change(path, place, value):
    content = bytearray(path.read_bytes())
    content[place] = value
    path.write_bytes(content)


# What is done to the files, which one is named, and what is said of it.
BAD = {
    "missing": (lambda f: f["t10k labels"].unlink(), "", "no file of test labels here,"),
    "exchanged": (
        lambda f: f["t10k images"].write_bytes(f["t10k labels"].read_bytes()), "t10k images",
        r"magic number 0x00000801 at byte 0, expected 0x00000803 \(IDX images\)",
    ),
    "other type": (lambda f: change(f["t10k labels"], 2, 9), "t10k labels", "0x00000901 at byte 0"),
    "empty": (lambda f: cut(f["t10k images"], 0), "t10k images", "ends at byte 0, within the 16"),
    "header": (lambda f: cut(f["t10k images"], 15), "t10k images", "ends at byte 15, within the"),
    "short": (
        lambda f: cut(f["t10k images"], 1000), "t10k images",
        "has 1,000 bytes, expected 1,906 for images of 30 x 9 x 7",
    ),
    "long": (
        lambda f: f["t10k labels"].write_bytes(f["t10k labels"].read_bytes() + b"\0"),
        "t10k labels", "has 39 bytes, expected 38 for labels of 30",
    ),
    "huge": (
        lambda f: change(f["t10k images"], 4, 255), "t10k images",
        "has 1,906 bytes, expected 269,525,976,946 for images of 4278190110 x 9 x 7",
    ),
    "truncated gzip": (
        lambda f: cut(f["train images"], 500), "train images",
        r"truncated gzip file, it ends after some [\d,]+ unpacked bytes",
    ),
    "damaged gzip": (
        lambda f: change(f["train images"], -6, f["train images"].read_bytes()[-6] ^ 1),
        "train images", "damaged gzip file after some .* unpacked bytes",
    ),
    "counts": (
        lambda f: f["train labels"].write_bytes(idx(np.arange(59) % 3)), "train images",
        "60 images, but .*train-labels-idx1-ubyte has 59 labels",
    ),
    "one class": (
        lambda f: f["train labels"].write_bytes(idx(np.full(60, 4))), "train labels",
        "all labels are 4, expected at least 2 classes",
    ),
    "unknown class": (
        lambda f: change(f["t10k labels"], 8 + 17, 9), "t10k labels",
        r"label 9 of image 17 \(byte 25\) is none of the training labels",
    ),
    "size": (
        lambda f: f["t10k images"].write_bytes(idx(np.zeros((30, 7, 9)))), "t10k images",
        "images of 7 x 9 pixels, but the training images have 9 x 7",
    ),
    "no pixels": (
        lambda f: f["t10k images"].write_bytes(idx(np.zeros((30, 9, 0)))), "t10k images",
        "30 x 9 x 0 pixels, expected at least one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_with_the_place(tmp_path, rng, name):
    files = write_folder(tmp_path, rng)
    damage, short, message = BAD[name]
    damage(files)
    with pytest.raises(ValueError, match=message) as caught:
        read_images(tmp_path)
    assert str(caught.value).startswith(f"{files.get(short, tmp_path)}: ")


def test_a_file_is_no_folder(tmp_path, rng):
    files = write_folder(tmp_path, rng)
    with pytest.raises(NotADirectoryError):
        read_images(files["t10k labels"])


def test_small_digits_come_with_scikit_learn():
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    images = small_digits()
    assert (len(images.training), len(images.held_out)) == (1438, 359)
    assert images.training.pixels.shape[1:] == (8, 8)
    assert images.labels == tuple("0123456789")
    assert {images.training.pixels.min(), images.training.pixels.max()} == {0, 255}
    assert images.digest == small_digits().digest


def test_without_scikit_learn_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match=r"pip install .rnnfast\[digits\]., or give a folder"):
        small_digits()
