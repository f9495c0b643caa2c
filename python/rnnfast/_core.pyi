from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]

class Tape:
    @property
    def dropout_seed(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

class Packed: ...

class WeightCache:
    def __init__(self) -> None: ...
    @property
    def nbytes(self) -> int: ...

class Layer:
    def __init__(
        self,
        cell: str,
        dtype: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        reset_after: bool,
        nonlinearity: str,
        compute: str,
        recompute: int,
    ) -> None: ...
    def parameters(self) -> list[tuple[str, tuple[int, ...], int]]: ...
    def forward(
        self,
        parameters: _Array | None,
        x: Any,
        state: Any,
        lengths: Any,
        reset: Any,
        record: bool,
        seed: int,
        num_threads: int | None,
        weights: Packed | WeightCache | None,
    ) -> tuple[_Array, Any, Tape | None]: ...
    def backward(
        self,
        parameters: _Array,
        tape: Tape,
        dy: Any,
        dstate: Any,
        out: _Array | None,
        input_gradient: bool,
        num_threads: int | None,
    ) -> tuple[_Array | None, Any, _Array]: ...
    def step(
        self,
        parameters: _Array | None,
        x: Any,
        state: Any,
        num_threads: int | None,
        packed: Packed | None,
    ) -> tuple[_Array, Any]: ...
    def pack(
        self, parameters: _Array, scales: _Array | None, num_threads: int | None
    ) -> Packed: ...
    def use_openmp(self, parallel: int, thread_num: int, num_threads: int) -> None: ...
    def magnitudes(self, tape: Tape) -> _Array: ...
    def explain(
        self, steps: int, rows: int, batch: int, tokens: bool, num_threads: int | None
    ) -> list[dict[str, Any]]: ...

def dense_forward(
    x: _Array, weight: _Array, bias: _Array | None, y: _Array, num_threads: int | None
) -> None: ...
def dense_input_gradient(
    dy: _Array, weight: _Array, dx: _Array, num_threads: int | None
) -> None: ...
def dense_weight_gradient(
    dy: _Array, x: _Array, dweight: _Array, num_threads: int | None
) -> None: ...
def softmax(
    x: _Array, scales: _Array, y: _Array, norms: _Array, num_threads: int | None
) -> None: ...
def isa() -> str: ...
def isas() -> list[str]: ...
def isas_for(compute: str) -> list[str]: ...
def use_isa(name: str) -> None: ...
def cpu() -> str: ...
def compiler() -> str: ...
def max_threads() -> int: ...
def get_num_threads() -> int: ...
def set_num_threads(num_threads: int) -> None: ...
def activation(name: str, x: _Array) -> np.ndarray[Any, Any]: ...
def measure_fma_peak(dtype: str, num_threads: int | None, seconds: float) -> float: ...
def measure_read_bandwidth(nbytes: int, num_threads: int | None, seconds: float) -> float: ...
