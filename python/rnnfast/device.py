"""The GPU backend, where this build has one."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType


def _library_folders() -> list[Path]:
    """List where the packages of CUDA's libraries put them."""
    roots = [Path(folder) / "nvidia" for folder in sys.path]
    return [folder for root in roots if root.is_dir() for folder in root.glob("*/lib")]


@cache
def cuda() -> ModuleType:
    """Load the extension module.

    Raises
    ------
    RuntimeError
        If this build has none, it cannot be loaded, or there is no GPU that it can use.
    """
    try:
        module = import_module("._cuda", __package__)
    except ModuleNotFoundError as error:
        raise RuntimeError(
            "device is 'cuda', for which this build of rnnfast has no backend: build one with "
            "pip install . -C cmake.define.RNNFAST_CUDA=ON in the source folder, which needs nvcc"
        ) from error
    except ImportError as error:
        raise RuntimeError(f"device is 'cuda', whose backend cannot be loaded: {error}") from error
    module.require_device()
    for folder in _library_folders():
        module.add_cublaslt_folder(str(folder))
    return module
