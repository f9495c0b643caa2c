"""The GPU's own clock, and what is known of the GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import torch

NAMES = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw")


def seconds(run: Callable[[int], object], calls: int) -> float:
    """Tell the time of a call where `run` queues some, from the first one's start on the GPU."""
    event: Any = torch.cuda.Event
    start, end = event(enable_timing=True), event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    run(calls)
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / calls


def device() -> torch.device:
    """Return the GPU that is measured.

    Raises
    ------
    ValueError
        If PyTorch has none.
    """
    if not torch.cuda.is_available():
        raise ValueError(
            f"--device cuda needs a GPU and PyTorch with CUDA, not {torch.__version__}"
        )
    return torch.device("cuda", 0)


def describe(where: torch.device) -> dict[str, Any]:
    """Tell what times on the GPU depend on; clocks and power are those of this moment."""
    cudnn: Any = torch.backends.cudnn
    found = {
        "gpu": torch.cuda.get_device_name(where),
        "capability": ".".join(map(str, torch.cuda.get_device_capability(where))),
        "cuda": str(torch.version.cuda),
        "cudnn": str(cudnn.version()),
        "persistent": os.environ.get("RNNFAST_CUDA_PERSISTENT") == "1",
    }
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return found
    command = [tool, "--id=0", f"--query-gpu={','.join(NAMES)}", "--format=csv,noheader"]
    values = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return found | dict(zip(NAMES, map(str.strip, values.split(",")), strict=False))
