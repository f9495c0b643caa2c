"""The GPU's own clock, and what is known of the GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import torch

NAMES = ("driver_version", "clocks.max.sm", "clocks.max.mem", "power.limit")


def seconds(run: Callable[[int], object], calls: int) -> float:
    """Tell the time of a call where `run` queues some on an idle GPU."""
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
    """Tell what times on the GPU depend on."""
    cudnn: Any = torch.backends.cudnn
    found = {
        "gpu": torch.cuda.get_device_name(where),
        "capability": ".".join(map(str, torch.cuda.get_device_capability(where))),
        "cuda": str(torch.version.cuda),
        "cudnn": str(cudnn.version()),
        "persistent": os.environ.get("RNNFAST_CUDA_PERSISTENT") == "1",
    }
    uuid = getattr(torch.cuda.get_device_properties(where), "uuid", None)
    return found if uuid is None else found | _ask(f"GPU-{uuid}")


def _ask(gpu: str) -> dict[str, str]:
    """Ask the driver's tool, which numbers GPUs in its own way."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    command = [tool, f"--id={gpu}", f"--query-gpu={','.join(NAMES)}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    values = [value.strip() for value in done.stdout.split(",")]
    return dict(zip(NAMES, values, strict=True)) if done.returncode == 0 else {}
