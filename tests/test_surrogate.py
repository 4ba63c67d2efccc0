"""What a `Surrogate` promises beyond the contract that every pair meets."""

import copy
import dataclasses
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from products import some

from keras_surrogate import Surrogate, functions, presets, testing

PAIR = Surrogate("relu", "softplus")
X = np.array([[-2.0, -0.5, 0.5, 3.0]], "float32")


def value_and_gradient(function, x):
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return y.numpy(), tape.gradient(y, x).numpy()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_value_of_one_and_slope_of_the_other():
    y, gradient = value_and_gradient(PAIR, X)
    np.testing.assert_array_equal(y, np.maximum(X, 0))
    np.testing.assert_allclose(gradient, sigmoid(X), rtol=1e-6)


def test_scale_multiplies_the_slope_and_scaled_multiplies_the_scale():
    _, gradient = value_and_gradient(Surrogate("relu", "softplus", -0.5).scaled(4), X)
    np.testing.assert_allclose(gradient, -2 * sigmoid(X), rtol=1e-6)


def test_true_is_the_ordinary_activation():
    np.testing.assert_array_equal(value_and_gradient(PAIR.true(), X)[1], X > 0)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(functions.names()), st.sampled_from(functions.names()), st.floats(-3, 3))
def test_configuration_round_trip(forward, backward, scale):
    pair = Surrogate(forward, backward, scale)
    assert Surrogate.from_config(pair.get_config()) == pair
    assert presets.get(pair.get_config()) == pair
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(pair)) == pair


def test_it_is_a_value():
    assert copy.deepcopy(PAIR) == PAIR == pickle.loads(pickle.dumps(PAIR))
    assert len({PAIR, Surrogate("relu", "softplus"), PAIR.true()}) == 2


def test_batch_jacobian_is_diagonal_with_the_slope():
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = PAIR(x)
    np.testing.assert_allclose(tape.batch_jacobian(y, x)[0], np.diag(sigmoid(X[0])), rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_forward_mode_in_every_nesting(jit_compile):
    """The accumulator around a compiled function, and inside one; forward over reverse as well."""
    x, tangent = tf.constant(X), tf.constant([[1.0, 2.0, 3.0, 4.0]])
    compiled = tf.function(PAIR, jit_compile=jit_compile)
    with tf.autodiff.ForwardAccumulator(x, tangent) as accumulator:
        y = compiled(x)
    np.testing.assert_allclose(accumulator.jvp(y), tangent * sigmoid(X), rtol=1e-6)

    @tf.function(jit_compile=jit_compile)
    def inside(x):
        with tf.autodiff.ForwardAccumulator(x, tangent) as accumulator:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = PAIR(x)
            gradient = tape.gradient(y, x)
        return y, accumulator.jvp(y), accumulator.jvp(gradient)

    y, jvp, second = inside(x)
    np.testing.assert_array_equal(y, np.maximum(X, 0))
    np.testing.assert_allclose(jvp, tangent * sigmoid(X), rtol=1e-6)
    np.testing.assert_allclose(second, tangent * sigmoid(X) * (1 - sigmoid(X)), rtol=1e-5)


def test_second_order_of_an_output_based_slope():
    """tanh's slope comes from the output; its derivative is still that of the input's function."""
    x = tf.constant(X, tf.float64)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = Surrogate("tanh")(x)
        gradient = inner.gradient(y, x)
    expected = -2 * np.tanh(x) * (1 - np.tanh(x) ** 2)
    np.testing.assert_allclose(outer.gradient(gradient, x), expected, rtol=1e-6)


def test_a_backward_that_needs_only_the_sign_keeps_the_output_and_not_the_input():
    """In the graph of a training step, the gradient reads the activation's output, so the input can be freed."""

    @tf.function
    def gradient(x):
        hidden = tf.sin(x)
        with tf.GradientTape() as tape:
            tape.watch(hidden)
            y = Surrogate("relu", "leaky_relu")(hidden)
        return tape.gradient(y, hidden)

    graph = gradient.get_concrete_function(tf.TensorSpec([4])).graph
    (kernel,) = [
        operation for operation in graph.get_operations() if operation.type == "LeakyReluGrad"
    ]
    assert kernel.inputs[1].op.type == "Relu"


def test_forward_mode_costs_nothing_where_it_is_not_used():
    graph = tf.function(PAIR).get_concrete_function(tf.TensorSpec([4])).graph
    assert not [operation for operation in graph.get_operations() if operation.type == "Softplus"]


def test_a_variable_is_differentiated_too():
    variable = tf.Variable(X)
    with tf.GradientTape() as tape:
        y = PAIR(variable)
    np.testing.assert_allclose(tape.gradient(y, variable), sigmoid(X), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extremes_of_the_gradient(dtype):
    largest = np.finfo(dtype).max
    _, gradient = value_and_gradient(
        PAIR, np.array([-np.inf, -largest, largest, np.inf, np.nan], dtype)
    )
    np.testing.assert_array_equal(gradient, [0, 0, 1, 1, np.nan])


LAYERS = {
    "Dense": lambda: keras.layers.Dense(3, activation=PAIR),
    "Conv1D": lambda: keras.layers.Conv1D(3, 2, activation=PAIR),
    "SimpleRNN": lambda: keras.layers.SimpleRNN(3, activation=PAIR),
    "LSTM": lambda: keras.layers.LSTM(
        3, activation=Surrogate("tanh", "softsign"), recurrent_activation="sigmoid"
    ),
    "GRU": lambda: keras.layers.GRU(
        3, activation=PAIR, recurrent_activation=Surrogate("sigmoid", "flat_spot_sigmoid")
    ),
    "Activation": lambda: keras.layers.Activation(PAIR),
    "TimeDistributed": lambda: keras.layers.TimeDistributed(keras.layers.Dense(2, activation=PAIR)),
    "Bidirectional": lambda: keras.layers.Bidirectional(keras.layers.GRU(3, activation=PAIR)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_activation_argument_of_keras_layers_survives_saving(kind, tmp_path):
    model = keras.Sequential(
        [keras.Input((5, 4)), LAYERS[kind](), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for ours, again in zip(
        value_and_gradient(model, x), value_and_gradient(loaded, x), strict=True
    ):
        np.testing.assert_array_equal(ours, again)
    copied = keras.models.clone_model(model)
    assert copied.layers[0].get_config() == model.layers[0].get_config()


def test_mixed_precision():
    layer = keras.layers.Dense(3, activation=PAIR, dtype="mixed_bfloat16")
    y, gradient = value_and_gradient(layer, X)
    assert y.dtype == tf.bfloat16
    assert gradient.dtype == np.float32
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (tf.constant([1, 2]), "got int32. Convert them by tf.cast"),
        ([1, 2], "got int32"),
        (tf.constant([1j]), "got complex128"),
        (tf.ragged.constant([[1.0], [2.0, 3.0]]), "RaggedTensor.*map_flat_values"),
        (tf.sparse.from_dense([1.0, 0.0]), "SparseTensor.*to_dense"),
    ],
)
def test_tensors_it_cannot_take(x, message):
    with pytest.raises(ValueError, match=message):
        PAIR(x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rleu", "softplus"), "'rleu'.*Did you mean 'relu'"),
        (("relu", "sotfplus"), "'sotfplus'.*Did you mean 'softplus'"),
        (("relu", "softplus", float("nan")), "scale must be a finite number, but is nan"),
        (("relu", "softplus", "2"), "scale must be a finite number, but is '2'"),
        (("relu", 7), "not 7"),
        (("sugar_bsilu",), r"published pair .*keras_surrogate.get\('sugar_bsilu'\)"),
        (("relu", "sugar_bsilu"), r"published pair .*keras_surrogate.get\('sugar_bsilu'\)"),
        (("relu", keras.layers.ReLU()), "needs a function, but got the layer"),
        ((None,), "not None"),
    ],
)
def test_mistakes_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        Surrogate(*arguments)


@pytest.mark.parametrize("blend", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_blended_slopes_in_reverse_and_forward_mode(blend, jit_compile):
    @tf.function(jit_compile=jit_compile)
    def both(x):
        with (
            tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator,
            tf.GradientTape() as tape,
        ):
            tape.watch(x)
            y = PAIR.blended(x, blend)
        return accumulator.jvp(y), tape.gradient(y, x)

    for slope in both(tf.constant(X)):
        np.testing.assert_allclose(slope, blend * sigmoid(X) + (1 - blend) * (X > 0), rtol=1e-6)


@some("name", ["sugar_bsilu", "sugar_nelu", "ste_sign", "swish_sign"], ["sugar_bsilu"])
def test_a_slope_compiled_by_itself_meets_the_whole_contract(name):
    testing.check_surrogate(dataclasses.replace(presets.get(name), jit_compile=True))


def test_a_slope_compiled_by_itself_is_exported(tmp_path):
    pair = Surrogate("relu", "bsilu", jit_compile=True)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Activation(pair)])
    model.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "exported")
    expected = value_and_gradient(Surrogate("relu", "bsilu"), X)[1]
    np.testing.assert_allclose(value_and_gradient(loaded.serve, X)[1], expected, rtol=1e-6)


@pytest.mark.parametrize("jit_compile", [1, None, "always"])
def test_jit_compile_is_a_bool_or_auto(jit_compile):
    with pytest.raises(ValueError, match="jit_compile must be True, False or 'auto', but is"):
        Surrogate("relu", "bsilu", jit_compile=jit_compile)


@pytest.mark.parametrize(
    ("pair", "title"),
    [
        (Surrogate("sigmoid"), "sigmoid"),
        (Surrogate("sigmoid", "tanh"), "sigmoid with the slope of tanh"),
        (Surrogate("sigmoid", scale=4), "sigmoid with the slope of 4 * sigmoid"),
    ],
)
def test_titles(pair, title):
    assert pair.title == title
