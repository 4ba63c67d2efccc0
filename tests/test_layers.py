"""What Keras expects of every layer of the package.

The checks run over every layer there is; at the end they are shown layers that are wrong.
"""

import inspect
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_checks import UPSTREAM, X, assert_same, set_random_weights, value_and_gradients
from products import some

import keras_surrogate as ks
from keras_surrogate import layers
from keras_surrogate.layers import (
    DeconvReLU,
    GradientReversal,
    GradientScale,
    GuidedReLU,
    RReLU,
    SurrogateActivation,
    SurrogatePReLU,
    SurrogateStep,
)

# Layers over time have shapes of their own: test_spiking.py and test_spiking_inputs.py.
OVER_TIME = ("encoders", "neuron_layer", "over_time", "readouts", "spiking", "spiking_cell")
# Its values are as coarse as its steps: test_quantizing.py.
COARSE = ("fake_quantize",)
LAYERS = [
    value
    for name, value in sorted(vars(layers).items())
    if inspect.isclass(value)
    and issubclass(value, keras.layers.Layer)
    and not name.startswith("_")
    # A wrapper has the shapes and dtypes of its layer: `test_layers_weights`.
    and not issubclass(value, keras.layers.Wrapper)
    and value.__module__.rpartition(".")[2] not in OVER_TIME + COARSE
]
REQUIRED = {"forward": "artificial_relu"}  # for the arguments that have no default

every_layer = pytest.mark.parametrize("cls", LAYERS)


def parameters_of(cls):
    accepted = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return {
        parameter.name: parameter.default
        for parameter in accepted
        if parameter.kind != parameter.VAR_KEYWORD
    }


def make(cls, **kwargs):
    """With its defaults, and those of REQUIRED for what has none."""
    required = {name: REQUIRED[name] for name in parameters_of(cls) if name in REQUIRED}
    return cls(**required, **kwargs)


def dense_model(layer):
    """The layer between two dense ones, with weights other than the initial."""
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3), layer, keras.layers.Dense(2)]
    )
    set_random_weights(model)
    return model


def other_arguments(cls):
    """A valid value other than the default for each argument that is a number or a flag."""
    flags = {
        name: not default
        for name, default in parameters_of(cls).items()
        if isinstance(default, bool)
    }
    return flags | {
        name: (default + 0.5) / 2
        for name, default in parameters_of(cls).items()
        if isinstance(default, float)
    }


def check_registered(cls):
    assert keras.saving.get_registered_object(f"keras_surrogate>{cls.__name__}") is cls


def check_config(cls):
    """Plain values, every argument among them as it was passed, that make an equal layer."""
    arguments = other_arguments(cls)
    layer = make(cls, name="mine", dtype="mixed_bfloat16", trainable=False, **arguments)
    config = layer.get_config()
    assert config.items() >= arguments.items()
    assert json.loads(json.dumps(config)) == config
    assert config.keys() >= parameters_of(cls).keys()
    again = cls.from_config(config)
    assert again.get_config() == config
    assert (again.name, again.compute_dtype, again.trainable) == ("mine", "bfloat16", False)


def check_save(cls, folder):
    """Saved and loaded, cloned, and exported, a model has equal outputs and equal gradients."""
    model, x = dense_model(make(cls)), X.astype("float32")
    expected = value_and_gradients(model, x, weights=model.trainable_weights)
    model.save(folder / "model.keras")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    for copy in (keras.saving.load_model(folder / "model.keras"), clone):
        assert_same(value_and_gradients(copy, x, weights=copy.trainable_weights), expected, 0, 0)
    model.export(folder / "exported", verbose=False)
    exported = tf.saved_model.load(folder / "exported")
    assert_same(value_and_gradients(exported.serve, x), expected[:2])


def check_dtypes(cls):
    """Compute dtype out, variable dtype in the weights, and the numbers of float64 within the dtype's precision."""
    reference = make(cls, dtype="float64")
    expected = value_and_gradients(reference, X)
    for policy, precision in {
        "float64": 1e-12,
        "float32": 1e-5,
        "mixed_float16": 1e-2,
        "mixed_bfloat16": 5e-2,
    }.items():
        layer = make(cls, dtype=policy)
        y, gradient = value_and_gradients(layer, tf.cast(X, layer.variable_dtype))
        assert (y.dtype, gradient.dtype) == (layer.compute_dtype, layer.variable_dtype), policy
        assert {weight.dtype for weight in layer.trainable_weights} <= {layer.variable_dtype}, (
            policy
        )
        assert_same((y, gradient), expected, precision, precision)


def check_masks(cls):
    """In masked steps the recurrent layer that follows repeats its last output."""
    tokens = keras.Input((4,), dtype="int32")
    embedded = keras.layers.Embedding(5, 2, mask_zero=True)(tokens)
    outputs = keras.layers.LSTM(3, return_sequences=True)(make(cls)(embedded))
    y = keras.Model(tokens, outputs)(np.array([[1, 2, 0, 0]]))
    np.testing.assert_array_equal(y[:, 3], y[:, 1])
    assert not np.allclose(y[:, 1], y[:, 0])


def check_shapes(cls):
    for shape in ((5,), (5, 2), (4, 3, 2), (2, 3, 2, 1)):
        symbolic = keras.Input(shape)
        layer = make(cls)
        output = layer(symbolic)
        assert output.shape == layer.compute_output_shape((None, *shape)) == (None, *shape)
        assert output.dtype == layer.compute_dtype
        model = keras.Model(symbolic, output)
        for batch in (2, 0):
            x = np.full((batch, *shape), 0.6, "float32")
            assert model(x).shape == layer.compute_output_shape(x.shape) == x.shape
            assert_same([model(x)], [layer(x)], 0, 0)


def check_compilers(cls):
    """Eager, in a graph and under XLA, of known and of unknown shape, the same numbers."""
    layer, x = make(cls), tf.constant(X, tf.float32)
    layer.build(x.shape)
    set_random_weights(layer)

    def compute(x):
        return value_and_gradients(layer, x, UPSTREAM, layer.trainable_weights)

    expected = compute(x)
    unknown = [tf.TensorSpec([None, 4], tf.float32)]
    assert_same(tf.function(compute, input_signature=unknown)(x), expected)
    assert_same(tf.function(compute, jit_compile=True)(x), expected)


def check_training(cls, modes=(False,)):
    """A model trains, and its weights change; `modes` are values of jit_compile."""
    for jit_compile in modes:
        model = dense_model(make(cls))
        before = [np.copy(weight) for weight in model.trainable_weights]
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
        model.fit(X.astype("float32"), np.ones((3, 2)), batch_size=3, verbose=0)
        for weight, old in zip(model.trainable_weights, before, strict=True):
            assert np.isfinite(weight).all()
            assert not np.array_equal(weight, old), weight.path


def check_extremes(cls):
    """NaN stays NaN; the largest and smallest numbers give neither NaN nor an infinite gradient."""
    for dtype in ("float32", "float64"):
        largest, tiny = np.finfo(dtype).max, np.finfo(dtype).tiny
        layer = make(cls, dtype=dtype)
        y, gradient = value_and_gradients(
            layer, np.array([[largest, tiny, 0, -tiny, -largest]], dtype)
        )
        assert np.isfinite(y).all()
        assert np.isfinite(gradient).all()
        assert np.isnan(layer(np.full((1, 5), np.nan, dtype))).all()


def check_true_gradients(cls):
    """Within `true_gradients` the gradient is that of the value, by central differences."""
    layer = make(cls, dtype="float64")
    layer.build(X.shape)
    set_random_weights(layer)
    with ks.true_gradients(layer):
        _, gradient = value_and_gradients(layer, X)
    step = 1e-6
    assert_same([gradient], [(layer(X + step) - layer(X - step)) / (2 * step)], 1e-6, 1e-6)


def check_forward_mode(cls):
    """Forward and reverse mode give the same number for upstream * derivative * direction."""
    layer, x = make(cls, dtype="float64"), tf.constant(X)
    layer.build(x.shape)
    set_random_weights(layer)
    _, *gradients = value_and_gradients(layer, x, UPSTREAM, layer.trainable_weights)
    for primal, gradient in zip(
        [x, *(weight.value for weight in layer.trainable_weights)], gradients, strict=True
    ):
        direction = tf.cos(3.0 * tf.range(tf.size(primal), dtype=tf.float64))
        direction = tf.reshape(direction, primal.shape)
        with tf.autodiff.ForwardAccumulator(primal, direction) as accumulator:
            y = layer(x)
        got, expected = (
            tf.reduce_sum(UPSTREAM * accumulator.jvp(y)),
            tf.reduce_sum(direction * gradient),
        )
        assert_same([got], [expected], 1e-9)


@every_layer
@pytest.mark.parametrize(
    "check",
    [
        check_registered,
        check_config,
        check_dtypes,
        check_masks,
        check_shapes,
        check_compilers,
        check_training,
        check_extremes,
        check_true_gradients,
    ],
)
def test_expectations(check, cls):
    check(cls)


@some("cls", LAYERS, [RReLU])
def test_training_under_xla(cls):
    check_training(cls, modes=(True,))


@every_layer
def test_saving(cls, tmp_path):
    check_save(cls, tmp_path)


@pytest.mark.parametrize("cls", [cls for cls in LAYERS if cls not in (GuidedReLU, DeconvReLU)])
def test_forward_mode(cls):
    check_forward_mode(cls)


def test_all_layers_are_found():
    assert {SurrogateActivation, SurrogatePReLU, RReLU, GuidedReLU} < set(LAYERS)


@pytest.mark.parametrize("cls", [cls for cls in LAYERS if cls is not SurrogateStep])
def test_integers_are_refused(cls):
    with pytest.raises(ValueError, match=r"got int32\. Convert them by tf\.cast"):
        make(cls)(tf.constant([[1, 2]]))


@pytest.mark.parametrize(
    ("make_layer", "message"),
    [
        (
            lambda: RReLU(lower=0.3, upper=0.2),
            "RReLU: upper must be .* at least lower = 0.3, but is 0.2",
        ),
        (lambda: RReLU(lower="0.1"), "RReLU: lower must be a finite number, but is '0.1'"),
        (lambda: RReLU(upper=float("inf")), "RReLU: upper must be .*, but is inf"),
        (lambda: RReLU(seed=0.5), "seed.*0.5"),
        (
            lambda: SurrogatePReLU("leaky"),
            "No function is called 'leaky'. Did you mean 'leaky_relu'",
        ),
        (lambda: SurrogatePReLU(alpha_initializer="zeroes"), "zeroes"),
        (lambda: GradientScale(None), "GradientScale: scale must be a finite number, but is None"),
        (
            lambda: GradientReversal(float("nan")),
            "GradientReversal: weight must be a finite number, but is nan",
        ),
        (
            lambda: SurrogateStep(threshold="1"),
            "SurrogateStep: threshold must be a finite number, but is '1'",
        ),
        (lambda: SurrogateStep(surrogate="stp"), "'stp'. Did you mean 'step'"),
        (
            lambda: SurrogateStep(surrogate="atan"),
            """'atan' has the slope of its own forward.*Surrogate\\("step", "atan"\\)""",
        ),
        (
            lambda: SurrogateStep(learn_threshold=1),
            "learn_threshold must be True or False, but is 1",
        ),
    ],
)
def test_mistakes_are_explained(make_layer, message):
    with pytest.raises(ValueError, match=message):
        make_layer()


# ------------------------------------------------------------
# The checks can fail.


class Unregistered(RReLU):
    pass


class Forgetful(GradientScale):
    def get_config(self):
        return {key: value for key, value in super().get_config().items() if key != "scale"}


@keras.saving.register_keras_serializable(package="tests")
class Fickle(GradientScale):
    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "scale": 2.0})


class Single(GuidedReLU):
    def call(self, inputs):
        return tf.cast(super().call(inputs), tf.float32)


class Maskless(RReLU):
    def compute_mask(self, inputs, previous_mask):
        return None


class Flat(DeconvReLU):
    def compute_output_shape(self, input_shape):
        return input_shape[:2]


class Restless(RReLU):
    def call(self, inputs):
        return super().call(inputs, training=True)


class Disconnected(SurrogateActivation):
    def call(self, inputs):
        return super().call(tf.stop_gradient(inputs))


class Idle(GradientScale):
    def __init__(self, scale=0.0, **kwargs):
        super().__init__(scale, **kwargs)


class InfiniteAtZero(SurrogateActivation):
    def call(self, inputs):
        return tf.sqrt(super().call(inputs))


class Untrue(SurrogatePReLU):
    def call(self, inputs):
        return self.surrogate(inputs) + self.alpha * tf.minimum(tf.stop_gradient(inputs), 0)


@pytest.mark.parametrize(
    ("check", "mutant"),
    [
        (check_registered, Unregistered),
        (check_config, Forgetful),
        (check_dtypes, Single),
        (check_masks, Maskless),
        (check_shapes, Flat),
        (check_compilers, Restless),
        (check_compilers, Disconnected),
        (check_training, Idle),
        (check_extremes, InfiniteAtZero),
        (check_true_gradients, Untrue),
        (check_forward_mode, Restless),
    ],
)
def test_the_expectations_can_fail(check, mutant):
    with pytest.raises(AssertionError):
        check(mutant)


def test_the_check_of_saving_can_fail(tmp_path):
    with pytest.raises(AssertionError, match="number 1"):
        check_save(Fickle, tmp_path)
