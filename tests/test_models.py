"""The language model: gradients, parity with PyTorch, composition, generation."""

import copy as copies
import itertools
import pickle

import numpy as np
import pytest

import rnnfast
from rnnfast.data import Vocabulary
from rnnfast.models import CELLS, LanguageModel, Model, choose, state_arrays, states_from
from rnnfast.nn import Dense

LETTERS = Vocabulary("abcdefg\n")
V = len(LETTERS)


def stack(kinds, rng, dtype="float64", hidden=5):
    """A model with one recurrent part for each cell named."""
    sizes = [V, *(hidden + i for i in range(len(kinds)))]
    layers = [
        CELLS[kind](before, after, dtype=dtype, rng=rng)
        for kind, (before, after) in zip(kinds, itertools.pairwise(sizes), strict=True)
    ]
    return LanguageModel(LETTERS, layers, rng=rng)


def window(rng, steps=7, batch=3):
    return rng.integers(V, size=(2, steps, batch)).astype(np.int32)


def random_states(model, rng, batch):
    _, states = model(rng.integers(V, size=(4, batch)).astype(np.int32))
    return states


@pytest.mark.parametrize("kinds", [("basic",), ("lstm",), ("gru",), ("gru", "lstm", "basic")])
def test_gradient(rng, kinds):
    model = stack(kinds, rng)
    tokens, targets = window(rng)
    states = random_states(model, rng, 3)
    loss, _ = model.loss_and_gradient(tokens, targets, states)
    assert loss == pytest.approx(model.loss(tokens, targets, states)[0], rel=1e-12)
    gradient, start, step = model.gradient.copy(), model.flat.copy(), 1e-5
    directions = rng.standard_normal((6, start.size))
    for name in model.parameters:  # one direction within each parameter, and some across all
        mask = np.zeros(start.size, bool)
        part = next(v for k, v in model.parameters.items() if k == name)
        begin = (part.__array_interface__["data"][0] - model.flat.ctypes.data) // 8
        mask[begin : begin + part.size] = True
        directions = np.vstack([directions, rng.standard_normal(start.size) * mask])
    for direction in directions:
        losses = []
        for sign in (1, -1):
            model.flat[:] = start + sign * step * direction
            losses.append(model.loss(tokens, targets, states)[0])
        numeric = (losses[0] - losses[1]) / (2 * step)
        assert gradient @ direction == pytest.approx(numeric, rel=1e-6, abs=1e-9)


def test_parameters_are_one_buffer(rng):
    model = stack(("lstm", "gru"), rng, dtype="float32")
    assert model.flat.dtype == model.gradient.dtype == np.float32
    assert sum(view.size for view in model.parameters.values()) == model.flat.size
    assert all(np.shares_memory(view, model.flat) for view in model.parameters.values())
    assert {"layers.0.weight_hh_l0", "layers.1.bias_ih_l0", "projection.weight"} <= set(
        model.parameters
    )
    tokens, _ = window(rng)
    before, _ = model(tokens)
    model.flat *= np.float32(0.5)
    assert not np.array_equal(model(tokens)[0], before)
    assert model.gradient_of("projection").size == model.projection.flat.size
    below, above = model.layers
    parts = {"layers.0": below, "layers.1": above, "projection": model.projection}
    assert dict(model.parts) == parts


@pytest.mark.parametrize("cell", CELLS)
def test_loss_and_gradient_equal_pytorch(rng, cell):
    torch = pytest.importorskip("torch", reason="compares with the same model in PyTorch")
    model = LanguageModel.of(LETTERS, cell, 6, 2, dtype="float64", rng=rng)
    kind = {"basic": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    layers = kind(V, 6, 2, dtype=torch.float64)
    projection = torch.nn.Linear(6, V, dtype=torch.float64)
    for prefix, peer in (("layers.0.", layers), ("projection.", projection)):
        peer.load_state_dict(
            {
                name.removeprefix(prefix): torch.tensor(value)
                for name, value in model.state_dict().items()
                if name.startswith(prefix)
            }
        )
    tokens, targets = window(rng, steps=20, batch=4)
    loss, _ = model.loss_and_gradient(tokens, targets)
    y, _ = layers(torch.nn.functional.one_hot(torch.tensor(tokens, dtype=torch.long), V).double())
    expected = torch.nn.functional.cross_entropy(
        projection(y).reshape(-1, V), torch.tensor(targets.reshape(-1), dtype=torch.long)
    )
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-12)
    theirs = [p.grad.numpy().reshape(-1) for p in (*layers.parameters(), *projection.parameters())]
    np.testing.assert_allclose(model.gradient, np.concatenate(theirs), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("kinds", [("lstm",), ("gru", "lstm")])
def test_windows_steps_and_state_agree(rng, kinds):
    model = stack(kinds, rng)
    tokens, _ = window(rng, steps=9)
    whole, last = model(tokens)
    first, states = model(tokens[:4])
    second, after = model(tokens[4:], states)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=1e-12)
    states = None
    for row, logits in zip(tokens, whole, strict=True):
        stepped, states = model.step(row, states)
        np.testing.assert_allclose(stepped, logits, rtol=1e-12)
    for one, other, third in zip(
        *(state_arrays(s).values() for s in (last, after, states)), strict=True
    ):
        np.testing.assert_allclose(other, one, rtol=1e-12)
        np.testing.assert_allclose(third, one, rtol=1e-12)


def test_state_arrays_round_trip(rng):
    model = stack(("gru", "lstm"), rng)
    states = random_states(model, rng, 2)
    arrays = state_arrays(states)
    assert list(arrays) == ["0.h", "1.h", "1.c"]
    tokens, _ = window(rng, batch=2)
    np.testing.assert_array_equal(model(tokens, states_from(arrays))[0], model(tokens, states)[0])


def test_dropout_acts_in_training_alone(rng):
    model = LanguageModel.of(LETTERS, "gru", 8, 2, dropout=0.5, rng=3)
    tokens, targets = window(rng)
    dropped = {model.loss_and_gradient(tokens, targets)[0] for _ in range(3)}
    kept = {model.loss(tokens, targets)[0] for _ in range(3)}
    assert len(dropped) == 3
    assert len(kept) == 1


@pytest.mark.parametrize("cell", CELLS)
def test_recomputing_gives_the_same_gradient(rng, cell):
    tokens, targets = window(rng, steps=24, batch=90)
    plain, other = (LanguageModel.of(LETTERS, cell, 8, 2, recompute=k, rng=1) for k in (None, 1))
    assert [layer.recompute for layer in other.layers] == [1]
    losses = [model.loss_and_gradient(tokens, targets)[0] for model in (plain, other)]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(plain.gradient, other.gradient)


def test_seeds_repeat():
    first, again, other = (LanguageModel.of(LETTERS, "lstm", 8, 2, rng=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.flat, again.flat)
    assert not np.array_equal(first.flat, other.flat)


def test_state_dict(rng):
    model, other = stack(("gru",), rng), stack(("gru",), rng)
    state = model.state_dict()
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.flat, model.flat)
    model.flat += 1.0
    assert not np.array_equal(state["projection.bias"], model.parameters["projection.bias"])
    before = other.flat.copy()
    wrong = {**state, "projection.weight": state["projection.weight"].T}
    with pytest.raises(ValueError, match=r"projection.weight has shape \(5, 8\), expected \(8, 5"):
        other.load_state_dict({k: v + 1 for k, v in wrong.items()})
    odd = {**state, "projection.bias": state["projection.bias"].astype(complex)}
    with pytest.raises(ValueError, match=r"projection.bias has dtype complex128, expected real"):
        other.load_state_dict(odd)
    del wrong["projection.bias"]
    wrong["extra"] = state["projection.bias"]
    with pytest.raises(ValueError, match=r"missing: \['projection.bias'\], surplus: \['extra'\]"):
        other.load_state_dict(wrong)
    np.testing.assert_array_equal(other.flat, before)


def test_parameters_change_in_place_alone(rng):
    model = stack(("gru",), rng)
    with pytest.raises(AttributeError, match="model: flat cannot be replaced, expected a change"):
        model.flat = model.flat.copy()
    with pytest.raises(TypeError, match="does not support item assignment"):
        model.parameters["projection.bias"] = np.zeros(V)


def test_bind_moves_all_parts(rng):
    model = stack(("gru", "lstm"), rng)
    tokens, targets = window(rng)
    loss, _ = model.loss_and_gradient(tokens, targets)
    gradient = model.gradient.copy()
    room = np.full(model.flat.size + 2, 7.0)
    model.bind(room[1:-1])
    assert model.loss_and_gradient(tokens, targets)[0] == loss
    np.testing.assert_array_equal(model.gradient, gradient)
    for part in (model, *model.layers, model.projection):
        assert all(np.shares_memory(view, room) for view in part.parameters.values())
    assert room[0] == room[-1] == 7.0
    with pytest.raises(ValueError, match=r"model: buffer has shape \(3,\) and dtype float64"):
        model.bind(np.empty(3))


def test_models_may_be_parts(rng):
    parts = {"inner": stack(("gru",), rng), "gate": Dense(3, 2, dtype="float64", rng=rng)}
    values = [parts[name].flat.copy() for name in parts]
    whole = Model(parts)
    np.testing.assert_array_equal(whole.flat, np.concatenate(values))
    assert {"inner.projection.bias", "gate.weight"} <= set(whole.parameters)
    whole.flat[:] = 0
    assert not parts["inner"].layers[0].flat.any()


def test_copies_and_pickles_are_models_of_their_own(rng):
    model = stack(("gru", "lstm"), rng)
    tokens, targets = window(rng)
    expected = model(tokens)[0]
    for copy in (copies.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copy(tokens)[0], expected)
        copy.flat[:] = 0
        assert not copy(tokens)[0].any()
        copy.loss_and_gradient(tokens, targets)
        np.testing.assert_array_equal(model(tokens)[0], expected)
        assert not model.gradient.any()


def test_models_refuse(rng):
    tokens, _ = window(rng)
    with pytest.raises(ValueError, match="model: got 1 states, expected 2"):
        stack(("gru", "lstm"), rng)(tokens, (None,))
    with pytest.raises(ValueError, match="no recurrent layer"):
        LanguageModel(LETTERS, [])
    with pytest.raises(ValueError, match="layer 1 has input_size=4, expected 5"):
        LanguageModel(LETTERS, [rnnfast.GRU(V, 5, rng=rng), rnnfast.GRU(4, 5, rng=rng)])
    for wrong in ({"batch_first": True}, {"bidirectional": True}):
        with pytest.raises(ValueError, match="expected time-major in one direction"):
            LanguageModel(LETTERS, [rnnfast.LSTM(V, 5, rng=rng, **wrong)])
    with pytest.raises(
        ValueError, match="model: cell is 'elman', expected 'basic' or 'lstm' or 'gru'"
    ):
        LanguageModel.of(LETTERS, "elman", 5)
    with pytest.raises(ValueError, match=r"dtypes \['float32', 'float64'\], expected one"):
        Model({"a": Dense(2, 2), "b": Dense(2, 2, dtype="float64")})


def test_projected_lstm(rng):
    layer = rnnfast.LSTM(V, 7, proj_size=3, dtype="float64", rng=rng)
    model = LanguageModel(LETTERS, [layer], rng=rng)
    assert model.projection.in_features == 3
    assert model(window(rng)[0])[0].shape == (7, 3, V)


def test_generation_follows_the_seed_and_the_prompt(rng):
    model = stack(("lstm",), rng)
    model.flat *= 6.0  # a random model with strong opinions
    first = model.generate(200, "abc", rng=4)
    assert len(first) == 200
    assert set(first) <= set(LETTERS.characters)
    assert model.generate(200, "abc", rng=4) == first
    assert model.generate(200, "abc", rng=5) != first
    assert model.generate(200, "gfe", rng=4) != first
    assert model.generate(7, "", rng=4) == model.generate(7, "\n", rng=4)
    assert model.generate(0, "abc") == ""
    assert "".join(itertools.islice(model.sample("abc", rng=4), 200)) == first


def test_greedy_generation_takes_the_likeliest(rng):
    model = stack(("gru",), rng)
    model.flat *= 6.0
    text = "ab" + model.generate(30, "ab", temperature=0.0)
    logits, _ = model(LETTERS.encode(text)[:, None])
    assert LETTERS.decode(logits[1:-1, 0].argmax(-1)) == text[2:]


def test_generation_refuses(rng):
    model = stack(("gru",), rng)
    with pytest.raises(ValueError, match="character 'z' at position 1"):
        model.generate(5, "az")
    for wrong in (-0.5, np.nan, np.inf):
        with pytest.raises(ValueError, match="temperature is"):
            model.generate(5, temperature=wrong)
    with pytest.raises(ValueError, match="length is -1"):
        model.generate(-1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_choose_follows_the_softmax(rng, temperature):
    logits = 1.5 * rng.standard_normal(6).astype("float32")
    draws = [choose(logits, temperature, rng) for _ in range(20_000)]
    shares = np.bincount(draws, minlength=6) / len(draws)
    weights = np.exp(logits.astype(float) / temperature)
    expected = weights / weights.sum()
    deviations = np.sqrt(expected * (1 - expected) / len(draws))
    assert (np.abs(shares - expected) < 5 * deviations).all()


def test_choose_bears_extreme_logits(rng):
    logits = np.array([-3e38, 3e38, 0.0], "float32")
    assert {choose(logits, t, rng) for t in (0.0, 1e-6, 1.0, 1e6)} == {1}


@pytest.mark.parametrize("calibration", [None, "abc\nfed\n" * 9])
def test_an_int8_copy_writes_almost_the_same(rng, calibration):
    model = stack(("gru", "lstm"), rng, dtype="float32", hidden=40)
    small = model.quantize(calibration)
    tokens, _ = window(rng, 30)
    logits, states = model(tokens)
    theirs, others = small(tokens)
    assert 0.0 < np.abs(logits - theirs).max() < 0.02 * np.abs(logits).max()
    row, _ = model.step(tokens[0], states)
    other, _ = small.step(tokens[0], others)
    np.testing.assert_allclose(row, other, atol=0.02 * np.abs(row).max())
    written = small.generate(40, "ab", temperature=1.0, rng=1)
    assert len(written) == 40 and set(written) <= set(LETTERS.characters)
    model.flat[:] = 0.0
    np.testing.assert_array_equal(small(tokens)[0], theirs)


def test_an_int8_copy_needs_text_to_be_calibrated(rng):
    with pytest.raises(ValueError, match="calibration is empty, expected some text"):
        stack(("gru",), rng, dtype="float32").quantize("")
