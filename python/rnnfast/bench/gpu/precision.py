"""What layers on a GPU compute in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """A type of tensors and of their products.

    Attributes
    ----------
    name : str
        As users call it.
    dtype : torch.dtype
        Of parameters, inputs and results.
    tolerance : float
        How far results may be from float64's, as the norm of the difference over that of the
        result. Rounding alone is several times smaller; wrong gate orders show.
    peers : tuple of str
        The precisions in which cuDNN is to be beaten.
    """

    name: str
    dtype: torch.dtype
    tolerance: float
    peers: tuple[str, ...]

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Tell PyTorch, and rnnfast through it, whether TF32 may be used."""
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=self.name == "tf32"):
            yield


PRECISIONS = {
    one.name: one
    for one in (
        Precision("float32", torch.float32, 1e-4, ("float32",)),
        Precision("tf32", torch.float32, 1e-2, ("float32", "tf32")),
        Precision("bfloat16", torch.bfloat16, 0.1, ("bfloat16", "float16")),
        Precision("float16", torch.float16, 0.02, ("bfloat16", "float16")),
    )
}
