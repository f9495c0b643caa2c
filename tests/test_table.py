"""CSV columns: read as written, and refused in one line that names file and line."""

import re

import numpy as np
import pytest

from rnnfast.data import read_series, waves


def write(folder, content):
    path = folder / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "column", "expected"),
    [
        ('"Month","Spots"\n"1749-01",58.0\n"1749-02",62.6\n', "Spots", [58.0, 62.6]),
        ("a,b,c\n1,2,x\n3,4,y\n", "b", [2, 4]),
        ("a,b,c\r\n1,-2e3,x\r\n\r\n3, 4 ,y", "b", [-2000, 4]),
        ('\ufeffa,"b, c"\n1,"5"\n', "b, c", [5]),
        ('a,b\n"two\nlines",5\nx,6\n', "b", [5, 6]),
    ],
    ids=["quoted", "plain", "line ends", "byte-order mark", "line in a cell"],
)
@pytest.mark.parametrize("named", [True, False])
def test_columns_read_as_written(tmp_path, content, column, expected, named):
    """The column is the last one that has numbers, so that its name may be left out."""
    path = write(tmp_path, content)
    series = read_series(path, column if named else None)
    assert series.values.dtype == np.float64
    np.testing.assert_array_equal(series.values, expected)
    assert (series.column, series.name) == (column, str(path))


def test_another_column_is_read_where_named(tmp_path):
    series = read_series(write(tmp_path, "a,b\n1,2\n3,4\n"), "a")
    np.testing.assert_array_equal(series.values, [1, 3])


def test_the_fingerprint_tells_values_and_column(tmp_path):
    digests = {
        read_series(write(tmp_path, content)).digest
        for content in ("a\n1\n2\n", "a\n1\n2.5\n", "b\n1\n2\n")
    }
    assert len(digests) == 3
    assert read_series(write(tmp_path, "x,a\n0,1\n0,2\n")).digest in digests


# What is in the file, which column is asked for, and what is said.
BAD = {
    "empty": ("", None, "the file is empty, expected a header"),
    "no header": ("1,2\n3,4\n", None, "line 1 has numbers alone, expected a header of names"),
    "no row": ("a,b\n\n", None, "no row below the header"),
    "no column": ("a,b\n1,2\n", "c", "no column 'c' in line 1, which has a, b"),
    "twice": ("a,a\n1,2\n", "a", "2 columns 'a' in line 1, which has a, a"),
    "ragged": ("a,b\n1,2\n3\n", None, "line 3 has 1 values, expected 2 as in the header"),
    "too wide": ("a,b\n1,2\n\n3,4,5\n", "a", "line 4 has 3 values, expected 2 as in the header"),
    "text": ("a,b\n1,2\n3,x\n", None, "line 3: b is 'x', expected a finite number"),
    "missing": ("a,b\n1,2\n3,\n", None, "line 3: b is '', expected a finite number"),
    "NaN": ("a,b\n1,2\n3,NaN\n", None, "line 3: b is 'NaN', expected a finite number"),
    "infinite": ("a\n1\n-inf\n", None, "line 3: a is '-inf', expected a finite number"),
    "no number": ("a,b\nx,y\n", None, "line 2 has no number, expected one in some column"),
    "quote": ('a,b\n1,2\n"3,4\n', None, "line 3: no CSV"),
    "encoding": (b"a,b\n1,2\n\xff,4\n", None, "line 3: not UTF-8 at byte 8"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_with_the_line(tmp_path, name):
    content, column, message = BAD[name]
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_series(path, column)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_series(tmp_path / "nothing.csv")


def test_waves_follow_their_formula():
    series = waves(4000, seed=1)
    t = np.arange(4000)
    swell = 4 + np.sin(2 * np.pi * t / 97)
    clean = 10 + swell * (np.sin(2 * np.pi * t / 25) + 0.5 * np.sin(2 * np.pi * t / 11.3))
    noise = (series.values - clean) / 0.5
    assert abs(noise.mean()) < 0.06 and abs(noise.std() - 1.0) < 0.05
    assert series.digest == waves(4000, seed=1).digest != waves(4000, seed=2).digest
