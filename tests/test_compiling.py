"""Value and slope that are compiled by themselves, where that pays, and where they are not."""

import dataclasses
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import Surrogate, compiling, functions, presets, testing, true_gradients
from keras_surrogate.layers import SurrogateActivation

LARGE = (compiling.LEAST_ELEMENTS // 64, 64)
# Slopes of one operation, for which native ReLU has one as well.
SINGLE = ["artificial_relu", "leaky_backward"]
COMPILED = [name for name in presets.names() if name not in SINGLE]
# Forwards for which TensorFlow has one operation.
VALUE_OF_ONE_OPERATION = [functions.get(name) for name in ("relu", "sigmoid", "linear")]
EXTREMES = [0, 1e-38, -1e-38, 1, -1, 3e38, -3e38, np.inf, -np.inf, np.nan]


@pytest.fixture(autouse=True)
def no_shapes_yet(monkeypatch):
    monkeypatch.setattr(compiling, "_shapes", set())


@pytest.fixture
def everything_is_large(monkeypatch):
    monkeypatch.setattr(compiling, "LEAST_ELEMENTS", 1)


def value_and_gradient(pair):
    def compute(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = pair(x)
        return y, tape.gradient(y, x)

    return compute


def graph_of(function, shape=LARGE, dtype=tf.float32):
    concrete = tf.function(function).get_concrete_function(tf.TensorSpec(shape, dtype))
    return concrete.graph.as_graph_def()


def hints(graph_def):
    """The operations of a graph, and of the functions it calls, that XLA may compile."""
    nodes = [*graph_def.node]
    for function in graph_def.library.function:
        nodes += function.node_def
    return [node.op for node in nodes if "_XlaCompile" in node.attr]


def commands(graph_def):
    """The functions that XLA must compile."""
    return [
        function.signature.name
        for function in graph_def.library.function
        if "_XlaMustCompile" in function.attr and function.attr["_XlaMustCompile"].b
    ]


def uncompiled(pair):
    return dataclasses.replace(pair, jit_compile=False)


# --------------------------------------------------------------------------------------------------
# where


@pytest.mark.parametrize("name", COMPILED)
def test_slopes_of_several_operations_on_large_tensors_are_hinted_in_graphs(name):
    graph = graph_of(value_and_gradient(presets.get(name)))
    assert hints(graph)
    assert not commands(graph)
    # The forward alone: only where it has several operations itself.
    forward = presets.get(name).forward
    has_several = forward not in VALUE_OF_ONE_OPERATION
    assert bool(hints(graph_of(presets.get(name)))) == has_several


@pytest.mark.parametrize("name", SINGLE)
def test_slopes_of_one_operation_are_not(name):
    assert not hints(graph_of(value_and_gradient(presets.get(name))))


def test_a_scale_is_an_operation():
    pair = Surrogate("relu", "leaky_relu", scale=2.0)
    assert hints(graph_of(value_and_gradient(pair)))


@pytest.mark.parametrize(
    "shape", [(LARGE[0], LARGE[1] - 1), (None, LARGE[0] * LARGE[1]), None], ids=str
)
def test_small_tensors_and_unknown_shapes_are_not(shape):
    assert not hints(graph_of(value_and_gradient(presets.get("swish_sign")), shape))


def test_false_hints_nothing_and_true_commands():
    pair = presets.get("sugar_bsilu")
    assert not hints(graph_of(value_and_gradient(uncompiled(pair))))
    compiled = dataclasses.replace(pair, jit_compile=True)
    assert commands(graph_of(value_and_gradient(compiled), (2, 3)))


def test_eager_mode_traces_nothing(everything_is_large):
    compiling.hinted.cache_clear()
    value_and_gradient(presets.get("swish_sign"))(tf.ones([2, 3]))
    assert compiling.hinted.cache_info().currsize == 0


def test_callables_are_not_because_they_may_depend_on_more_than_their_input():
    factor = 1.0
    pair = Surrogate("relu", lambda x: tf.tanh(factor * x) ** 2)
    assert not hints(graph_of(value_and_gradient(pair)))
    x = tf.fill(LARGE, 0.3)
    for factor in (1.0, 2.0):
        _, gradient = tf.function(value_and_gradient(pair))(x)
        slope = 2 * np.tanh(0.3 * factor) * (1 - np.tanh(0.3 * factor) ** 2) * factor
        np.testing.assert_allclose(gradient[0, 0], slope, rtol=1e-5)


def test_a_function_with_a_list_is_not_because_it_cannot_be_kept(everything_is_large):
    class Polynomial(functions.Function, collect=False):
        coefficients: list

        def value(self, x):
            return sum(factor * x**power for power, factor in enumerate(self.coefficients))

    pair = Surrogate("relu", Polynomial([0.0, 1.0, 3.0]))
    x = tf.constant([0.5, -1.0])
    _, gradient = tf.function(value_and_gradient(pair))(x)
    np.testing.assert_allclose(gradient, [4.0, -5.0])


def test_true_gradients_of_a_value_that_would_be_compiled():
    # tanh_shrink is x - tanh(x), two operations, with the slope tanh(x)**2.
    pair = Surrogate("tanh_shrink", "bsilu")
    layer = keras.layers.Activation(pair)
    x = tf.fill(LARGE, 0.5)
    with true_gradients(layer):
        _, gradient = tf.function(value_and_gradient(layer))(x)
    np.testing.assert_allclose(gradient[0, 0], np.tanh(0.5) ** 2, rtol=1e-6)


def test_under_a_strategy_nothing_is_compiled(two_replicas):
    pair = presets.get("swish_sign")
    found = []

    def replica(x):
        result = value_and_gradient(pair)(x)
        found.extend(hints(tf.compat.v1.get_default_graph().as_graph_def()))
        return result

    x = tf.fill(LARGE, 0.1)
    _, gradient = tf.function(lambda: two_replicas.run(replica, [x]))()
    expected = value_and_gradient(pair)(x)[1]
    for local in two_replicas.experimental_local_results(gradient):
        np.testing.assert_allclose(local, expected, rtol=1e-6)
    assert not found


def test_on_another_device_than_a_cpu_nothing_is_compiled(monkeypatch):
    device = tf.config.LogicalDevice("/device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda *_: [device])
    assert not hints(graph_of(value_and_gradient(presets.get("swish_sign"))))


def test_the_number_of_shapes_is_bounded(monkeypatch):
    monkeypatch.setattr(compiling, "MOST_SHAPES", 2)
    compute = value_and_gradient(presets.get("sugar_bsilu"))
    found = [bool(hints(graph_of(compute, (rows * 2**17,)))) for rows in (1, 2, 3, 1)]
    assert found == [True, True, False, True]


def test_layers_of_one_shape_share_one_function():
    pair = presets.get("sugar_bsilu")

    def three_layers(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = pair(pair(pair(x)))
        return tape.gradient(y, x)

    graph = graph_of(three_layers)
    assert len(graph.library.function) == 1


# --------------------------------------------------------------------------------------------------
# what


@pytest.mark.parametrize("name", presets.names())
def test_the_whole_contract_with_everything_compiled_by_itself(name, everything_is_large):
    testing.check_surrogate(presets.get(name), save=False)
    # In float64, leaky ReLU's slope has several operations too.
    assert bool(compiling._shapes) == (name != "artificial_relu")


@pytest.mark.parametrize("name", ["elu", "log_sigmoid", "scaled_tanh"])
def test_slopes_from_the_output_keep_their_second_derivative(name, everything_is_large):
    """The value is not compiled then, although it has several operations."""
    testing.check_surrogate(Surrogate(name, scale=2.0), xla=False, save=False)
    assert compiling._shapes


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64])
def test_large_tensors_are_as_uncompiled_ones_in_every_dtype(dtype):
    """All presets in one graph, over the whole range, with both infinities and NaN."""
    ordinary = np.linspace(-8, 8, compiling.LEAST_ELEMENTS - len(EXTREMES))
    x = tf.cast(np.concatenate([ordinary, EXTREMES]), dtype)
    pairs = [presets.get(name) for name in COMPILED]
    got = tf.function(lambda x: [value_and_gradient(pair)(x) for pair in pairs])(x)
    expected = [value_and_gradient(uncompiled(pair))(x) for pair in pairs]
    precision = 8 * testing.DTYPES[dtype][0]
    for pair, ours, plain in zip(pairs, got, expected, strict=True):
        for one, other in zip(ours, plain, strict=True):
            assert one.dtype == dtype
            one, other = (np.asarray(tensor).astype("float64") for tensor in (one, other))
            size = np.nanmax(np.abs(other[np.isfinite(other)]))
            np.testing.assert_allclose(
                one, other, rtol=precision, atol=precision * size, err_msg=str(pair)
            )


@pytest.mark.parametrize("name", ["sugar_bsilu", "swish_sign"])
def test_a_loop_and_a_second_derivative_on_large_tensors(name):
    pair = presets.get(name)

    def repeated(pair):
        @tf.function
        def compute(x):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    y = tf.while_loop(
                        lambda step, y: step < 3,
                        lambda step, y: (step + 1, pair(y * 0.3 + 0.1)),
                        [0, x],
                    )[1]
                gradient = inner.gradient(y, x)
            return y, gradient, outer.gradient(gradient, x)

        return compute

    x = tf.reshape(tf.linspace(-2.0, 2.0, compiling.LEAST_ELEMENTS), LARGE)
    for ours, plain in zip(repeated(pair)(x), repeated(uncompiled(pair))(x), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-6)


# --------------------------------------------------------------------------------------------------
# saving


def step_model():
    return keras.Sequential(
        [keras.Input(LARGE[1:]), SurrogateActivation("ste_sign"), keras.layers.Dense(2)]
    )


def export(model, path, batch):
    signature = [tf.TensorSpec((batch, *LARGE[1:]))]
    model.export(path, verbose=False, input_signature=signature)


@pytest.mark.parametrize("batch", [None, LARGE[0]], ids=["any batch", "one batch size"])
def test_exported_models_hold_no_command_and_keep_the_gradient(batch, tmp_path):
    model = step_model()
    export(model, tmp_path / "served", batch)
    loaded = tf.saved_model.load(tmp_path / "served")
    for function in loaded.signatures.values():
        graph = function.graph.as_graph_def()
        assert not commands(graph)
        assert bool(hints(graph)) == (batch is not None)
    x = tf.reshape(tf.linspace(-2.0, 2.0, compiling.LEAST_ELEMENTS), LARGE)
    for got, expected in zip(
        value_and_gradient(loaded.serve)(x), value_and_gradient(model)(x), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_model_of_one_large_shape_becomes_a_tflite_file(tmp_path):
    if not hasattr(tf, "lite"):
        pytest.skip(
            "this TensorFlow has no TFLite converter; it is the separate package ai-edge-litert"
        )
    model = step_model()
    export(model, tmp_path / "served", LARGE[0])
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "served"))
    with warnings.catch_warnings():
        # tf.lite.Interpreter announces its end.
        warnings.simplefilter("ignore")
        interpreter = tf.lite.Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    x = np.linspace(-2, 2, compiling.LEAST_ELEMENTS, dtype="float32").reshape(LARGE)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(y, model.predict_on_batch(x), rtol=1e-4, atol=1e-5)


def test_every_setting_is_a_configuration():
    for jit_compile in (True, False, "auto"):
        pair = Surrogate("relu", "bsilu", jit_compile=jit_compile)
        assert Surrogate.from_config(pair.get_config()) == pair
        layer = SurrogateActivation("relu", "bsilu", jit_compile=jit_compile)
        assert SurrogateActivation.from_config(layer.get_config()).surrogate == pair
        assert SurrogateActivation(pair).surrogate == pair
        assert pair.true() == Surrogate("relu", jit_compile=jit_compile)
    without = {"forward": {"name": "relu"}, "backward": {"name": "bsilu"}, "scale": 1.0}
    assert Surrogate.from_config(without).jit_compile == "auto"


def test_no_function_of_the_collection_is_a_callable():
    """`FromCallable` alone is left out above."""
    assert not any(
        isinstance(functions.get(name), functions.FromCallable) for name in functions.names()
    )


def test_a_blended_slope_has_the_second_derivative_of_its_true_share(everything_is_large):
    """The true slope of elu comes from its output, and elu has several operations."""
    pair = Surrogate("elu", "bsilu")

    @tf.function
    def second(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = pair.blended(x, 0.0)
            gradient = inner.gradient(y, x)
        return outer.gradient(gradient, x)

    x = tf.constant([-2.0, -1.0])
    np.testing.assert_allclose(second(x), np.exp(x), rtol=1e-6)
