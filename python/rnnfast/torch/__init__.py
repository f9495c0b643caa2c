"""PyTorch's recurrent modules over rnnfast's kernels.

`RNN`, `LSTM`, `GRU` and the three cells are subclasses of those in ``torch.nn``, with the same
constructors, parameters, ``state_dict`` and results. `accelerate` turns those of a model into them,
`restore` turns them back.
"""

try:
    import torch
except ImportError as error:
    raise ImportError(
        f"rnnfast.torch needs PyTorch, which cannot be imported ({error}): pip install torch"
    ) from error

_TESTED = "2.13.0"

try:  # these use private names of PyTorch, which another version may not have
    from .cells import GRUCell, LSTMCell, RNNCell
    from .gpu import use_cuda
    from .modules import GRU, LSTM, RNN
    from .swapping import Swaps, accelerate, restore
except AttributeError as error:
    raise ImportError(
        f"rnnfast.torch found PyTorch {torch.__version__}, which lacks a name that it uses "
        f"({error}); it is tested with {_TESTED}: pip install torch=={_TESTED}"
    ) from error

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Swaps",
    "accelerate",
    "restore",
    "use_cuda",
]
