"""The result of a run: as a JSON document and as a table on the terminal."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

import rnnfast
from rnnfast.bench.measure import Spread
from rnnfast.bench.run import Measurement
from rnnfast.bench.subjects import OURS, SUBJECTS

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = 1
"""Version of the JSON document; raised when a reader of the old one would go wrong."""

TIMED_PEERS = 3
"""Most peers whose times fit beside the ratios on a terminal of 80 columns."""

BUSY_CORES = 0.1
"""A run beside others that use more than this is called untrustworthy."""


def machine(num_threads: int, dtype: str, *, peers: bool = True) -> dict[str, Any]:
    """Everything about the machine and the software that a time depends on."""
    info = rnnfast.info()
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    for subject in SUBJECTS if peers else (OURS,):
        if subject.installed:
            versions.setdefault(subject.packages[0], subject.version())
    return {
        "cpu": info["cpu"],
        "isa": info["isa"],
        "compiler": info["compiler"],
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": usable_cores(),
        "threads": num_threads,
        "dtype": dtype,
        "versions": versions,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def usable_cores() -> int:
    """Number of processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def document(
    machine: dict[str, Any],
    measurements: Iterable[Measurement],
    import_seconds: Spread | None,
    other_cores: float | None,
    *,
    complete: bool,
) -> dict[str, Any]:
    """The whole run as a JSON object.

    Parameters
    ----------
    machine : dict
        From `machine`.
    measurements : iterable of Measurement
        In the order measured.
    import_seconds : Spread or None
        Of ``import rnnfast``; None if not measured.
    other_cores : float or None
        Cores that other processes used meanwhile; None if unknown.
    complete : bool
        False if the run was interrupted.

    Returns
    -------
    dict
        ``schema``, ``complete``, ``machine``, ``import_seconds``, ``other_cores`` and ``cases``,
        a list. Each case has its sizes, ``peak_gflops`` and ``subjects``; each subject, by name,
        ``seconds``, ``gflops``, ``peak_share``, ``ratio`` (time over that of rnnfast) and
        ``difference``. Spreads have ``median``, ``q1``, ``q3`` and ``samples``.
    """
    return {
        "schema": SCHEMA,
        "complete": complete,
        "machine": machine,
        "import_seconds": None if import_seconds is None else asdict(import_seconds),
        "other_cores": other_cores,
        "cases": [_case_object(measurement) for measurement in measurements],
    }


def _case_object(measurement: Measurement) -> dict[str, Any]:
    subjects = {
        name: {
            "seconds": asdict(spread),
            "gflops": measurement.gflops(name),
            "peak_share": measurement.peak_share(name),
            "ratio": measurement.ratio(name),
            "difference": measurement.differences.get(name, 0.0),
        }
        for name, spread in measurement.seconds.items()
    }
    return {
        **measurement.case.as_dict(),
        "peak_gflops": asdict(measurement.peak),
        "subjects": subjects,
    }


def header(machine: dict[str, Any]) -> str:
    """The machine and the versions in three lines."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores, "
        f"{machine['isa']}, {machine['dtype']}\n"
        f"{versions}\n"
        f"{machine['compiler']}, {machine['platform']}, {machine['date']}"
    )


def table(measurements: Sequence[Measurement], title: str, *, throughput: bool) -> Table:
    """One row a case: rnnfast's median time and its spread, then each peer's time and ratio.

    Parameters
    ----------
    measurements : sequence of Measurement
        At least one.
    title : str
        Above the table.
    throughput : bool
        True: times in milliseconds, with GFLOP/s and the share of the peak; False: times in
        microseconds alone.

    Returns
    -------
    rich.table.Table
        Rows grouped by cell and pass; the ratio is a peer's time over rnnfast's. Beside many
        peers it stands alone.
    """
    from rich import box
    from rich.table import Table

    seen = {name for measurement in measurements for name in measurement.seconds}
    peers = [subject.name for subject in SUBJECTS if subject.name in seen - {OURS.name}]
    rows = Table(
        title=f"{title}, median {'ms' if throughput else 'μs'}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    rows.add_column("case", no_wrap=True)
    for heading in (OURS.name, "±", *(("GFLOP/s", "peak") if throughput else ())):
        rows.add_column(heading, justify="right", no_wrap=True)
    timed = len(peers) <= TIMED_PEERS
    for peer in peers:
        rows.add_column(peer if timed else f"{peer} ×", justify="right", max_width=8)
        if timed:
            rows.add_column("ratio", justify="right", no_wrap=True)
    for key, group in groupby(measurements, lambda m: f"{m.case.cell} {m.case.work}"):
        rows.add_section()
        rows.add_row(f"[bold]{key}[/bold]")
        for measurement in group:
            cells = _our_cells(measurement, throughput=throughput)
            for peer in peers:
                time, ratio = _peer_cells(measurement, peer, 1e3 if throughput else 1e6)
                cells += [time, ratio] if timed else [ratio]
            rows.add_row(measurement.case.sizes, *cells)
    return rows


def _our_cells(measurement: Measurement, *, throughput: bool) -> list[str]:
    ours = measurement.seconds[OURS.name]
    half_spread = f"{(ours.q3 - ours.q1) / 2 / ours.median:.1%}"
    if not throughput:
        return [digits(ours.median * 1e6), half_spread]
    gflops, share = measurement.gflops(OURS.name), measurement.peak_share(OURS.name)
    return [digits(ours.median * 1e3), half_spread, digits(gflops), f"{share:.1%}"]


def _peer_cells(measurement: Measurement, peer: str, factor: float) -> list[str]:
    if peer not in measurement.seconds:
        return ["-", "-"]
    ratio = measurement.ratio(peer)
    colour = "green" if ratio >= 1 else "red"
    return [
        digits(measurement.seconds[peer].median * factor),
        f"[{colour}]{ratio:.2f}[/{colour}]",
    ]


def digits(value: float) -> str:
    """A positive number with three significant digits and no exponent: 0.0123, 4.50, 1234."""
    decimals = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{max(decimals, 0)}f}"


def summary(
    measurements: Sequence[Measurement],
    import_seconds: Spread | None,
    other_cores: float | None,
) -> str:
    """The lines below the tables: peak, agreement of the results, import, a busy machine."""
    peak = Spread.of([measurement.peak.median for measurement in measurements])
    lowest, highest = min(peak.samples), max(peak.samples)
    lines = [
        f"FMA peak {digits(peak.median)} GFLOP/s, {digits(lowest)} to {digits(highest)} by case.",
        "± is half the distance between the quartiles, a ratio a peer's time over ours.",
    ]
    differences = [d for measurement in measurements for d in measurement.differences.values()]
    if differences:
        lines.append(f"Results of all subjects agree to {max(differences):.1e}.")
    if import_seconds is not None:
        lines.append(f"import rnnfast: {import_seconds.median * 1e3:.1f} ms beyond numpy.")
    if other_cores is not None and other_cores > BUSY_CORES:
        lines.append(
            f"[red]Other processes used {other_cores:.1f} cores meanwhile: "
            "these times are not to be trusted.[/red]"
        )
    return "\n".join(lines)
