"""``device="cuda"`` where there is no GPU to compute on."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest

import rnnfast
from rnnfast import device


def test_without_the_backend_the_error_tells_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if find_spec("rnnfast._cuda") is not None:
        monkeypatch.setitem(sys.modules, "rnnfast._cuda", None)
    device.cuda.cache_clear()
    with pytest.raises(
        RuntimeError, match=r"no backend.*pip install \. -C cmake\.define\.RNNFAST_CUDA=ON in the s"
    ):
        rnnfast.GRU(3, 4, device="cuda")


def has_gpu() -> bool:
    try:
        device.cuda()
    except RuntimeError:
        return False
    return True


def test_without_a_gpu_the_error_tells_what_is_missing() -> None:
    pytest.importorskip("rnnfast._cuda", reason="this build has no GPU backend")
    if has_gpu():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match=r"^cuda: looking for a GPU: "):
        rnnfast.GRU(3, 4, device="cuda")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^gru: device is 'tpu', expected 'cpu' or 'cuda'"):
        rnnfast.GRU(3, 4, device="tpu")
    with pytest.raises(TypeError, match=r"^gru: device is a int, expected a string"):
        rnnfast.GRU(3, 4, device=0)  # type: ignore[arg-type]


def test_tf32_is_for_a_gpu() -> None:
    with pytest.raises(ValueError, match=r"^gru: compute is 'tf32', expected 'float32' or 'bf"):
        rnnfast.GRU(3, 4, compute="tf32")
