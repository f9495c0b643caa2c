"""The result of a run: as a JSON document and as a table on the terminal."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

import rnnfast
from rnnfast.bench import caches
from rnnfast.bench.measure import Spread
from rnnfast.bench.run import Measurement
from rnnfast.bench.subjects import OURS, SUBJECTS, Subject, candidates

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = 1
"""Version of the JSON document; raised when a reader of the old one would go wrong."""

RATE = "GFLOP/s"

BUSY_CORES = 0.1
"""A run beside others that use more than this is called untrustworthy."""


def machine(num_threads: int, dtype: str, among: Sequence[Subject] | None = None) -> dict[str, Any]:
    """Everything about the machine and the software that a time depends on.

    Parameters
    ----------
    num_threads : int
        For every library.
    dtype : str
        Of the cases.
    among : sequence of Subject, optional
        Those that take part, by default all that are installed.
    """
    info = rnnfast.info()
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    for subject in candidates() if among is None else among:
        versions.setdefault(subject.packages[0], subject.version())
    return {
        "cpu": info["cpu"],
        "isa": info["isa"],
        "compiler": info["compiler"],
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": usable_cores(),
        "cache_bytes": caches.sizes(),
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
        a list. Each case has its sizes, ``peak_gflops``, ``read_bandwidth`` (bytes per second),
        ``bandwidth_share`` (of rnnfast, null beyond one sequence) and ``subjects``; each subject,
        by name, ``seconds``, ``gflops``, ``peak_share``, ``ratio`` (time over that of rnnfast),
        ``difference`` and ``kept_bytes`` (for BPTT, null where the library does not tell). Spreads
        have ``median``, ``q1``, ``q3`` and ``samples``.
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
            "kept_bytes": measurement.kept.get(name),
        }
        for name, spread in measurement.seconds.items()
    }
    return {
        **measurement.case.as_dict(),
        "peak_gflops": asdict(measurement.peak),
        "read_bandwidth": asdict(measurement.bandwidth),
        "bandwidth_share": measurement.bandwidth_share(),
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


def table(
    measurements: Sequence[Measurement], title: str, *, throughput: bool, width: int
) -> Table:
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
    width : int
        Columns of the terminal. Where not all fits, GFLOP/s and the peers' times are left out.

    Returns
    -------
    rich.table.Table
        Rows grouped by cell and pass; the ratio is a peer's time over rnnfast's. Where a case has
        them, also the share of the cache's bandwidth and the bytes kept for BPTT.
    """
    from rich.console import Console
    from rich.measure import Measurement as Measured

    console = Console(width=10 * width)
    full = _table(measurements, title, throughput=throughput, complete=True)
    if Measured.get(console, console.options, full).maximum <= width:
        return full
    return _table(measurements, title, throughput=throughput, complete=False)


def _table(
    measurements: Sequence[Measurement], title: str, *, throughput: bool, complete: bool
) -> Table:
    from rich import box
    from rich.table import Table

    seen = {name for measurement in measurements for name in measurement.seconds}
    peers = [subject.name for subject in SUBJECTS if subject.name in seen - {OURS.name}]
    columns = _our_columns(measurements, throughput=throughput)
    if not complete:
        columns.pop(RATE, None)
    rows = Table(
        title=f"{title}, median {'ms' if throughput else 'μs'}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    rows.add_column("case", no_wrap=True)
    for heading in columns:
        rows.add_column(heading, justify="right")
    for peer in peers:
        rows.add_column(peer if complete else f"{peer} ×", justify="right", max_width=8)
        if complete:
            rows.add_column("ratio", justify="right", no_wrap=True)
    for key, group in groupby(measurements, lambda m: f"{m.case.cell} {m.case.work}"):
        rows.add_section()
        rows.add_row(f"[bold]{key}[/bold]")
        for measurement in group:
            cells = [cell(measurement) for cell in columns.values()]
            for peer in peers:
                time, ratio = _peer_cells(measurement, peer, 1e3 if throughput else 1e6)
                cells += [time, ratio] if complete else [ratio]
            rows.add_row(measurement.case.sizes, *cells)
    return rows


def _our_columns(
    measurements: Sequence[Measurement], *, throughput: bool
) -> dict[str, Callable[[Measurement], str]]:
    """The columns about rnnfast, by heading, and what stands in each."""
    factor = 1e3 if throughput else 1e6
    columns: dict[str, Callable[[Measurement], str]] = {
        OURS.name: lambda m: digits(m.seconds[OURS.name].median * factor),
        "±": _half_spread,
    }
    if throughput:
        columns[RATE] = lambda m: digits(m.gflops(OURS.name))
        columns["peak"] = lambda m: f"{m.peak_share(OURS.name):.1%}"
    if any(m.bandwidth_share() is not None for m in measurements):
        columns["cache"] = _bandwidth_share
    if any(OURS.name in m.kept for m in measurements):
        columns["kept MB"] = _kept
    return columns


def _half_spread(measurement: Measurement) -> str:
    ours = measurement.seconds[OURS.name]
    return f"{(ours.q3 - ours.q1) / 2 / ours.median:.1%}"


def _bandwidth_share(measurement: Measurement) -> str:
    share = measurement.bandwidth_share()
    return "-" if share is None else f"{share:.0%}"


def _kept(measurement: Measurement) -> str:
    if OURS.name not in measurement.kept:
        return "-"
    return digits(measurement.kept[OURS.name] / 1e6)


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
    if any(measurement.bandwidth_share() is not None for measurement in measurements):
        lines.append("cache: share of the measured bandwidth at which B 1 reads its weights.")
    if any(measurement.kept for measurement in measurements):
        lines.append("kept: what rnnfast's forward keeps for BPTT beside x and y.")
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
