# Where it has been built; its layers and tapes are called as those of _core.
from . import _core

class Tape(_core.Tape): ...

class Layer(_core.Layer):
    def __init__(
        self,
        cell: str,
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
    ) -> None: ...

def add_cublaslt_folder(folder: str) -> None: ...
def require_device() -> None: ...
