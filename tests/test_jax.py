"""The layers as JAX functions: values and gradients are those of a `lax.scan` over the steps."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnnfast
from cases import Array, build

jax = pytest.importorskip("jax", reason="rnnfast.jax needs jax")
import jax.numpy as jnp  # noqa: E402

from rnnfast.jax import Function  # noqa: E402

VARIANTS = ["rnn-tanh", "rnn-relu", "lstm", "lstm-proj", "gru", "gru-before"]
PAGE = Path(__file__).parents[1] / "docs/jax.md"


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


# -- the same in plain JAX --------------------------------------------------------------------


def basic(layer: Any, ours: Any, theirs: Any, state: Any, weights: Any) -> Any:
    h = ours + theirs
    return (jax.nn.relu(h) if layer.nonlinearity == "relu" else jnp.tanh(h),)


def lstm(layer: Any, ours: Any, theirs: Any, state: Any, weights: Any) -> Any:
    i, f, g, o = jnp.split(ours + theirs, 4, axis=-1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h @ weights["weight_hr"].T if layer.proj_size else h), c


def gru(layer: Any, ours: Any, theirs: Any, state: Any, weights: Any) -> Any:
    (r, z, n), (r_h, z_h, n_h) = jnp.split(ours, 3, -1), jnp.split(theirs, 3, -1)
    r, z = jax.nn.sigmoid(r + r_h), jax.nn.sigmoid(z + z_h)
    if layer.reset_after:
        n = jnp.tanh(n + r * n_h)
    else:
        H = layer.hidden_size
        bias = weights["bias_hh"][2 * H :] if layer.bias else 0
        n = jnp.tanh(n + (r * state[0]) @ weights["weight_hh"][2 * H :].T + bias)
    return ((1 - z) * n + z * state[0],)


CELLS = {rnnfast.RNN: basic, rnnfast.LSTM: lstm, rnnfast.GRU: gru}


def one_direction(layer: Any, weights: Any, x: Any, state: Any, lengths: Any, reset: Any) -> Any:
    """Outputs (T, B, ·), zero past the lengths, and the last state."""

    def step(state: Any, now: Any) -> Any:
        x, valid, restart = now
        began = [jnp.where(restart[:, None], 0, s) for s in state]
        ours = x @ weights["weight_ih"].T + weights.get("bias_ih", 0)
        theirs = began[0] @ weights["weight_hh"].T + weights.get("bias_hh", 0)
        after = CELLS[type(layer)](layer, ours, theirs, began, weights)
        after = [jnp.where(valid[:, None], a, s) for a, s in zip(after, state, strict=True)]
        return after, jnp.where(valid[:, None], after[0], 0)

    valid = jnp.arange(len(x))[:, None] < lengths
    final, y = jax.lax.scan(step, state, (x, valid, reset))
    return y, final


def backwards(x: Any, lengths: Any) -> Any:
    """Each sequence from its own end; what lies past it stays."""
    t = jnp.arange(len(x))[:, None]
    order = jnp.where(t < lengths, lengths - 1 - t, t)
    return jnp.take_along_axis(x, order[..., None], axis=0)


def scan(layer: Any, parameters: Any, x: Any, state: Any, lengths: Any, reset: Any) -> Any:
    """Stand in for `Function`: features (T, B, I) alone, and every argument given."""
    states, finals = [jnp.stack(s) for s in state], []
    for k in range(layer.num_layers):
        outputs = []
        for d in range(1 + layer.bidirectional):
            end = f"_l{k}" + "_reverse" * d
            weights = {
                n.removesuffix(end): p for n, p in parameters.items() if re.search(f"{end}$", n)
            }
            first = [s[len(finals)] for s in states]
            given = backwards(x, lengths) if d else x
            y, final = one_direction(layer, weights, given, first, lengths, reset)
            outputs.append(backwards(y, lengths) if d else y)
            finals.append(final)
        x = jnp.concatenate(outputs, axis=-1)
    return x, tuple(jnp.stack(parts) for parts in zip(*finals, strict=True))


# -- cases ------------------------------------------------------------------------------------

Arguments = dict[str, Any]
T, B = 7, 5


def pairs(layer: Any, state: Any) -> Any:
    """State as a tuple, whatever the cell."""
    return state if isinstance(layer, rnnfast.LSTM) else (state,)


def arguments(rng: np.random.Generator, layer: Any) -> Arguments:
    rows = layer.num_layers * (1 + layer.bidirectional)
    widths = [layer.proj_size or layer.hidden_size, layer.hidden_size]
    state = [rng.standard_normal((rows, B, w)).astype(layer.dtype) for w in widths]
    state = state if isinstance(layer, rnnfast.LSTM) else state[:1]
    return {
        "parameters": layer.state_dict(),
        "x": rng.standard_normal((T, B, layer.input_size)).astype(layer.dtype),
        "state": tuple(state),
        "lengths": np.array([T, 0, 3, 1, T - 1]),
        "reset": np.zeros((T, B), bool) if layer.bidirectional else rng.random((T, B)) < 0.2,
    }


def ours(function: Function, a: Arguments) -> Any:
    """Call the function with the state as a tuple."""
    given = a["state"] if len(a["state"]) == 2 else a["state"][0]
    y, final = function(a["parameters"], a["x"], given, a["lengths"], a["reset"])
    return y, pairs(function.layer, final)


def split(a: Arguments) -> tuple[Arguments, Arguments]:
    """What has a gradient, and the rest."""
    smooth = ("parameters", "x", "state")
    return {k: a[k] for k in smooth}, {k: v for k, v in a.items() if k not in smooth}


def assert_close(found: Any, expected: Any, tolerance: float) -> None:
    a, b = jax.tree.leaves_with_path(found), jax.tree.leaves_with_path(expected)
    assert [path for path, _ in a] == [path for path, _ in b]
    for (path, v), (_, w) in zip(a, b, strict=True):
        assert v.shape == w.shape and v.dtype == w.dtype, path
        scale = max(1.0, np.abs(np.asarray(w)).max(initial=0))
        np.testing.assert_allclose(v, w, rtol=0, atol=tolerance * scale, err_msg=str(path))


def like(rng: np.random.Generator, tree: Any) -> Any:
    return jax.tree.map(lambda v: jnp.asarray(rng.standard_normal(v.shape), v.dtype), tree)


OPTIONS = [
    pytest.param({}, "float64", 1e-12, id="plain"),
    pytest.param({"num_layers": 2, "bidirectional": True}, "float64", 1e-12, id="two-layers"),
    pytest.param({"bias": False}, "float32", 2e-5, id="no-bias-float32"),
]


@pytest.mark.parametrize(("options", "dtype", "tolerance"), OPTIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_values_and_gradients_are_those_of_a_scan(
    variant: str, options: dict[str, Any], dtype: str, tolerance: float, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 6, 9, dtype=dtype, rng=rng, **options)
    function = Function(layer)
    smooth, rest = split(arguments(rng, layer))
    expected, pull = jax.vjp(lambda s: scan(layer, **s, **rest), smooth)
    cotangents = like(rng, expected)
    assert_close(ours(function, smooth | rest), expected, tolerance)

    def run(smooth: Any, cotangents: Any) -> Any:
        found, pull = jax.vjp(lambda s: ours(function, s | rest), smooth)
        return found, pull(cotangents)[0]

    assert_close(jax.jit(run)(smooth, cotangents), (expected, pull(cotangents)[0]), tolerance)


# -- axes and optional arguments --------------------------------------------------------------


def quadratic(function: Function, **fixed: Any) -> Any:
    """Make a loss of parameters and x that looks at all outputs."""

    def loss(parameters: Any, x: Any, **more: Any) -> Any:
        results = jax.tree.leaves(function(parameters, x, **fixed, **more))
        return sum(jnp.sum(jnp.cos(k + v)) for k, v in enumerate(results))

    return loss


def numpy_gradients(layer: Any, x: Array, state: Any = None, lengths: Any = None) -> Any:
    """Gradients of `quadratic` by the layer itself."""
    y, final, tape = layer.forward(x, state, lengths)
    down = [-np.sin(k + v) for k, v in enumerate([y, *pairs(layer, final)])]
    grads = layer.backward(tape, down[0], tuple(down[1:]) if len(down) > 2 else down[1])
    return dict(grads.parameters), grads.x


@pytest.mark.parametrize(
    ("options", "shape"),
    [({"batch_first": True}, (3, T, 6)), ({}, (T, 6)), ({"batch_first": True}, (T, 6))],
)
@pytest.mark.parametrize("variant", ["lstm", "gru"])
def test_axes_are_those_of_the_layer(
    variant: str, options: dict[str, Any], shape: Any, rng: np.random.Generator
) -> None:
    layer = build(rnnfast, variant, 6, 9, dtype="float64", bidirectional=True, rng=rng, **options)
    x = rng.standard_normal(shape)
    lengths = np.full(shape[0], 4) if len(shape) == 3 else 4
    function = Function(layer)
    assert_close(function(function.parameters(), x, lengths=lengths), layer(x, lengths=lengths), 0)
    loss = quadratic(function, lengths=lengths)
    found = jax.jit(jax.grad(loss, argnums=(0, 1)))(function.parameters(), x)
    assert_close(found, numpy_gradients(layer, x, None, lengths), 1e-12)


def test_tokens_are_gathered_and_have_no_gradient(rng: np.random.Generator) -> None:
    layer = rnnfast.GRU(11, 4, dtype="float64", rng=rng)
    function, tokens = Function(layer), rng.integers(11, size=(T, B))
    one_hot = np.eye(11)[tokens]
    gradient = jax.jit(jax.grad(quadratic(function)))
    found, expected = (gradient(function.parameters(), x) for x in (tokens, one_hot))
    assert_close(function(function.parameters(), tokens), layer(one_hot), 1e-12)
    assert_close(found, expected, 1e-12)


def test_half_a_state_stands_for_zeros(rng: np.random.Generator) -> None:
    layer = rnnfast.LSTM(3, 4, dtype="float64", rng=rng)
    function, x = Function(layer), rng.standard_normal((T, B, 3))
    c = rng.standard_normal((1, B, 4))

    def loss(c: Any) -> Any:
        return jnp.sum(function(function.parameters(), x, (None, c))[0] ** 2)

    y, _, tape = layer.forward(x, (None, c))
    assert_close(jax.grad(loss)(c), layer.backward(tape, 2 * y).state[1], 1e-12)


@pytest.mark.parametrize("shape", [(T, 0, 3), (1, 1, 3)])
def test_small_batches(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    layer = rnnfast.LSTM(3, 4, dtype="float64", rng=rng)
    function, x = Function(layer), rng.standard_normal(shape)
    found = jax.jit(jax.grad(quadratic(function), argnums=(0, 1)))(function.parameters(), x)
    assert_close(found, numpy_gradients(layer, x), 1e-12)


def test_other_floats_are_converted_and_have_gradients_of_their_type() -> None:
    layer = rnnfast.GRU(3, 4, rng=0)
    function, x = Function(layer), jnp.linspace(-1, 1, T * B * 3, dtype=jnp.bfloat16)
    x = x.reshape(T, B, 3)
    y, _ = function(function.parameters(), x)
    np.testing.assert_array_equal(y, layer(np.asarray(x, np.float32))[0])
    gradient = jax.grad(lambda x: jnp.sum(function(function.parameters(), x)[0]))(x)
    assert gradient.dtype == jnp.bfloat16


# -- transformations --------------------------------------------------------------------------


@pytest.fixture
def function() -> Function:
    return Function(rnnfast.LSTM(3, 4, dtype="float64", rng=0))


@pytest.fixture(params=[2**30, 0], ids=["keep", "recompute"])
def either(request: pytest.FixtureRequest) -> Function:
    """The same, whether tapes are kept or made again."""
    return Function(rnnfast.LSTM(3, 4, dtype="float64", rng=0), keep=request.param)


def test_a_vjp_may_be_pulled_twice_or_never(either: Function, rng: np.random.Generator) -> None:
    x = rng.standard_normal((T, B, 3))
    (y, state), pull = jax.vjp(either, either.parameters(), x)
    jax.vjp(either, either.parameters(), x)
    cotangents = like(rng, (y, state))
    assert_close(pull(cotangents), pull(cotangents), 0)
    twice = jax.tree.map(lambda v: 2 * v, cotangents)
    assert_close(pull(twice), jax.tree.map(lambda v: 2 * v, pull(cotangents)), 1e-12)


def test_grad_of_jit_and_jit_of_grad_agree(either: Function, rng: np.random.Generator) -> None:
    x, parameters = rng.standard_normal((T, B, 3)), either.parameters()
    loss = quadratic(either)
    expected = jax.grad(loss)(parameters, x)
    for transformed in (
        jax.grad(jax.jit(loss)),
        jax.jit(jax.grad(loss)),
        jax.grad(jax.checkpoint(loss)),
    ):
        assert_close(transformed(parameters, x), expected, 1e-12)


def test_vmap_over_inputs_and_parameters(either: Function, rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, T, B, 3))
    parameters = [either.init(jax.random.key(k)) for k in range(4)]
    stacked = jax.tree.map(lambda *v: jnp.stack(v), *parameters)
    gradient = jax.value_and_grad(quadratic(either), argnums=(0, 1))
    for axes, given in (((0, 0), stacked), ((None, 0), parameters[0])):
        found = jax.jit(jax.vmap(gradient, axes))(given, x)
        for k in range(4):
            p = parameters[k if axes[0] == 0 else 0]
            assert_close(jax.tree.map(lambda v, k=k: v[k], found), gradient(p, x[k]), 1e-12)


def test_jacobians_are_made_row_by_row(function: Function, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 1, 3))
    rows = jax.jacrev(lambda x: function(function.parameters(), x)[0])(x)
    step = 1e-6
    for t in range(3):
        bump = np.zeros_like(x)
        bump[t, 0, 1] = step
        found = [function(function.parameters(), v)[0] for v in (x + bump, x - bump)]
        np.testing.assert_allclose(rows[..., t, 0, 1], (found[0] - found[1]) / 2 / step, atol=1e-8)


def test_truncated_bptt_in_a_scan(either: Function, rng: np.random.Generator) -> None:
    """The state of one block is the next one's: as one sequence, gradients too."""
    x = jnp.asarray(rng.standard_normal((3, 4, B, 3)))
    zeros = jnp.zeros((1, B, 4))

    def blocks(parameters: Any) -> Any:
        def block(state: Any, x: Any) -> Any:
            y, state = either(parameters, x, state)
            return state, y

        return jnp.sum(jnp.cos(jax.lax.scan(block, (zeros, zeros), x)[1]))

    def whole(parameters: Any) -> Any:
        return jnp.sum(jnp.cos(either(parameters, x.reshape(12, B, 3))[0]))

    found, expected = (jax.jit(jax.value_and_grad(f))(either.parameters()) for f in (blocks, whole))
    assert_close(found, expected, 1e-11)


def test_training_lowers_the_loss(rng: np.random.Generator) -> None:
    """A GRU learns the running sum of its inputs."""
    function = Function(rnnfast.GRU(1, 16))
    key = jax.random.key(0)
    weights = {"gru": function.init(key), "out": jax.random.normal(key, (16, 1), "float32") / 4}
    x = jnp.asarray(rng.uniform(-0.3, 0.3, (12, 32, 1)), "float32")
    target = jnp.cumsum(x, axis=0)

    @jax.jit
    def step(weights: Any) -> Any:
        def loss(weights: Any) -> Any:
            return jnp.mean((function(weights["gru"], x)[0] @ weights["out"] - target) ** 2)

        value, gradient = jax.value_and_grad(loss)(weights)
        return value, jax.tree.map(lambda w, g: w - 0.1 * g, weights, gradient)

    losses = []
    for _ in range(300):
        value, weights = step(weights)
        losses.append(float(value))
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("derivative", [jax.hessian, jax.jacfwd])
def test_other_derivatives_are_refused(derivative: Any, function: Function) -> None:
    x = jnp.ones((2, 1, 3))
    with pytest.raises((TypeError, ValueError), match=r"JVP|jvp|forward-mode"):
        derivative(lambda x: jnp.sum(function(function.parameters(), x)[0]))(x)


# -- tapes ------------------------------------------------------------------------------------


def test_tapes_wait_for_one_backward_pass(rng: np.random.Generator) -> None:
    function = Function(rnnfast.GRU(3, 4, dtype="float64", rng=0))
    x = rng.standard_normal((T, B, 3))
    results, pull = jax.vjp(function, function.parameters(), x)
    (nbytes,) = (size for _, size in function._tapes._kept.values())
    assert function._tapes._nbytes == nbytes > x.nbytes + results[0].nbytes
    pull(results)
    assert function._tapes._kept == {} and function._tapes._nbytes == 0
    function(function.parameters(), x)
    assert function._tapes._kept == {}


def test_the_oldest_tapes_are_given_up_and_made_again(rng: np.random.Generator) -> None:
    layer = rnnfast.GRU(3, 4, dtype="float64", rng=0)
    roomy = Function(layer)
    inputs = [rng.standard_normal((T, B, 3)) for _ in range(4)]
    jax.vjp(roomy, roomy.parameters(), inputs[0])
    tight = Function(layer, keep=2 * roomy._tapes._nbytes)
    pulls = [jax.vjp(tight, tight.parameters(), x) for x in inputs]
    assert len(tight._tapes._kept) == 2 and tight._tapes._nbytes <= tight._tapes.limit
    for x, (results, pull) in zip(inputs, pulls, strict=True):
        expected = jax.vjp(roomy, roomy.parameters(), x)[1](results)
        assert_close(pull(results), expected, 0)
    assert tight._tapes._nbytes == 0


def test_only_what_is_asked_for_is_computed() -> None:
    """Without a gradient of x, or a cotangent of the state, the callback has none either."""
    function = Function(rnnfast.GRU(3, 4))
    x = jnp.ones((T, B, 3), "float32")

    def loss(parameters: Any, x: Any) -> Any:
        return jnp.sum(function(parameters, x)[0])

    def shapes(argnums: Any) -> Any:
        jaxpr = jax.make_jaxpr(jax.grad(loss, argnums))(function.parameters(), x).jaxpr
        call = [e for e in jaxpr.eqns if e.primitive.name == "pure_callback"][-1]
        return [[v.aval.shape for v in side] for side in (call.invars, call.outvars)]

    size = (function.layer.flat.size,)
    assert shapes(0) == [[(16,), size, x.shape, (T, B, 4)], [size]]
    assert shapes((0, 1))[1] == [size, x.shape]


@pytest.mark.parametrize(
    ("keep", "message"), [(-1, "-1, expected at least 0"), (1.5, "a float, expected an integer")]
)
def test_a_wrong_limit_is_refused(keep: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^gru: keep is {message}$"):
        Function(rnnfast.GRU(3, 4), keep=keep)


# -- parameters -------------------------------------------------------------------------------


def test_parameters_are_copies_of_the_layers(function: Function) -> None:
    before = function.parameters()
    assert_close(before, function.layer.state_dict(), 0)
    function.layer.flat += 1
    assert not np.array_equal(before["bias_hh_l0"], function.parameters()["bias_hh_l0"])
    x = np.ones((2, 1, 3))
    first = rnnfast.LSTM(3, 4, dtype="float64", rng=0)(x)
    assert_close(function(before, x), first, 0)


def test_initial_parameters_depend_on_the_key_alone(function: Function) -> None:
    first, again, other = (function.init(jax.random.key(k)) for k in (1, 1, 2))
    assert_close(first, again, 0)
    assert jax.tree.map(jnp.shape, first) == jax.tree.map(np.shape, function.layer.state_dict())
    values = np.concatenate([np.ravel(v) for v in first.values()])
    assert np.abs(values).max() <= 0.5 and np.std(values) == pytest.approx(1 / 12**0.5, rel=0.15)
    assert len(np.unique(values)) == values.size
    assert not np.array_equal(first["weight_ih_l0"], other["weight_ih_l0"])


# -- refusals ---------------------------------------------------------------------------------

X = jax.ShapeDtypeStruct((T, B, 3), "float64")
STATE = jax.ShapeDtypeStruct((1, B, 4), "float64")


def struct(*shape: int, dtype: str = "float64") -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


REFUSED = {
    "features": ({"x": struct(T, B, 2)}, "x has 2 features in its last axis, expected input_si"),
    "axes": ({"x": struct(T, B, 3, 1)}, r"x has shape \(7, 5, 3, 1\), expected \(T, B, I\)"),
    "bools": ({"x": struct(T, B, dtype="bool")}, "x has dtype bool, expected floating point, or"),
    "complex": ({"x": struct(T, B, 3, dtype="complex128")}, "x has dtype complex128, expected"),
    "token axes": ({"x": struct(T, B, 3, dtype="int32")}, r"expected tokens \(T, B\) or \(T,\)"),
    "no steps": ({"x": struct(0, B, 3)}, "expected at least one time step"),
    "state": ({"state": (STATE, struct(1, B, 3))}, r"state\[1\] has shape .* \(L\*D, B, H\) = "),
    "no pair": ({"state": STATE}, r"state is a .*, expected a pair \(h, c\)"),
    "triple": ({"state": (STATE,) * 3}, "state has 3 parts, expected the pair"),
    "integer state": ({"state": (struct(1, B, 4, dtype="int32"), None)}, "expected floating po"),
    "lengths": ({"lengths": struct(4, dtype="int32")}, r"lengths has shape \(4,\), expected \(B"),
    "real lengths": ({"lengths": struct(B)}, "lengths has dtype float64, expected integers"),
    "reset": ({"reset": struct(B, T, dtype="bool")}, r"reset has shape .* expected \(T, B\) = "),
    "reset type": ({"reset": struct(T, B, dtype="int32")}, "reset has dtype int32, expected bool"),
    "names": ({"parameters": {}}, r"parameters have the names \[\], expected exactly \['weight"),
    "mapping": ({"parameters": [X]}, "parameters is a list, expected a mapping"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_arguments_are_refused_while_tracing(case: str, function: Function) -> None:
    change, message = REFUSED[case]
    given = {"parameters": jax.eval_shape(function.parameters), "x": X, **change}
    with pytest.raises((TypeError, ValueError), match=f"^lstm: .*{message}"):
        jax.eval_shape(lambda a: function(**a), given)


def test_a_wrong_parameter_is_named(function: Function) -> None:
    parameters = function.parameters() | {"bias_hh_l0": jnp.zeros(3)}
    with pytest.raises(ValueError, match=r"^lstm: bias_hh_l0 has shape \(3,\), expected \(16,\)$"):
        function(parameters, np.ones((T, B, 3)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("given", [{"x": np.full((T, B), 3)}, {"lengths": np.full(B, T + 1)}])
def test_wrong_values_are_told_when_it_runs(given: dict[str, Any], function: Function) -> None:
    run = jax.jit(lambda a: function(function.parameters(), **a))
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"lstm: .* expected 0 <= "):
        jax.block_until_ready(run({"x": np.ones((T, B, 3))} | given))


def test_layers_that_are_no_functions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^gru: dropout is 0\.5, expected 0"):
        Function(rnnfast.GRU(3, 4, num_layers=2, dropout=0.5))
    with pytest.raises(TypeError, match=r"^rnnfast\.jax: layer is a int, expected a layer"):
        Function(3)  # type: ignore[arg-type]


def test_double_precision_must_be_on(function: Function) -> None:
    parameters = function.parameters()
    jax.config.update("jax_enable_x64", False)
    for call in (
        function.parameters,
        lambda: function.init(jax.random.key(0)),
        lambda: function(parameters, np.ones((T, B, 3))),
    ):
        with pytest.raises(ValueError, match="lstm: the layer is float64, expected jax_enable_x64"):
            call()


def test_without_jax_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.delitem(sys.modules, "rnnfast.jax")
    with pytest.raises(ImportError, match="pip install jax"):
        importlib.import_module("rnnfast.jax")


def test_the_page_runs() -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, names)
