"""The same weights in PyTorch: outputs, states and gradients agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnnfast
from cases import Array, Call, build, draw_call, outcome, pair

torch = pytest.importorskip("torch", reason="parity with PyTorch needs torch")

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

VARIANTS = ["rnn-tanh", "rnn-relu", "lstm", "lstm-proj", "gru"]
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}  # of each array's largest element


def counterpart(layer: Any) -> Any:
    """The torch module with our state_dict."""
    own = {"RNN": "nonlinearity", "LSTM": "proj_size"}.get(type(layer).__name__)
    names = ["num_layers", "bias", "batch_first", "bidirectional"] + ([own] if own else [])
    options = {name: getattr(layer, name) for name in names}
    module = getattr(torch.nn, type(layer).__name__)(
        layer.input_size, layer.hidden_size, **options, dtype=getattr(torch, str(layer.dtype))
    )
    module.load_state_dict({k: torch.from_numpy(v) for k, v in layer.state_dict().items()})
    return module


def leaf(v: Array) -> Any:
    return torch.from_numpy(v.copy()).requires_grad_()


def torch_outcome(module: Any, call: Call) -> dict[str, Array]:
    """As `cases.outcome`, by autograd; with lengths through a packed sequence."""
    x, states = leaf(call.x), [leaf(s) for s in pair(call.state)]
    given = tuple(states) if len(states) == 2 else states[0]
    if call.lengths is None:
        y, after = module(x, given)
    else:
        axis = 1 if module.batch_first else 0
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, torch.from_numpy(call.lengths), module.batch_first, enforce_sorted=False
        )
        y, after = module(packed, given)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(
            y, module.batch_first, total_length=call.x.shape[axis]
        )
    outputs = [y, *pair(after)]
    cotangents = [torch.from_numpy(v) for v in (call.dy, *pair(call.dstate))]
    torch.autograd.backward(outputs, cotangents)
    results = {"y": y, "dx": x.grad}
    results |= {f"state[{k}]": s for k, s in enumerate(outputs[1:])}
    results |= {f"dstate[{k}]": s.grad for k, s in enumerate(states)}
    results |= {f"d{name}": p.grad for name, p in module.named_parameters()}
    return {name: v.detach().numpy() for name, v in results.items()}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        pytest.param({}, {}, id="plain"),
        pytest.param({"num_layers": 2, "bidirectional": True}, {}, id="two-layers-both-ways"),
        pytest.param({"bias": False, "batch_first": True}, {}, id="no-bias-batch-first"),
        pytest.param({"num_layers": 2}, {"B": 1, "batched": False}, id="unbatched"),
        pytest.param({}, {"lengths": True}, id="packed"),
        pytest.param(
            {"num_layers": 2, "bidirectional": True, "batch_first": True},
            {"lengths": True},
            id="packed-two-layers-both-ways",
        ),
    ],
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity(
    variant: str,
    options: dict[str, Any],
    arguments: dict[str, Any],
    dtype: str,
    rng: np.random.Generator,
) -> None:
    layer = build(rnnfast, variant, 13, 21, dtype=dtype, rng=rng, **options)
    call = draw_call(rng, layer, **{"T": 9, "B": 6, **arguments})
    if call.lengths is not None:
        call.lengths = np.maximum(call.lengths, 1)  # torch packs no empty sequence
    theirs = torch_outcome(counterpart(layer), call)
    mine = outcome(layer, call)
    assert mine.keys() == theirs.keys()
    for name, v in mine.items():
        tolerance = TOLERANCE[dtype] * np.abs(theirs[name]).max()
        np.testing.assert_allclose(v, theirs[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_dict_of_torch_loads(variant: str, rng: np.random.Generator) -> None:
    layer = build(rnnfast, variant, 13, 21, 2, bidirectional=True, rng=rng)
    module = counterpart(layer)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.from_numpy(rng.normal(size=tuple(p.shape), scale=0.2)))
    layer.load_state_dict({name: v.numpy() for name, v in module.state_dict().items()})
    assert list(layer.state_dict()) == list(module.state_dict())
    x = rng.standard_normal((5, 3, 13)).astype(np.float32)
    expected = module(torch.from_numpy(x))[0].detach().numpy()
    np.testing.assert_allclose(layer(x)[0], expected, rtol=0, atol=1e-5)
