"""What ``rnnfast bench --device cuda`` does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rnnfast.torch
from rnnfast.bench import report as common
from rnnfast.bench.gpu import clock, report
from rnnfast.bench.gpu.measure import Measurement, measure_case
from rnnfast.bench.gpu.subjects import subjects
from rnnfast.bench.grid import Case
from rnnfast.bench.measure import Effort
from rnnfast.bench.subjects import SUBJECTS
from rnnfast.checkpoint import check_writable, write_atomically

if TYPE_CHECKING:
    from rich.console import Console

JSON_NAME = "bench-cuda.json"


def bench(
    console: Console, cases: Sequence[Case], effort: Effort, out: Path, *, peers: bool
) -> bool:
    """Measure case by case, and write what there is after each; Ctrl-C ends it.

    Parameters
    ----------
    console : rich.console.Console
        Where progress and results go.
    cases : sequence of Case
        To be measured.
    effort : Effort
        How long a case is.
    out : Path
        Folder of the JSON document.
    peers : bool
        Whether PyTorch and cuDNN take part.

    Returns
    -------
    bool
        Whether it was not interrupted.

    Raises
    ------
    ValueError
        If there is no GPU, or no backend in this build.
    DisagreementError
        If rnnfast's results are wrong.
    """
    device = clock.device()
    try:
        rnnfast.torch.use_cuda()
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    out.mkdir(parents=True, exist_ok=True)
    check_writable(out / JSON_NAME)
    among, measurements = subjects(peers=peers), list[Measurement]()
    machine, complete = _machine(clock.describe(device)), False
    try:
        for case in cases:
            console.print(f"{case.cell} {case.work} {case.sizes}", highlight=False)
            measurements.append(measure_case(case, effort, among, device))
            _save(out, report.document(machine, measurements, complete=case is cases[-1]))
        complete = True
    except KeyboardInterrupt:
        console.print("interrupted: what follows is incomplete", style="red")
    finally:
        rnnfast.torch.use_cuda(False)
    if measurements:
        console.print(report.header(machine), markup=False, highlight=False)
        for table in report.tables(measurements):
            console.print(table)
        console.print(f"written: {out / JSON_NAME}", markup=False)
    return complete


def _save(folder: Path, result: dict[str, Any]) -> None:
    write_atomically(folder / JSON_NAME, (json.dumps(result, indent=1) + "\n").encode())


def _machine(gpu: dict[str, Any]) -> dict[str, Any]:
    """Describe the machine without what is a matter of the CPU's bench."""
    versions = [subject for subject in SUBJECTS if subject.name in ("rnnfast", "PyTorch")]
    found = common.machine(1, "", versions) | {"gpu": gpu}
    return {name: value for name, value in found.items() if name not in ("threads", "dtype")}
