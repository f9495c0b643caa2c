"""The result of a run on a GPU: as a JSON document and as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rnnfast.bench.gpu.measure import Measurement
from rnnfast.bench.gpu.precision import PRECISIONS
from rnnfast.bench.gpu.subjects import CUDNN, OURS, PYTORCH, Subject
from rnnfast.bench.report import SCHEMA, digits

if TYPE_CHECKING:
    from rich.table import Table

TITLES = {"forward": "Forward", "train": "Forward and BPTT"}


def document(
    machine: dict[str, Any], measurements: Sequence[Measurement], *, complete: bool
) -> dict[str, Any]:
    """The whole run as a JSON object.

    Parameters
    ----------
    machine : dict
        Of `rnnfast.bench.report.machine`, and under ``gpu`` of `rnnfast.bench.gpu.clock.describe`.
    measurements : sequence of Measurement
        In the order measured.
    complete : bool
        False if the run was interrupted.

    Returns
    -------
    dict
        ``schema``, ``device``, ``complete``, ``machine`` and ``cases``, a list. Each case has its
        sizes, ``subjects`` and ``refused``, why others took no part; each subject, by name,
        ``seconds`` (``median``, ``q1``, ``q3``, ``samples``) and ``error``, its distance from
        float64.
    """
    return {
        "schema": SCHEMA,
        "device": "cuda",
        "complete": complete,
        "machine": machine,
        "cases": [_case_object(measurement) for measurement in measurements],
    }


def _case_object(measurement: Measurement) -> dict[str, Any]:
    case = measurement.case
    return {
        "cell": case.cell,
        "work": case.work,
        "seq_length": case.seq_length,
        "batch": case.batch,
        "input_size": case.input_size,
        "hidden_size": case.hidden_size,
        "flops": case.flops,
        "subjects": {
            subject.name: {"seconds": asdict(spread), "error": measurement.errors[subject]}
            for subject, spread in measurement.seconds.items()
        },
        "refused": {subject.name: why for subject, why in measurement.refused.items()},
    }


def header(machine: dict[str, Any]) -> str:
    """The GPU, the versions and the clocks in three lines."""
    gpu = machine["gpu"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    clocks = ", ".join(f"{name} {gpu[name]}" for name in gpu if "." in name)
    kernels = "with persistent kernels where they suit" if gpu["persistent"] else "in steps"
    return (
        f"{gpu['gpu']} (compute capability {gpu['capability']}), rnnfast {kernels}\n"
        f"{versions}, CUDA {gpu['cuda']}, cuDNN {gpu['cudnn']}"
        f"{', driver ' + gpu['driver_version'] if 'driver_version' in gpu else ''}\n"
        f"{clocks + ', ' if clocks else ''}{machine['cpu']}, {machine['date']}"
    )


def tables(measurements: Sequence[Measurement]) -> list[Table]:
    """One table a pass: rnnfast's median time beside that of its peers.

    Returns
    -------
    list of rich.table.Table
        One row a case and precision; a ratio is a peer's time over rnnfast's. PyTorch has the same
        precision; of cuDNN's algorithms it is the fastest in any that the row's may be compared
        with, whose name follows.
    """
    return [
        _table(title, [m for m in measurements if m.case.work == work])
        for work, title in TITLES.items()
        if any(m.case.work == work for m in measurements)
    ]


def _table(title: str, measurements: Sequence[Measurement]) -> Table:
    from rich import box
    from rich.table import Table

    rows = Table(title=f"{title}, median ms", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("case", "precision"):
        rows.add_column(heading, no_wrap=True)
    for heading in (OURS, "±", "error", PYTORCH, "ratio", f"{CUDNN}'s best", "ratio"):
        rows.add_column(heading, justify="right", no_wrap=True)
    rows.add_column("which")
    for cell, group in groupby(measurements, lambda m: m.case.cell):
        rows.add_section()
        rows.add_row(f"[bold]{cell}[/bold]")
        for measurement in group:
            for row in _rows(measurement):
                rows.add_row(*row)
    return rows


def _rows(measurement: Measurement) -> list[list[str]]:
    """The rows of a case, one a precision of rnnfast's."""
    rows: list[list[str]] = []
    for name, precision in PRECISIONS.items():
        ours = measurement.best(OURS, (name,))
        if ours is None:
            continue
        spread = measurement.seconds[ours]
        best = measurement.best(CUDNN, precision.peers)
        rows.append(
            [
                "" if rows else measurement.case.sizes,
                name,
                digits(spread.median * 1e3),
                f"{(spread.q3 - spread.q1) / 2 / spread.median:.1%}",
                f"{measurement.errors[ours]:.0e}",
                *_beside(measurement, ours, measurement.best(PYTORCH, (name,))),
                *_beside(measurement, ours, best),
                "" if best is None else f"{best.algorithm} {best.precision.name}",
            ]
        )
    return rows


def _beside(measurement: Measurement, ours: Subject, peer: Subject | None) -> list[str]:
    """A peer's time, and its ratio."""
    if peer is None:
        return ["-", "-"]
    seconds = measurement.seconds
    ratio = seconds[peer].median / seconds[ours].median
    colour = "green" if ratio >= 1 else "red"
    return [digits(seconds[peer].median * 1e3), f"[{colour}]{ratio:.2f}[/{colour}]"]
