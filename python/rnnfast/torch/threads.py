"""The threads that PyTorch's operators run on."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

from rnnfast import _core

_FUNCTIONS = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")


def share() -> bool:
    """Run the kernels on PyTorch's OpenMP threads, and tell whether it has some.

    These go on spinning for some milliseconds after each operator, on the cores that threads of the
    kernels' own would need. The runtime is the one that PyTorch's library was linked with.
    """
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        library = ctypes.CDLL(str(path))
        addresses = [ctypes.cast(library[name], ctypes.c_void_p).value for name in _FUNCTIONS]
    except (OSError, AttributeError):
        return False  # another kind of build
    _core.use_openmp(*[address or 0 for address in addresses])
    return True
