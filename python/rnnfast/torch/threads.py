"""The threads that PyTorch's operators run on."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch

_FUNCTIONS = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
_FORKED_WITHOUT_EXEC = 0x40  # Linux's PF_FORKNOEXEC
_FLAGS = 6  # their place in /proc/self/stat, after the name


def _was_forked() -> bool:
    """Tell whether a runtime may believe that it has threads, which only the parent has."""
    try:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        return bool(int(fields[_FLAGS]) & _FORKED_WITHOUT_EXEC)
    except (OSError, ValueError, IndexError):
        return True


def _functions(library: ctypes.CDLL) -> tuple[int, int, int] | None:
    addresses = []
    for name in _FUNCTIONS:
        try:
            addresses.append(ctypes.cast(library[name], ctypes.c_void_p).value or 0)
        except AttributeError:
            return None
    parallel, thread_num, num_threads = addresses
    return (parallel, thread_num, num_threads) if all(addresses) else None


@cache
def find_openmp() -> tuple[int, int, int] | None:
    """Find the functions of the OpenMP runtime that PyTorch uses; None if there is none.

    Its threads go on spinning for some milliseconds after each operator, on the cores that other
    threads would need. Names are looked up in the linker's order: what was loaded for all first,
    then what PyTorch's library was linked with.
    """
    if _was_forked() or "ATen parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return None
    found = _functions(ctypes.CDLL(None))
    if found is not None:
        return found
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    except OSError:
        return None
    return _functions(library)
