"""What Keras expects of every layer of the package, and what each layer of its own promises.

The checks of the first part run over every layer there is; at the end they are shown layers that
are wrong.
"""

import inspect
import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_surrogate as ks
from keras_surrogate import functions, layers
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
OVER_TIME = ("encoders", "over_time", "readouts", "spiking", "spiking_cell")
LAYERS = [
    value
    for name, value in sorted(vars(layers).items())
    if inspect.isclass(value)
    and issubclass(value, keras.layers.Layer)
    and not name.startswith("_")
    and value.__module__.rpartition(".")[2] not in OVER_TIME
]
REQUIRED = {"forward": "artificial_relu"}  # for the arguments that have no default

every_layer = pytest.mark.parametrize("cls", LAYERS)

X = np.array([[-2.1, -0.6, 0.7, 3.2], [0.4, -1.3, -0.2, 1.9], [1.1, 0.3, -0.9, -3.4]])
UPSTREAM = np.array([[1.5, -0.5, 2.0, -1.0], [-3.0, 0.25, -0.75, 1.0], [0.5, 1.25, 2.5, -2.0]])


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


def value_and_gradients(function, x, upstream=None, weights=()):
    """The value, and the gradients of sum(upstream * value) with respect to `x` and to each of the weights."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    sources = [x, *(weight.value for weight in weights)]
    gradients = tape.gradient(y, sources, None if upstream is None else tf.cast(upstream, y.dtype))
    assert all(gradient is not None for gradient in gradients), "a gradient is None"
    return y, *gradients


def assert_same(got, expected, rtol=1e-5, atol=1e-7):
    for index, pair in enumerate(zip(got, expected, strict=True)):
        got_array, expected_array = (np.asarray(tensor).astype("float64") for tensor in pair)
        np.testing.assert_allclose(got_array, expected_array, rtol, atol, err_msg=f"number {index}")


def set_random_weights(model):
    generator = np.random.default_rng(1)
    model.set_weights([generator.normal(0, 0.5, weight.shape) for weight in model.weights])


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


# ------------------------------------------------------------------------------------------ what
# Keras expects of all


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


def check_training(cls):
    """Compiled with XLA and without, a model trains, and its weights change."""
    for jit_compile in (False, True):
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


# ----------------------------------------------------------------------------------------------------------------
# RReLU

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


# --------------------------------------------------------------------------------------------------------------
# PReLU

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


# -------------------------------------------------------------------------------------
# GradientScale, GradientReversal


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, -2.5])
def test_identities_with_another_gradient(factor):
    for layer, expected in ((GradientScale(factor), factor), (GradientReversal(factor), -factor)):
        y, gradient = value_and_gradients(layer, X.astype("float32"), UPSTREAM)
        np.testing.assert_array_equal(y, X.astype("float32"))
        np.testing.assert_allclose(gradient, expected * UPSTREAM, rtol=1e-6)


def test_domain_adversarial_training():
    """The features descend on the label's loss and ascend on the domain's; both heads descend."""

    def gradients(middle):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,))
        features = keras.layers.Dense(3, "tanh", name="features")(inputs)
        label = keras.layers.Dense(1, name="label")(features)
        domain = keras.layers.Dense(1, name="domain")(middle(features))
        model = keras.Model(inputs, [label, domain])
        with tf.GradientTape(persistent=True) as tape:
            losses = [
                tf.reduce_mean(tf.square(output - 1)) for output in model(X.astype("float32"))
            ]
            both = tf.add_n(losses)
        kernels = {layer.name: layer.kernel.value for layer in model.layers if layer.weights}
        return [tape.gradient(loss, kernels) for loss in (*losses, both)]

    *_, reversed_gradient = gradients(GradientReversal(0.7))
    label, domain, plain = gradients(keras.layers.Identity())
    assert np.abs(domain["features"]).min() > 1e-3
    assert_same([reversed_gradient["features"]], [label["features"] - 0.7 * domain["features"]])
    for head in ("label", "domain"):
        assert_same([reversed_gradient[head]], [plain[head]])


# ----------------------------------------------------------------------------------------------
# GuidedReLU, DeconvReLU

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


# -------------------------------------------------------------------------------------------------------
# SurrogateStep

STEPS = [
    ks.Surrogate("step", "fast_sigmoid"),
    ks.Surrogate("step", functions.Atan(3.0), scale=0.5),
    ks.Surrogate(functions.Sign(at_zero=1.0), "tanh"),
]


def check_step(cls, surrogate, threshold):
    """Value of x - threshold; gradients by central differences of scale * backward.value."""
    layer = cls(threshold, surrogate, dtype="float64")
    layer.build(X.shape)
    y, gradient, threshold_gradient = value_and_gradients(
        layer, X, UPSTREAM, layer.trainable_weights
    )

    def primitive(threshold):
        return surrogate.scale * surrogate.backward.value(tf.constant(X - threshold))

    slope = (primitive(threshold - 1e-6) - primitive(threshold + 1e-6)) / 2e-6
    np.testing.assert_array_equal(y, surrogate.forward.value(tf.constant(X - threshold)))
    np.testing.assert_allclose(gradient, UPSTREAM * slope, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(threshold_gradient, -np.sum(UPSTREAM * slope), rtol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 0.55])
@pytest.mark.parametrize("surrogate", STEPS, ids=str)
def test_step_against_differences(surrogate, threshold):
    check_step(SurrogateStep, surrogate, threshold)


def test_step_begins_at_the_threshold():
    np.testing.assert_array_equal(
        SurrogateStep(0.5)(np.array([0.0, 0.49, 0.5, 1.0], "float32")), [0, 0, 1, 1]
    )


@pytest.mark.parametrize("surrogate", [*STEPS, "ste_sign", STEPS[1].get_config()], ids=str)
def test_step_keeps_its_surrogate(surrogate, tmp_path):
    layer = SurrogateStep(0.5, surrogate)
    assert layer.surrogate == ks.get(surrogate)
    keras.Sequential([keras.Input((4,)), layer]).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    assert loaded.surrogate == layer.surrogate
    assert loaded.get_config() == layer.get_config()


def test_step_learns_its_threshold():
    """Which of the numbers from 0 to 1 are 1 is told by a threshold of 0.7."""
    x = np.linspace(0, 1, 200, dtype="float32")[:, None]
    layer = SurrogateStep(0.2, ks.Surrogate("step", "atan"))
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(0.3), "mse")
    for _ in range(40):
        model.train_on_batch(x, x > 0.7)
    assert abs(float(layer.threshold.numpy()) - 0.7) < 0.02


def test_step_with_a_fixed_threshold():
    layer = SurrogateStep(0.5, learn_threshold=False)
    y, gradient = value_and_gradients(layer, X.astype("float32"))
    np.testing.assert_array_equal(y, X >= 0.5)
    assert (gradient.numpy() > 0).all()
    assert (layer.trainable_weights, len(layer.weights)) == ([], 1)


def test_step_takes_integers():
    np.testing.assert_array_equal(SurrogateStep(0.5)(tf.constant([[0, 1]])), [[0.0, 1.0]])


# --------------------------------------------------------------------------------------------- that
# the checks can fail


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


class FarStep(SurrogateStep):
    def call(self, inputs):
        return self.surrogate(inputs + self.threshold)


class HalfStep(SurrogateStep):
    def call(self, inputs):
        fixed = tf.stop_gradient(self.threshold.value)
        return self.surrogate(inputs - (self.threshold + fixed) / 2)


@pytest.mark.parametrize("mutant", [FarStep, HalfStep])
def test_the_check_of_steps_can_fail(mutant):
    with pytest.raises(AssertionError):
        check_step(mutant, STEPS[0], 0.55)


@pytest.mark.parametrize(
    ("cls", "other"), [(GuidedReLU, DeconvReLU), (DeconvReLU, GuidedReLU), (RReLU, GuidedReLU)]
)
def test_the_check_of_gates_can_fail(cls, other):
    with pytest.raises(AssertionError):
        check_gate(cls, GATES[other])
