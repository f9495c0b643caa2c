"""Checkpoints: one safetensors file of arrays and a JSON description, replaced atomically.

The file's arrays are named `group.name` (`model.…`, `optimizer.…`, `state.…`); its description
stands in the safetensors metadata under the key `rnnfast`. `save_weights` and `load_weights` are
for files of arrays alone, as other programs write and read them.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import checks

Arrays = Mapping[str, NDArray[Any]]

# What safetensors calls the types that NumPy has.
_KINDS = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")

FORMAT = 2  # raised when an older reader could not understand what is written


@dataclass(frozen=True)
class Checkpoint:
    """What is in a file.

    Attributes
    ----------
    kind : str
        The system that was trained, such as `text`.
    groups : mapping of str to mapping of str to numpy.ndarray
        Arrays by group and name.
    description : dict
        Everything that is not an array; values that JSON can hold.
    """

    kind: str
    groups: Mapping[str, Arrays]
    description: dict[str, Any]


def save(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint so that a crash at any moment leaves the old file or the new one.

    Parameters
    ----------
    path : str or Path
        The file; its folder must exist.
    checkpoint : Checkpoint
        What to write.

    Raises
    ------
    OSError
        If it cannot be written, as when the disk is full; the old file is left then.
    TypeError
        If `path` is no path, `checkpoint` no Checkpoint, or JSON cannot hold its description.
    ValueError
        If an array is of a type that the file cannot hold.
    """
    checks.path("save: path", path)
    checks.instance("save: checkpoint", checkpoint, Checkpoint, "a Checkpoint")
    arrays = {
        f"{group}.{name}": array
        for group, members in checkpoint.groups.items()
        for name, array in members.items()
    }
    header = {"format": FORMAT, "kind": checkpoint.kind, **checkpoint.description}
    try:
        description = json.dumps(header)
    except TypeError as error:
        raise TypeError(f"save: description is not for JSON: {error}") from None
    _write(path, arrays, {"rnnfast": description})


def load(path: str | Path, kind: str | None = None) -> Checkpoint:
    """Read a checkpoint.

    Parameters
    ----------
    path : str or Path
        The file.
    kind : str, optional
        The system expected.

    Returns
    -------
    Checkpoint
        With arrays of its own.

    Raises
    ------
    OSError
        If the file cannot be read.
    TypeError
        If `path` is no path, or `kind` no string.
    ValueError
        If it is truncated, not a checkpoint of this library, of a later format, or of another
        kind.
    """
    checks.path("load: path", path)
    if kind is not None:
        checks.string("load: kind", kind)
    metadata, arrays = _read(path, "", "a checkpoint")
    description = _description(path, metadata)
    found = description.pop("kind")
    if kind is not None and found != kind:
        raise ValueError(f"{path}: a checkpoint of kind {found!r}, expected {kind!r}")
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in arrays.items():
        group, _, member = name.partition(".")
        groups.setdefault(group, {})[member] = array
    return Checkpoint(found, groups, description)


def save_weights(path: str | Path, weights: Arrays) -> None:
    """Write arrays alone, as `safetensors` of other frameworks reads them.

    Parameters
    ----------
    path : str or Path
        The file; its folder must exist. It is replaced as by `save`.
    weights : mapping of str to numpy.ndarray
        Such as the ``state_dict()`` of a layer or model.

    Raises
    ------
    OSError
        If it cannot be written; the old file is left then.
    TypeError
        If `path` is no path, or `weights` no mapping of names to arrays.
    ValueError
        If an array is of a type that the file cannot hold.
    """
    checks.path("save_weights: path", path)
    checks.instance("save_weights: weights", weights, Mapping, "a mapping of names to arrays")
    _write(path, weights, None)


def load_weights(path: str | Path, prefix: str = "") -> dict[str, NDArray[Any]]:
    """Read arrays from any safetensors file; those of bfloat16 become float32.

    Parameters
    ----------
    path : str or Path
        The file.
    prefix : str
        Read the names that begin so, and cut it off: ``"encoder.lstm."`` for one module of a
        model, ``"model."`` for a checkpoint of `save`.

    Returns
    -------
    dict of str to numpy.ndarray
        For ``load_state_dict``.

    Raises
    ------
    OSError
        If the file cannot be read.
    TypeError
        If `path` is no path, or `prefix` no string.
    ValueError
        If it is truncated or no safetensors file, if no name begins with the prefix, or an array's
        type is none of NumPy's.
    """
    checks.path("load_weights: path", path)
    checks.string("load_weights: prefix", prefix)
    _, arrays = _read(path, prefix, "a safetensors file")
    return {name.removeprefix(prefix): array for name, array in arrays.items()}


def _write(path: str | Path, arrays: Arrays, metadata: dict[str, str] | None) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save as serialise

    for name in arrays:
        checks.string(f"{path}: name of an array", name)
    contiguous = {name: _contiguous(f"{path}: {name}", array) for name, array in arrays.items()}
    try:
        content = serialise(contiguous, metadata)
    except SafetensorError:
        _check_dtypes(path, contiguous)  # which tells what safetensors does not: the array
        raise
    write_atomically(path, content)


def _contiguous(what: str, given: Any) -> NDArray[Any]:
    try:
        return np.asarray(given, order="C")
    except ValueError:
        raise ValueError(f"{what} is no array, expected one") from None


def _check_dtypes(path: str | Path, arrays: Arrays) -> None:
    """Refuse the first array that safetensors has no type for."""
    from safetensors import SafetensorError
    from safetensors.numpy import save as serialise

    for name, array in arrays.items():
        try:
            serialise({name: np.empty(0, array.dtype)})
        except SafetensorError:
            raise ValueError(
                f"{path}: {name} has dtype {array.dtype}, "
                "expected bool, integers, floats of 16 to 64 bits or complex64"
            ) from None


def _read(
    path: str | Path, prefix: str, expected: str
) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Metadata and the arrays whose names begin with `prefix`."""
    from safetensors import SafetensorError, safe_open

    _check_regular(path)
    with open(path, "rb"):  # safetensors' own error for a missing or forbidden file says less
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            every = list(file.keys())
            names = [name for name in every if name.startswith(prefix)]
            kinds = {name: file.get_slice(name).get_dtype() for name in names}
            arrays = {name: file.get_tensor(name) for name in names if kinds[name] in _KINDS}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: truncated, or not {expected} ({error})") from None
    if prefix and not names:
        some = ", ".join(every[:3]) or "there are none"
        raise ValueError(f"{path}: no array's name begins with {prefix!r}: {some}")
    halves = [name for name in names if kinds[name] == "BF16"]
    arrays |= _read_bfloat16(path, halves) if halves else {}
    for name in names:
        if name not in arrays:
            known = (*_KINDS, "BF16")
            raise ValueError(f"{path}: {name} is stored as {kinds[name]}, expected one of {known}")
    return metadata, arrays


def _read_bfloat16(path: str | Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read what NumPy has no type for as float32, of which it is the upper half."""
    arrays = {}
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        for name in names:
            start, end = header[name]["data_offsets"]
            file.seek(8 + size + start)
            halves = np.frombuffer(file.read(end - start), "<u2").astype(np.uint32)
            arrays[name] = (halves << 16).view(np.float32).reshape(header[name]["shape"])
    return arrays


def _description(path: str | Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        description: dict[str, Any] = json.loads(metadata["rnnfast"])
        version = description.pop("format")
        kind = description["kind"]
    except (KeyError, ValueError, TypeError, AttributeError):
        raise ValueError(f"{path}: a safetensors file, but not a checkpoint of rnnfast") from None
    if not isinstance(kind, str) or version != FORMAT:
        raise ValueError(f"{path}: checkpoint format {version}, this version reads {FORMAT}")
    return description


def write_atomically(path: str | Path, content: bytes) -> None:
    """Replace a file by a temporary one that has reached the disk; errors as in `save`."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)  # a full disk comes without a name
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself last; only POSIX systems can open a folder."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_regular(path: str | Path) -> None:
    """Refuse what is no file: a device would be replaced by one, reading a pipe would not end."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))


def check_writable(path: str | Path) -> None:
    """Fail now rather than after the training.

    Parameters
    ----------
    path : str or Path
        The file to be written later; nothing is left there now.

    Raises
    ------
    OSError
        If a file could not be written there, or what is there is no regular file.
    TypeError
        If `path` is no path.
    """
    checks.path("check_writable: path", path)
    path = Path(path)
    if path.exists():
        _check_regular(path)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        error.filename = str(path.parent)
        raise
