"""Many to one: encoders and the classifier over them, against the same model in PyTorch."""

import numpy as np
import pytest

import rnnfast
from rnnfast.models import Encoder, SequenceClassifier, make_layers
from rnnfast.models.encoder import reverse

FEATURES, H, LABELS = 4, 5, ("no", "perhaps", "yes")
READERS = ("one", "interleaved", "two")
CELLS = ("basic", "lstm", "gru")


def encoder(readers, cell, rng, **options):
    """Two layers that read forward, both ways interleaved, or both ways in stacks of their own."""
    both = readers == "interleaved"
    stacks = [
        make_layers(cell, FEATURES, H, 2, bidirectional=both, dtype="float64", rng=rng, **options)
        for _ in range(2 if readers == "two" else 1)
    ]
    return Encoder(*stacks)


def sequences(rng, steps=9, batch=6, tokens=False):
    """Inputs, targets and lengths, of which one is all steps and one a single step."""
    x = (
        rng.integers(FEATURES, size=(steps, batch))
        if tokens
        else rng.standard_normal((steps, batch, FEATURES))
    )
    lengths = rng.permutation([steps, 1, *rng.integers(2, steps, size=batch - 2)])
    return x, rng.integers(len(LABELS), size=batch), lengths


class Peer:
    """The classifier in PyTorch, with the same parameters and packed sequences."""

    def __init__(self, torch, model, cell, readers, **options):
        kinds = {"basic": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
        self.torch, self.two = torch, readers == "two"
        self.both = readers == "interleaved"
        state = {name: torch.tensor(v) for name, v in model.state_dict().items()}
        self.values = {name: v.requires_grad_() for name, v in state.items()}
        self.stacks = []
        for name in ("forward", "backward")[: 1 + self.two]:
            stack = kinds[cell](
                FEATURES, H, 2, bidirectional=self.both, dtype=torch.float64, **options
            )
            prefix = f"encoder.{name}."
            own = {
                k.removeprefix(prefix): v.detach() for k, v in state.items() if k.startswith(prefix)
            }
            stack.load_state_dict(own)
            self.stacks.append(stack)

    def last(self, stack, x, lengths):
        rnn = self.torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(self.torch.tensor(x), lengths, enforce_sorted=False)
        state = stack(packed)[1]
        return state[0] if isinstance(state, tuple) else state

    def vectors(self, x, lengths):
        h = self.last(self.stacks[0], x, lengths)
        if self.both:
            return [h[-2], h[-1]]
        if self.two:
            return [h[-1], self.last(self.stacks[1], flip(x, lengths), lengths)[-1]]
        return [h[-1]]

    def logits(self, x, lengths):
        total = self.values["projection.0.bias"]
        for i, vector in enumerate(self.vectors(x, lengths)):
            total = total + vector @ self.values[f"projection.{i}.weight"].T
        if "head.weight" in self.values:
            total = total @ self.values["head.weight"].T + self.values["head.bias"]
        return total

    def gradient(self, names):
        """All gradients in the order of the model's buffer."""
        found = {name: v.grad for name, v in self.values.items()}
        for name, stack in zip(("forward", "backward"), self.stacks, strict=False):
            found |= {f"encoder.{name}.{key}": p.grad for key, p in stack.named_parameters()}
        return np.concatenate([found[name].numpy().reshape(-1) for name in names])


def flip(x, lengths):
    """Each sequence from its end, one by one."""
    flipped = x.copy()
    for column, length in enumerate(lengths):
        flipped[:length, column] = x[:length, column][::-1]
    return flipped


@pytest.mark.parametrize("projection", [None, 7])
@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("readers", READERS)
@pytest.mark.parametrize("cell", CELLS)
def test_loss_and_gradient_equal_pytorch(rng, cell, readers, cut, projection):
    torch = pytest.importorskip("torch", reason="compares with the same model in PyTorch")
    model = SequenceClassifier(LABELS, encoder(readers, cell, rng), projection, rng=rng)
    x, targets, lengths = sequences(rng)
    steps = lengths if cut else np.full(6, 9)
    peer = Peer(torch, model, cell, readers)
    weight = np.array([0.5, 2.0, 1.0])
    logits = peer.logits(x, steps)
    expected = torch.nn.functional.cross_entropy(
        logits, torch.tensor(targets), torch.tensor(weight)
    )
    expected.backward()
    given = lengths if cut else None
    np.testing.assert_allclose(model(x, given), logits.detach().numpy(), rtol=1e-10, atol=1e-13)
    model.gradient[:] = np.nan
    loss = model.loss_and_gradient(x, targets, given, weight)
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    theirs = peer.gradient(model.parameters)
    np.testing.assert_allclose(model.gradient, theirs, rtol=1e-8, atol=1e-13)
    shares = torch.softmax(logits.detach(), 1).numpy()
    np.testing.assert_allclose(model.probabilities(x, given), shares, rtol=1e-10)


@pytest.mark.parametrize("readers", READERS)
def test_projected_lstms_equal_pytorch(rng, readers):
    torch = pytest.importorskip("torch", reason="compares with the same model in PyTorch")
    reader = encoder(readers, "lstm", rng, proj_size=3)
    assert reader.widths == (3,) * (1 if readers == "one" else 2)
    model = SequenceClassifier(LABELS, reader, rng=rng)
    x, targets, lengths = sequences(rng)
    peer = Peer(torch, model, "lstm", readers, proj_size=3)
    expected = torch.nn.functional.cross_entropy(peer.logits(x, lengths), torch.tensor(targets))
    expected.backward()
    assert model.loss_and_gradient(x, targets, lengths) == pytest.approx(expected.item(), rel=1e-12)
    theirs = peer.gradient(model.parameters)
    np.testing.assert_allclose(model.gradient, theirs, rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("readers", READERS)
def test_tokens_are_their_one_hot_vectors(rng, readers):
    model = SequenceClassifier(LABELS, encoder(readers, "gru", rng), rng=rng)
    tokens, targets, lengths = sequences(rng, tokens=True)
    loss = model.loss_and_gradient(tokens, targets, lengths)
    gradient = model.gradient.copy()
    assert loss == pytest.approx(
        model.loss_and_gradient(np.eye(FEATURES)[tokens], targets, lengths), rel=1e-12
    )
    np.testing.assert_allclose(model.gradient, gradient, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("readers", READERS)
def test_what_lies_behind_the_end_makes_no_difference(rng, readers):
    model = SequenceClassifier(LABELS, encoder(readers, "lstm", rng), rng=rng)
    x, targets, lengths = sequences(rng)
    expected = model(x, lengths)
    loss = model.loss_and_gradient(x, targets, lengths)
    gradient = model.gradient.copy()
    behind = np.arange(len(x))[:, None] >= lengths
    x[behind] = 1e3 * rng.standard_normal((behind.sum(), FEATURES))
    np.testing.assert_array_equal(model(x, lengths), expected)
    assert model.loss_and_gradient(x, targets, lengths) == loss
    np.testing.assert_array_equal(model.gradient, gradient)
    for column, length in enumerate(lengths):
        alone = model(x[:length, column : column + 1])
        np.testing.assert_allclose(alone[0], expected[column], rtol=1e-10)


def test_an_encoder_keeps_the_last_states(rng):
    x, _, lengths = sequences(rng)
    forward, backward = (
        make_layers("gru", FEATURES, H, 2, dtype="float64", rng=rng) for _ in range(2)
    )
    first, second = Encoder(forward, backward)(x, lengths)
    y, _ = forward(x, lengths=lengths)
    np.testing.assert_allclose(first, y[lengths - 1, np.arange(6)], rtol=1e-12)
    y, _ = backward(flip(x, lengths), lengths=lengths)
    np.testing.assert_allclose(second, y[lengths - 1, np.arange(6)], rtol=1e-12)
    both = make_layers("gru", FEATURES, H, 2, bidirectional=True, dtype="float64", rng=rng)
    first, second = Encoder(both)(x, lengths)
    y, _ = both(x, lengths=lengths)
    np.testing.assert_allclose(first, y[lengths - 1, np.arange(6), :H], rtol=1e-12)
    np.testing.assert_allclose(second, y[0, :, H:], rtol=1e-12)


@pytest.mark.parametrize("shape", [(9, 6), (9, 6, 3)])
def test_reverse(rng, shape):
    x = rng.integers(99, size=shape)
    kept = x.copy()
    lengths = np.array([9, 1, 4, 0, 8, 2])
    turned = reverse(x, lengths)
    np.testing.assert_array_equal(turned, flip(x, lengths))
    np.testing.assert_array_equal(reverse(turned, lengths), x)
    np.testing.assert_array_equal(reverse(x), x[::-1])
    np.testing.assert_array_equal(reverse(x, np.full(6, 9)), x[::-1])
    reverse(x)[:] = 0
    np.testing.assert_array_equal(x, kept)


def test_dropout_acts_in_training_alone(rng):
    reader = encoder("one", "gru", rng, dropout=0.5)
    model = SequenceClassifier(LABELS, reader, rng=rng)
    x, targets, lengths = sequences(rng)
    assert len({model.loss_and_gradient(x, targets, lengths) for _ in range(3)}) == 3
    assert len({model(x, lengths).tobytes() for _ in range(3)}) == 1


def test_parameters_are_one_buffer(rng):
    model = SequenceClassifier(LABELS, encoder("two", "gru", rng), 7, rng=rng)
    assert all(np.shares_memory(view, model.flat) for view in model.parameters.values())
    assert sum(view.size for view in model.parameters.values()) == model.flat.size
    assert {
        "encoder.forward.weight_ih_l0", "encoder.backward.weight_hh_l1", "projection.0.weight",
        "projection.0.bias", "projection.1.weight", "head.weight", "head.bias",
    } <= set(model.parameters)  # fmt: skip
    assert "projection.1.bias" not in model.parameters


def test_what_does_not_fit_is_refused(rng):
    gru = rnnfast.GRU(FEATURES, H, rng=rng)
    both = rnnfast.GRU(FEATURES, H, bidirectional=True, rng=rng)
    with pytest.raises(ValueError, match="encoder: forward is batch-first, expected time-major"):
        Encoder(rnnfast.GRU(FEATURES, H, batch_first=True, rng=rng))
    for pair, name in (((both, gru), "forward"), ((gru, both), "backward")):
        with pytest.raises(ValueError, match=f"encoder: {name} is bidirectional, expected one"):
            Encoder(*pair)
    with pytest.raises(ValueError, match="model: got 1 classes, expected at least 2"):
        SequenceClassifier(["all"], Encoder(gru))
    model = SequenceClassifier(LABELS, Encoder(gru))
    with pytest.raises(ValueError, match=r"targets\[2\] is 3, expected 0 to 2"):
        model.loss_and_gradient(np.zeros((4, 3, FEATURES), "f"), np.array([0, 1, 3]))
