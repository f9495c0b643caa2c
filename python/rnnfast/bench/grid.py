"""What is measured: the cases, and the floating-point operations in each.

Letters: T time steps (``seq_length``), B sequences (``batch``), I features (``input_size``),
H hidden units (``hidden_size``), G gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, NamedTuple

GATES = {"basic": 1, "lstm": 4, "gru": 3}
"""The cells (``basic`` is the tanh cell, ``gru`` the variant that resets after the product)."""

CELLS = tuple(GATES)
PASSES = {"forward": 1, "train": 3, "step": 1}
"""The passes and their cost in forward passes: ``train`` is forward and BPTT, which forms the
gradient of the states and inputs (one more forward's worth of products) and that of the weights
(another); ``step`` is one time step called from Python."""

WEIGHT_READS = {"forward": 1, "train": 2, "step": 1}
"""How often a step needs the weights of the state's product: ``train`` does to go forward and to
come back."""

ELEMENT_BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "int8": 1}
"""Size of a weight in the type that its product has. Where the processor lacks the instruction for
it, rnnfast reads wider words: *cache* then tells less than the truth."""

REDUCED = ("bfloat16", "int8")
"""Types of products alone, of float32 arrays."""

SEQ_LENGTH = 256
BATCHES = (1, 16, 32, 64, 128)
HIDDEN_SIZES = (128, 512, 1024)
INPUT_SIZE = 128


class Shape(NamedTuple):
    """Sizes of one case: B sequences of I features, H hidden units."""

    batch: int
    input_size: int
    hidden_size: int


FULL = (
    *(Shape(batch, INPUT_SIZE, hidden) for hidden, batch in product(HIDDEN_SIZES, BATCHES)),
    Shape(64, 512, 512),
)
"""Every batch with every hidden size at I = 128, and one case whose input is as wide as its
state, as in the upper layers of a stack."""

QUICK = (Shape(1, 128, 128), Shape(16, 128, 128), Shape(32, 128, 512), Shape(64, 512, 512))
"""One shape of each kind: latency, small, usual, large."""

GPU_FULL = (
    *(Shape(batch, 512, 512) for batch in (1, 16, 64, 128)),
    Shape(64, 128, 128),
    Shape(64, 1024, 1024),
)
"""On a GPU: latency, small and large batches of the usual width, a narrow layer and a wide one."""

GPU_QUICK = (Shape(16, 512, 512), Shape(64, 512, 512))

STEP_SIZES = (128, 512)


@dataclass(frozen=True)
class Case:
    """One measurement: a cell, a pass and the sizes.

    Parameters
    ----------
    cell : str
        A name in `CELLS`.
    work : str
        A name in `PASSES`.
    seq_length, batch, input_size, hidden_size : int
        T, B, I, H.
    dtype : str
        ``"float32"``, ``"float64"``, or what a float32 layer computes its products in:
        ``"bfloat16"``, ``"int8"``.
    """

    cell: str
    work: str
    seq_length: int
    batch: int
    input_size: int
    hidden_size: int
    dtype: str = "float32"

    @property
    def array_dtype(self) -> str:
        """Type of the arrays that go in and come out."""
        return "float32" if self.dtype in REDUCED else self.dtype

    @property
    def sizes(self) -> str:
        """The sizes in short: ``"B32 I128 H512"``."""
        return f"B{self.batch} I{self.input_size} H{self.hidden_size}"

    @property
    def name(self) -> str:
        """The case in words, unique in a run: ``"lstm forward T256 B32 I128 H512 float32"``."""
        return f"{self.cell} {self.work} T{self.seq_length} {self.sizes} {self.dtype}"

    @property
    def flops(self) -> int:
        """Floating-point operations of one call, those of the matrix products alone.

        A forward pass has ``2 * G * T * B * (I * H + H * H)``; see `PASSES` for the others.
        """
        products = self.input_size * self.hidden_size + self.hidden_size**2
        return PASSES[self.work] * 2 * GATES[self.cell] * self.seq_length * self.batch * products

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights that every step must read again.

        Those are ``G * H * H`` elements: the next product with the state waits for the last one,
        while the product with the inputs may be done for all steps at once. A single step from
        Python reads the ``G * H * I`` of the inputs too.
        """
        width = self.hidden_size + (self.input_size if self.work == "step" else 0)
        return GATES[self.cell] * self.hidden_size * width * ELEMENT_BYTES[self.dtype]

    @property
    def weight_bytes_read(self) -> int:
        """Bytes of weights that one call must read: `weight_bytes` in every step and pass."""
        return WEIGHT_READS[self.work] * self.seq_length * self.weight_bytes

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: `flops` per byte of `weight_bytes_read`."""
        return self.flops / self.weight_bytes_read

    def as_dict(self) -> dict[str, Any]:
        """The case as a JSON object, its name, operations and weights included."""
        return {
            "name": self.name,
            **asdict(self),
            "flops": self.flops,
            "weight_bytes": self.weight_bytes,
            "weight_bytes_read": self.weight_bytes_read,
        }


def cases(
    shapes: Sequence[Shape] = FULL,
    cells: Sequence[str] = CELLS,
    *,
    seq_length: int = SEQ_LENGTH,
    dtype: str = "float32",
) -> list[Case]:
    """Forward and training of every cell at every shape; int8 is for inference alone.

    Parameters
    ----------
    shapes : sequence of Shape
        `FULL`, `QUICK` or one's own.
    cells : sequence of str
        Names in `CELLS`.
    seq_length : int
        T.
    dtype : str
        Element type.

    Returns
    -------
    list of Case
        Shapes vary fastest, then the pass, then the cell.
    """
    works = ("forward",) if dtype == "int8" else ("forward", "train")
    return [
        Case(cell, work, seq_length, *shape, dtype=dtype)
        for cell, work, shape in product(cells, works, shapes)
    ]


def step_cases(cells: Sequence[str] = CELLS, *, dtype: str = "float32") -> list[Case]:
    """One time step of one sequence with I = H, of every cell at each of `STEP_SIZES`."""
    return [
        Case(cell, "step", 1, 1, size, size, dtype=dtype)
        for cell, size in product(cells, STEP_SIZES)
    ]
