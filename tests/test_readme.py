"""The README's Python runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import rnnfast

README = Path(__file__).parents[1] / "README.md"


class Tensor(SimpleNamespace):
    """What a state_dict of PyTorch holds."""

    def numpy(self) -> Any:
        return self.array


def module(layer: Any) -> Any:
    """A module of PyTorch, as far as the README looks at it."""
    state = {name: Tensor(array=value) for name, value in layer.state_dict().items()}
    return SimpleNamespace(state_dict=lambda: state)


def test_the_examples_run(rng: np.random.Generator) -> None:
    first, second = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(first, names)
    assert names["grads"].x.shape == names["x"].shape
    peer = rnnfast.GRU(64, 256, num_layers=2, bidirectional=True, rng=rng)
    names |= {
        "torch_gru": module(peer),
        "x": rng.standard_normal((256, 3, 64), dtype=np.float32),
        "done": rng.random((256, 3)) < 0.01,
        "dy": rng.standard_normal((256, 3, 512), dtype=np.float32),
        "dstate": rng.standard_normal((4, 3, 256), dtype=np.float32),
        "tokens": rng.integers(96, size=32),
        "block": rng.integers(96, size=(5, 8)),
    }
    exec(second, names)
    updated = peer.flat - np.float32(1e-3) * names["grads"].flat
    np.testing.assert_allclose(names["gru"].flat, updated, rtol=0, atol=1e-6)
    assert names["y"].shape == (5, 8, 512)
