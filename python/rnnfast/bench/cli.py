"""The command ``rnnfast bench``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import rnnfast
from rnnfast import _core
from rnnfast.bench import grid, plot, report, roofline, run, subjects
from rnnfast.bench.measure import Effort, Neighbours, Spread
from rnnfast.bench.problem import DisagreementError
from rnnfast.checkpoint import check_writable, write_atomically
from rnnfast.cli import INTERRUPTED

if TYPE_CHECKING:
    from rich.console import Console

FULL_EFFORT = Effort(seconds=2.0, least=5, most=15)
QUICK_EFFORT = Effort(seconds=0.5, least=3, most=9)

JSON_NAME = "bench.json"
TORCH_JSON_NAME = "bench-torch.json"
PLOT_NAME = "bench.png"
ROOFLINE_NAME = "roofline.png"

TITLES = {"forward": "Forward", "train": "Forward and BPTT", "step": "One time step"}
"""Of the tables, by pass."""


class Device(StrEnum):
    """What computes."""

    CPU = "cpu"
    CUDA = "cuda"


class Dtype(StrEnum):
    """Element types of the layers, or of their products."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _cells(text: str) -> str:
    unknown = [name for name in _names(text) if name not in grid.CELLS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(grid.CELLS)}")
    return text


def _sizes(text: str | None) -> str | None:
    for word in [] if text is None else _names(text):
        if not word.isdecimal() or int(word) < 1:
            raise typer.BadParameter(f"{word!r} is not a positive integer")
    return text


def _isa(name: str | None) -> str | None:
    isas = rnnfast.info()["isas"]
    if name is not None and name not in isas:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(isas)}")
    return name


def command(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="A few shapes; on a CPU it leaves JAX out and takes under 90 seconds."
        ),
    ] = False,
    cells: Annotated[
        str, typer.Option(callback=_cells, metavar="NAME,NAME,…", help="The cells to measure.")
    ] = ",".join(grid.CELLS),
    batch: Annotated[
        str | None, typer.Option(callback=_sizes, metavar="N,N,…", help="Batch sizes.")
    ] = None,
    input_size: Annotated[
        str | None, typer.Option(callback=_sizes, metavar="N,N,…", help="Features of the input.")
    ] = None,
    hidden_size: Annotated[
        str | None, typer.Option(callback=_sizes, metavar="N,N,…", help="Hidden units.")
    ] = None,
    seq_length: Annotated[int, typer.Option(min=1, help="Time steps.")] = grid.SEQ_LENGTH,
    dtype: Annotated[
        Dtype, typer.Option(help="Element type, or that of products alone (bfloat16, int8).")
    ] = Dtype.FLOAT32,
    device: Annotated[
        Device,
        typer.Option(help="Where to measure: the processor, or a GPU in all of its precisions."),
    ] = Device.CPU,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Threads for every library.")
    ] = None,
    isa: Annotated[
        str | None, typer.Option(callback=_isa, help="Force a lower instruction set of rnnfast.")
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, help="Turns per library and case, rather than as many as fit a time."),
    ] = None,
    torch: Annotated[
        bool, typer.Option("--torch", help="Measure PyTorch models instead, stock and accelerated.")
    ] = False,
    peers: Annotated[
        bool,
        typer.Option(help="Measure PyTorch, ONNX Runtime, JAX and cuDNN too, where installed."),
    ] = True,
    draw: Annotated[
        bool, typer.Option("--plot/--no-plot", help="Draw the two PNGs (CPU only).")
    ] = True,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder for the JSON document and the plots.")
    ] = Path("bench-results"),
) -> None:
    """Measure forward passes and training beside the peers and against the FMA peak.

    The full grid takes a quarter of an hour, longer with JAX. Any of --batch, --input-size and
    --hidden-size replaces it; those left out are then 32, 128 and 512. With --torch models of
    PyTorch are measured instead, stock and accelerated, which takes some minutes. With --device
    cuda rnnfast's modules are measured on a GPU, at other shapes, beside PyTorch's and all
    algorithms of cuDNN.
    """
    from rich.console import Console

    effort = QUICK_EFFORT if quick else FULL_EFFORT
    if rounds is not None:
        effort = Effort(seconds=0.0, least=rounds, most=rounds)
    shapes = _shapes(batch, input_size, hidden_size)
    if device is Device.CUDA:
        if torch or isa or threads or dtype is not Dtype.FLOAT32:
            raise ValueError(
                "--device cuda takes no --torch, no --isa, no --threads and no --dtype"
            )
        shapes = shapes or list(grid.GPU_QUICK if quick else grid.GPU_FULL)
        _measure_gpu(
            grid.cases(shapes, _names(cells), seq_length=seq_length), effort, out, peers=peers
        )
        return
    if torch:
        if batch or input_size or hidden_size or dtype is not Dtype.FLOAT32 or not peers:
            raise ValueError(
                "--torch has models of its own, expected no sizes, no --dtype and no --no-peers"
            )
        with _instruction_set(isa):
            _measure_torch(Console(), threads or rnnfast.get_num_threads(), effort, out)
        return
    if draw and not plot.available():
        raise ValueError("the plot needs matplotlib: install it, or pass --no-plot")
    out.mkdir(parents=True, exist_ok=True)
    check_writable(out / JSON_NAME)
    shapes = shapes or list(grid.QUICK if quick else grid.FULL)
    cases = grid.cases(shapes, _names(cells), seq_length=seq_length, dtype=dtype)
    if dtype is not Dtype.BFLOAT16:  # a step reads the float32 parameters themselves
        cases += grid.step_cases(_names(cells), dtype=dtype)
    with _disagreement_told(), _instruction_set(isa):
        among = subjects.candidates(peers=peers, quick=quick)
        session = Session(Console(), threads or rnnfast.get_num_threads(), dtype, among)
        session.measure(cases, effort)
    session.show()
    session.save(out, draw=draw)
    if not session.complete:
        raise typer.Exit(INTERRUPTED)


@contextmanager
def _disagreement_told() -> Iterator[None]:
    """End the command by a line where results differ."""
    try:
        yield
    except DisagreementError as error:
        print(f"rnnfast: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def _measure_gpu(cases: Sequence[grid.Case], effort: Effort, out: Path, *, peers: bool) -> None:
    """Measure modules of PyTorch on a GPU."""
    if find_spec("torch") is None:
        raise ValueError("--device cuda needs PyTorch: pip install torch")
    from rich.console import Console

    from rnnfast.bench.gpu import command as gpu

    with _disagreement_told():
        complete = gpu.bench(Console(), cases, effort, out, peers=peers)
    if not complete:
        raise typer.Exit(INTERRUPTED)


def _measure_torch(console: Console, num_threads: int, effort: Effort, out: Path) -> None:
    """Measure models of PyTorch, and write what came of it."""
    if find_spec("torch") is None:
        raise ValueError("--torch needs PyTorch: pip install torch")
    from rnnfast.bench import accelerated

    out.mkdir(parents=True, exist_ok=True)
    check_writable(out / TORCH_JSON_NAME)
    among = [subject for subject in subjects.candidates() if subject.packages[0] == "torch"]
    machine = report.machine(num_threads, "float32", among)
    console.print(report.header(machine), markup=False, highlight=False)
    neighbours, comparisons = Neighbours(), []
    with _disagreement_told():
        for make in accelerated.workloads():
            comparisons.append(accelerated.measure(make, num_threads, effort))
            one = comparisons[-1]
            console.print(f"{one.name}: {one.ratio:.2f} x", markup=False, highlight=False)
    console.print(accelerated.table(comparisons))
    result = {
        "machine": machine,
        "other_cores": neighbours.cores(),
        "workloads": [accelerated.document(one) for one in comparisons],
    }
    write_atomically(out / TORCH_JSON_NAME, (json.dumps(result, indent=1) + "\n").encode())
    console.print(f"written: {out / TORCH_JSON_NAME}", markup=False)


def _shapes(batch: str | None, input_size: str | None, hidden_size: str | None) -> list[grid.Shape]:
    """The shapes asked for by size, none if no size was given."""
    if not (batch or input_size or hidden_size):
        return []
    axes = (input_size or "128", hidden_size or "512", batch or "32")
    inputs, hidden, batches = ([int(word) for word in _names(axis)] for axis in axes)
    return [grid.Shape(b, i, h) for i, h, b in product(inputs, hidden, batches)]


@contextmanager
def _instruction_set(name: str | None) -> Iterator[None]:
    """Use an instruction set for a while."""
    before = rnnfast.info()["isa"]
    _core.use_isa(name or before)
    try:
        yield
    finally:
        _core.use_isa(before)


class Session:
    """One run of the command: what was measured so far.

    Parameters
    ----------
    console : rich.console.Console
        Where progress and results go.
    num_threads : int
        For every library.
    dtype : str
        Element type, for the header.
    among : sequence of Subject
        The libraries that take part.
    """

    def __init__(
        self,
        console: Console,
        num_threads: int,
        dtype: str,
        among: Sequence[subjects.Subject],
    ) -> None:
        self.console = console
        self.num_threads = num_threads
        self.among = among
        self.machine = report.machine(num_threads, dtype, among)
        self.measurements: list[run.Measurement] = []
        self.import_seconds: Spread | None = None
        self.other_cores: float | None = None
        self.complete = False

    def measure(self, cases: Sequence[grid.Case], effort: Effort) -> None:
        """Measure case by case; Ctrl-C ends it and leaves what there is."""
        from rich.progress import Progress

        self.console.print(report.header(self.machine), markup=False, highlight=False)
        try:
            self.import_seconds = run.import_seconds()
            neighbours = Neighbours()
            # Drawn between the cases alone: a thread that did it meanwhile would disturb them.
            with Progress(console=self.console, transient=True, auto_refresh=False) as progress:
                task = progress.add_task("", total=len(cases))
                for case in cases:
                    progress.update(task, description=f"{case.cell} {case.work} {case.sizes}")
                    progress.refresh()
                    self.measurements.append(
                        run.measure_case(case, self.num_threads, effort, self.among)
                    )
                    progress.advance(task)
                    self.other_cores = neighbours.cores()
            self.complete = True
        except KeyboardInterrupt:
            self.console.print("interrupted: what follows is incomplete", style="red")

    def show(self) -> None:
        """Print the tables."""
        for work, title in TITLES.items():
            shown = [m for m in self.measurements if m.case.work == work]
            if shown:
                table = report.table(
                    shown, title, throughput=work != "step", width=self.console.width
                )
                self.console.print(table)
        if self.measurements:
            self.console.print(
                report.summary(self.measurements, self.import_seconds, self.other_cores)
            )

    def save(self, folder: Path, *, draw: bool) -> None:
        """Write the JSON document and the pictures."""
        result = report.document(
            self.machine,
            self.measurements,
            self.import_seconds,
            self.other_cores,
            complete=self.complete,
        )
        write_atomically(folder / JSON_NAME, (json.dumps(result, indent=1) + "\n").encode())
        written = [folder / JSON_NAME]
        for name, image in self._pictures().items() if draw else ():
            write_atomically(folder / name, image)
            written.append(folder / name)
        self.console.print(f"written: {', '.join(map(str, written))}", markup=False)

    def _pictures(self) -> dict[str, bytes]:
        """The plots of what was measured, by file name."""
        title = report.header(self.machine)
        pictures = {}
        drawable = [m for m in self.measurements if m.case.work in plot.ROWS]
        if drawable:
            pictures[PLOT_NAME] = plot.png(drawable, title)
        if self.measurements:
            pictures[ROOFLINE_NAME] = roofline.png(
                self.measurements, title, self.num_threads, self.machine["cache_bytes"]
            )
        return pictures
