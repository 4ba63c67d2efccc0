"""`RReLU`, `SurrogatePReLU`, `GuidedReLU` and `DeconvReLU`."""

import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_checks import UPSTREAM, X, assert_same, value_and_gradients
from scipy import stats

import keras_surrogate as ks
from keras_surrogate import functions
from keras_surrogate.layers import DeconvReLU, GuidedReLU, RReLU, SurrogatePReLU

# `RReLU`

MANY = 40_000


def slopes(layer, call=None):
    """The slopes that one call draws, seen at x = -1."""
    minus_one = tf.fill([MANY], tf.constant(-1.0, layer.compute_dtype))
    return -np.asarray(call(minus_one) if call else layer(minus_one, training=True)).astype(
        "float64"
    )


def check_draws(layer):
    """Uniform on [lower, upper], each element on its own, other ones in every call."""
    drawn, again = slopes(layer), slopes(layer)
    interval = stats.uniform(layer.lower, layer.upper - layer.lower)
    assert layer.lower <= drawn.min() <= drawn.max() <= layer.upper
    assert abs(drawn.mean() - interval.mean()) < 5 * interval.std() / MANY**0.5
    assert stats.kstest(drawn, interval.cdf).pvalue > 1e-4
    for one, other in ((drawn, again), (drawn[1:], drawn[:-1])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / MANY**0.5


@pytest.mark.parametrize(("lower", "upper"), [(1 / 8, 1 / 3), (-2, 5)])
def test_rrelu_draws(lower, upper):
    check_draws(RReLU(lower, upper, seed=7))


def test_rrelu_gradient_has_the_slopes_of_the_value():
    layer = RReLU(seed=1, dtype="float64")
    y, gradient = value_and_gradients(lambda x: layer(x, training=True), X)
    y = y.numpy()
    np.testing.assert_array_equal(y[X > 0], X[X > 0])
    np.testing.assert_allclose(gradient, y / X, rtol=1e-12)
    assert len(np.unique(gradient)) == 1 + (X < 0).sum()


@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_rrelu_draws_anew_in_every_call_and_repeats_with_its_seed(jit_compile):
    def sequence(seed):
        layer = RReLU(seed=seed)

        def call(x):
            return layer(x, training=True)

        compiled = call if jit_compile is None else tf.function(call, jit_compile=jit_compile)
        return np.stack([slopes(layer, compiled) for _ in range(3)])

    first = sequence(3)
    assert abs(np.corrcoef(first) - np.eye(3)).max() < 0.05
    np.testing.assert_array_equal(sequence(3), first)
    assert abs(np.corrcoef(sequence(4)[0], first[0])[0, 1]) < 0.05


@pytest.mark.parametrize("jit_compile", [False, True])
def test_rrelu_in_compiled_training_has_one_slope_for_value_and_gradient(jit_compile):
    layer = RReLU()

    @tf.function(jit_compile=jit_compile)
    def compute(x):
        return value_and_gradients(lambda x: layer(x, training=True), x)

    y, gradient = compute(tf.constant(X, tf.float32))
    np.testing.assert_allclose(gradient, y / X, rtol=1e-6)
    assert np.ptp(gradient[X < 0]) > 0.01


def test_rrelu_takes_the_mean_in_inference():
    model = keras.Sequential([keras.Input((4,)), RReLU(0.1, 0.5)])
    expected = np.where(X > 0, X, 0.3 * X)
    for y in (model(X), model.predict(X, verbose=0)):
        np.testing.assert_allclose(y, expected, rtol=1e-6)
    assert not np.allclose(model(X, training=True), expected, rtol=1e-3)


def test_rrelu_without_an_interval_is_leaky_relu():
    got = value_and_gradients(lambda x: RReLU(0.2, 0.2)(x, training=True), X.astype("float32"))
    expected = value_and_gradients(keras.layers.LeakyReLU(0.2), X.astype("float32"))
    assert_same(got, expected)


def test_rrelu_at_zero_and_the_infinities():
    x = np.array([-np.inf, -0.0, 0.0, np.inf], "float32")
    y, gradient = value_and_gradients(RReLU(0.25, 0.25), x)
    np.testing.assert_array_equal(y, [-np.inf, 0, 0, np.inf])
    np.testing.assert_array_equal(gradient, [0.25, 0.25, 0.25, 1])


class OneForAll(RReLU):
    def _drawn(self, inputs):
        return super()._drawn(inputs[:1])


class OnceForAll(RReLU):
    def call(self, inputs, training=False):
        self.seed_generator.state.assign([1, 0])
        return super().call(inputs, training=training)


class Asymmetric(RReLU):
    def _drawn(self, inputs):
        return self.lower + super()._drawn(inputs) / 2


@pytest.mark.parametrize("mutant", [OneForAll, OnceForAll, Asymmetric])
def test_the_check_of_draws_can_fail(mutant):
    with pytest.raises(AssertionError):
        check_draws(mutant(seed=7))


# `SurrogatePReLU`

PRELU_SHAPES = [
    ((4,), None),
    ((4, 3), [1]),
    ((4, 3), 2),
    ((4, 3, 2), [1, 2]),
    ((4, 3, 2), (1, 2, 3)),
]


def check_prelu(cls, shape, shared_axes, backward="leaky_relu"):
    """Value, weight and gradient of alpha of Keras's layer; the input's gradient is the upstream times the slope."""
    ours = cls(backward, shared_axes=shared_axes, dtype="float64")
    theirs = keras.layers.PReLU(shared_axes=shared_axes, dtype="float64")
    generator = np.random.default_rng(2)
    x, upstream = generator.normal(size=(2, 5, *shape))
    for layer in (ours, theirs):
        layer.build(x.shape)
    theirs.set_weights([generator.normal(size=theirs.alpha.shape)])
    ours.set_weights(theirs.get_weights())
    y, gradient, alpha_gradient = value_and_gradients(ours, x, upstream, ours.trainable_weights)
    expected, _, expected_alpha_gradient = value_and_gradients(
        theirs, x, upstream, theirs.trainable_weights
    )
    assert_same((y, alpha_gradient), (expected, expected_alpha_gradient), 1e-12, 1e-12)
    axes = tuple(axis for axis, size in enumerate((1, *ours.alpha.shape)) if size == 1)
    in_numpy = np.sum(upstream * np.minimum(x, 0), axis=axes, keepdims=True)[0]
    np.testing.assert_allclose(alpha_gradient, in_numpy, rtol=1e-12)
    np.testing.assert_allclose(
        gradient, upstream * functions.get(backward).slope(tf.constant(x)), rtol=1e-12
    )


@pytest.mark.parametrize("backward", ["leaky_relu", "softplus"])
@pytest.mark.parametrize(("shape", "shared_axes"), PRELU_SHAPES)
def test_prelu_against_keras(shape, shared_axes, backward):
    check_prelu(SurrogatePReLU, shape, shared_axes, backward)


def test_prelu_keeps_all_arguments():
    layer = SurrogatePReLU(
        functions.LeakyRelu(0.4),
        keras.initializers.Constant(0.25),
        keras.regularizers.L2(0.1),
        "non_neg",
        [1],
    )
    again = SurrogatePReLU.from_config(json.loads(json.dumps(layer.get_config())))
    assert again.get_config() == layer.get_config()
    assert again.surrogate == ks.Surrogate("relu", functions.LeakyRelu(0.4))
    again.build((None, 7, 3))
    np.testing.assert_array_equal(again.alpha, np.full((1, 3), 0.25))
    np.testing.assert_allclose(again.losses, [0.1 * 3 * 0.25**2], rtol=1e-6)
    np.testing.assert_array_equal(again.alpha.constraint(tf.constant([-1.0, 2.0])), [0, 2])


def test_prelu_gradient_of_the_input_does_not_depend_on_alpha():
    x = X.astype("float32")
    gradients = [
        value_and_gradients(SurrogatePReLU(alpha_initializer=c), x)[1] for c in ("zeros", "ones")
    ]
    np.testing.assert_array_equal(*gradients)
    assert (gradients[0].numpy() > 0).all()


def test_prelu_second_order():
    layer, x = SurrogatePReLU("softplus", dtype="float64"), tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        _, gradient = value_and_gradients(layer, x)
    sigmoid = 1 / (1 + np.exp(-X))
    np.testing.assert_allclose(tape.gradient(gradient, x), sigmoid * (1 - sigmoid), rtol=1e-6)


def test_prelu_at_zero_and_the_infinities_is_as_keras():
    x = np.array([[-np.inf, -0.0, 0.0, np.inf, np.nan]], "float32")
    for initializer in ("zeros", keras.initializers.Constant(0.25)):
        ours, theirs = (
            SurrogatePReLU(alpha_initializer=initializer),
            keras.layers.PReLU(initializer),
        )
        np.testing.assert_array_equal(ours(x), theirs(x))
        gradient = value_and_gradients(ours, x)[1]
        np.testing.assert_allclose(gradient[0, :4], [0.2, 0.2, 0.2, 1], rtol=1e-6)


def test_prelu_of_unknown_shape_is_an_error():
    with pytest.raises(ValueError):
        SurrogatePReLU()(keras.Input((None, 3)))
    assert SurrogatePReLU(shared_axes=[1])(keras.Input((None, 3))).shape == (None, None, 3)


class WithoutAlpha(SurrogatePReLU):
    def call(self, inputs):
        return self.surrogate(inputs) - tf.stop_gradient(self.alpha.value) * tf.nn.relu(-inputs)


class WithTrueSlope(SurrogatePReLU):
    def call(self, inputs):
        return keras.layers.PReLU.call(self, inputs)


@pytest.mark.parametrize("mutant", [WithoutAlpha, WithTrueSlope])
def test_the_check_of_prelu_can_fail(mutant):
    with pytest.raises(AssertionError):
        check_prelu(mutant, (4, 3), [1])


# `GuidedReLU` and `DeconvReLU`

GATES = {
    GuidedReLU: lambda upstream, x: upstream * (x > 0) * (upstream > 0),
    DeconvReLU: lambda upstream, x: upstream * (upstream > 0),
}
every_gate = pytest.mark.parametrize("cls", GATES)


def check_gate(cls, gate):
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        x, upstream = (
            tf.cast(array, dtype) for array in np.meshgrid([-2, -1, 0, 1, 2], [-3, -0.5, 0, 0.5, 3])
        )
        y, gradient = value_and_gradients(cls(dtype=dtype), x, upstream)
        np.testing.assert_array_equal(y, np.maximum(x, 0))
        np.testing.assert_array_equal(gradient, gate(upstream.numpy(), x.numpy()))


@every_gate
def test_gates_against_numpy(cls):
    check_gate(cls, GATES[cls])


@every_gate
def test_gates_in_a_network_against_numpy(cls):
    """At each layer the gate sees the gradient that the layers above have let through."""
    gate = GATES[cls]
    generator = np.random.default_rng(3)
    sizes = (4, 6, 5, 1)
    kernels = [generator.normal(size=pair) for pair in itertools.pairwise(sizes)]
    dense = [keras.layers.Dense(size, use_bias=False) for size in sizes[1:]]
    model = keras.Sequential([keras.Input((4,)), dense[0], cls(), dense[1], cls(), dense[2]])
    model.set_weights(kernels)

    first = X @ kernels[0]
    second = np.maximum(first, 0) @ kernels[1]
    gradient = gate(np.broadcast_to(kernels[2].T, second.shape), second)
    gradient = gate(gradient @ kernels[1].T, first) @ kernels[0].T
    y, got = value_and_gradients(model, X.astype("float32"))
    assert_same((y, got), (np.maximum(second, 0) @ kernels[2], gradient), 1e-4, 1e-5)


@every_gate
@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_gates_refuse_forward_mode(cls, jit_compile):
    layer, x = cls(), tf.constant(X)

    def forward(x):
        with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
            y = layer(x)
        return accumulator.jvp(y)

    with pytest.raises(TypeError, match="no derivative in forward mode"):
        (forward if jit_compile is None else tf.function(forward, jit_compile=jit_compile))(x)


@every_gate
def test_gates_are_linear_at_one_where_forward_mode_is_outside_a_compiled_function(cls):
    """TensorFlow differentiates the gradient of the whole function there, at an incoming gradient of 1."""
    x = tf.constant(X)
    compiled = tf.function(cls(dtype="float64"))
    with tf.autodiff.ForwardAccumulator(x, tf.constant(UPSTREAM)) as accumulator:
        y = compiled(x)
    np.testing.assert_array_equal(accumulator.jvp(y), UPSTREAM * GATES[cls](np.ones_like(X), X))


@pytest.mark.parametrize(
    ("cls", "other"), [(GuidedReLU, DeconvReLU), (DeconvReLU, GuidedReLU), (RReLU, GuidedReLU)]
)
def test_the_check_of_gates_can_fail(cls, other):
    with pytest.raises(AssertionError):
        check_gate(cls, GATES[other])
