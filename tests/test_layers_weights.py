"""`SurrogateWeights` against plain layers that hold the values, and LSQ against the paper.

A plain twin holds the values of the surrogate as its own weights. The gradient of a latent weight
is the twin's gradient times the slope, by the formula of each scale.
"""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import conversion, layers
from keras_surrogate.callbacks import GradientNormLogger
from keras_surrogate.constraints import WeightClip
from keras_surrogate.layers import SurrogateWeights, weight_scales

RANDOM = np.random.default_rng(0)
SERIES = RANDOM.normal(size=(4, 6, 4)).astype("float32")
IMAGES = RANDOM.normal(size=(4, 6, 6, 4)).astype("float32")
VOLUMES = RANDOM.normal(size=(2, 4, 4, 4, 2)).astype("float32")
TOKENS = RANDOM.integers(1, 7, (4, 6))
VECTORS = SERIES[:, 0]


@keras.saving.register_keras_serializable(package="tests")
class Bilinear(keras.layers.Layer):
    """A user's layer with a sublayer, without `build`, and an argument that is no tensor."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = keras.layers.Dense(units)
        self.gate = keras.layers.Dense(units)

    def call(self, inputs, gated=True):
        return self.dense(inputs) * self.gate(inputs) if gated else self.dense(inputs)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


KINDS = {
    "dense": (lambda: keras.layers.Dense(3, "tanh"), VECTORS),
    "conv1d": (lambda: keras.layers.Conv1D(3, 2), SERIES),
    "conv2d": (lambda: keras.layers.Conv2D(3, 3, strides=2, padding="same"), IMAGES),
    "conv3d": (lambda: keras.layers.Conv3D(2, 2), VOLUMES),
    "conv1d_transpose": (lambda: keras.layers.Conv1DTranspose(3, 2), SERIES),
    "conv2d_transpose": (lambda: keras.layers.Conv2DTranspose(3, 2), IMAGES),
    "depthwise": (lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2), IMAGES),
    "separable": (lambda: keras.layers.SeparableConv2D(3, 3), IMAGES),
    "einsum": (lambda: keras.layers.EinsumDense("abc,cd->abd", (6, 3), bias_axes="d"), SERIES),
    "embedding": (lambda: keras.layers.Embedding(7, 3), TOKENS),
    "lstm": (lambda: keras.layers.LSTM(3), SERIES),
    "gru": (lambda: keras.layers.GRU(3, return_sequences=True), SERIES),
    "bidirectional": (lambda: keras.layers.Bidirectional(keras.layers.LSTM(2)), SERIES),
    "time_distributed": (lambda: keras.layers.TimeDistributed(keras.layers.Dense(2)), SERIES),
    "block": (
        lambda: keras.Sequential([keras.layers.Dense(3, "relu"), keras.layers.Dense(2)]),
        VECTORS,
    ),
    "own": (Bilinear, VECTORS),
}
SCALES = weight_scales.SCALES


def ternary(x):
    return tf.clip_by_value(tf.round(x), -1, 1)


def three_bits(x):
    return tf.clip_by_value(tf.round(x), -3, 3)


def clipped(x):
    return tf.clip_by_value(x, -3, 3)


PAIRS = {
    "ste_sign": ks.get("ste_sign"),
    "swish_sign": ks.get("swish_sign"),
    "three_bits": ks.Surrogate(three_bits, clipped),
}


def outputs_and_gradients(layer, x, variables, upstream=None, **kwargs):
    """The output, and the gradients of sum(upstream * output), as NumPy arrays."""
    with tf.GradientTape() as tape:
        outputs = layer(x, **kwargs)
        weight = tf.cos(tf.reshape(tf.range(tf.size(outputs), dtype=outputs.dtype), outputs.shape))
        loss = tf.reduce_sum(outputs * (weight if upstream is None else upstream))
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    return outputs.numpy(), [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]


def spread(layer):
    """Other weights than the initial ones, some of them beyond the clip of 1."""
    for weight in layer.weights:
        if "step" not in weight.name and weight.dtype == "float32":
            weight.assign(np.random.default_rng(3).normal(0, 0.7, weight.shape))


def channels(name, kernel):
    """The axes of mean and maximum, written out for each kind of layer."""
    if "conv" in name and "transpose" in name:
        return tuple(axis for axis in range(kernel.ndim) if axis != kernel.ndim - 2)
    if name == "depthwise" or (name == "separable" and kernel.shape[:2] == (3, 3)):
        return 0, 1
    return tuple(range(kernel.ndim - 1))


def expected_value_and_slope(name, surrogate, scale, w, step):
    """The replaced weight, the derivative by the latent weight and that by the step, in NumPy."""

    def value(x):
        return surrogate.forward.value(tf.constant(x)).numpy()

    def slope(x):
        return surrogate.scale * surrogate.backward.slope(tf.constant(x)).numpy()

    if scale is None:
        return value(w), slope(w), None
    axes = channels(name, w)
    if scale == "mean_abs":
        mean = np.abs(w).mean(axis=axes, keepdims=True)
        return mean * value(w), mean * slope(w), None
    if scale == "max_abs":
        largest = np.abs(w).max(axis=axes, keepdims=True)
        return largest * value(w / largest), slope(w / largest), None
    if scale == "least_error":
        size = np.abs(w)
        top = max(weight_scales.levels_of(surrogate.forward))
        reach = weight_scales.normal_reach(surrogate.forward)
        largest = size.max(axis=axes, keepdims=True) / np.float32(top)
        m = np.minimum(largest, np.float32(reach) * size.mean(axis=axes, keepdims=True))
        return m * value(w / m), slope(w / m), None
    u = w / step
    return step * value(u), slope(u), value(u) - u * slope(u)


@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_values_and_gradients_of_every_kind(name, scale):
    check_kind(name, scale, "ste_sign")


@pytest.mark.slow
@pytest.mark.parametrize("pair", list(PAIRS)[1:])
@pytest.mark.parametrize("scale", SCALES, ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_values_and_gradients_of_every_surrogate(name, scale, pair):
    check_kind(name, scale, pair)


def check_kind(name, scale, pair, cls=SurrogateWeights):
    make, x = KINDS[name]
    surrogate = PAIRS[pair]
    layer, twin = cls(make(), surrogate, scale=scale), make()
    layer(x)
    twin(x)
    spread(layer)
    for step in layer.own_weights:
        step.assign(0.4)

    names = [weight.name for weight in twin.weights]
    replaced = [one.endswith("kernel") or one == "embeddings" for one in names]
    assert sum(replaced) == len(layer.effective_weights())
    latent = [weight.numpy() for weight in layer.layer.weights]
    parts = [
        expected_value_and_slope(name, surrogate, scale, w, np.float32(0.4)) if is_replaced else w
        for w, is_replaced in zip(latent, replaced, strict=True)
    ]
    values = [part[0] if new else part for part, new in zip(parts, replaced, strict=True)]
    twin.set_weights(values)
    twins_output, twins = outputs_and_gradients(twin, x, twin.weights)
    output, gradients = outputs_and_gradients(layer, x, layer.layer.weights + layer.own_weights)

    np.testing.assert_allclose(output, twins_output, rtol=1e-5, atol=1e-5)
    expected = [
        gradient * part[1] if new else gradient
        for gradient, part, new in zip(twins, parts, replaced, strict=True)
    ]
    if scale == "learned":
        positive = 3 if pair == "three_bits" else 1
        expected += [
            np.sum(gradient * part[2]) / np.sqrt(gradient.size * positive)
            for gradient, part, new in zip(twins, parts, replaced, strict=True)
            if new
        ]
    for got, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4 * (1 + np.abs(wanted).max()))


def test_the_check_can_fail():
    class OneScale(SurrogateWeights):
        def _scale_of(self, name, weight):
            return weight_scales.MeanAbs(tuple(range(len(weight.shape))))

    class NoGradient(SurrogateWeights):
        def _value(self, name, weight):
            return tf.stop_gradient(super()._value(name, weight)) + 0 * weight

    for cls in (OneScale, NoGradient):
        with pytest.raises(AssertionError):
            check_kind("conv2d", "mean_abs", "ste_sign", cls)


# ------------------------------------------------------------------------------------------- LSQ


def test_a_learned_step_is_lsq():
    """Value, gradients and initial step by equations 1 to 3 of arXiv:1902.08153."""
    highest = 3
    layer = SurrogateWeights(keras.layers.Dense(5), PAIRS["three_bits"], scale="learned")
    layer(VECTORS)
    v = layer.layer.kernel.numpy()
    step = layer.own_weights[0]
    np.testing.assert_allclose(step, 2 * np.abs(v).mean() / np.sqrt(highest), rtol=1e-6)
    step.assign(0.2)
    s = 0.2
    v_bar = np.clip(np.round(v / s), -highest, highest)
    upstream = np.ones((4, 5))
    output, (to_v, to_s) = outputs_and_gradients(
        layer, VECTORS, [layer.layer.kernel, step], upstream
    )
    np.testing.assert_allclose(output, VECTORS @ (v_bar * s), rtol=1e-5, atol=1e-6)
    to_v_hat = VECTORS.T @ upstream
    inside = np.abs(v / s) < highest
    dv_ds = np.where(inside, v_bar - v / s, np.sign(v) * highest)
    np.testing.assert_allclose(to_v, to_v_hat * inside, rtol=1e-5)
    expected = np.sum(to_v_hat * dv_ds) / np.sqrt(v.size * highest)
    np.testing.assert_allclose(to_s, expected, rtol=1e-4)


def test_a_learned_step_of_levels_from_minus_1_to_1_is_the_same():
    """Levels k / 3 in place of k: the same values and gradients."""
    thirds = ks.Surrogate(
        lambda x: tf.clip_by_value(tf.round(3 * x), -3, 3) / 3, lambda x: tf.clip_by_value(x, -1, 1)
    )
    results = []
    for pair in (PAIRS["three_bits"], thirds):
        keras.utils.set_random_seed(0)
        layer = SurrogateWeights(keras.layers.Dense(5), pair, scale="learned")
        layer(VECTORS)
        output, gradients = outputs_and_gradients(layer, VECTORS, layer.weights)
        results.append([layer.own_weights[0].numpy(), output, *gradients])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_learned_step_stays_positive():
    layer = SurrogateWeights(keras.layers.Dense(2), "ste_sign", scale="learned")
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(100.0), "mse")
    model.fit(VECTORS, np.zeros((4, 2)), epochs=3, verbose=0)
    assert layer.own_weights[0].numpy() > 0
    assert np.isfinite(layer.effective_weights()["kernel"]).all()


@pytest.mark.parametrize(
    ("function", "levels"),
    [
        ("sign", (-1, 1)),
        ("step", (0, 1)),
        (ternary, (-1, 0, 1)),
        (three_bits, (-3, -2, -1, 0, 1, 2, 3)),
        (lambda x: tf.clip_by_value(tf.round(127 * x), -127, 127) / 127, 255),
        (lambda x: tf.clip_by_value(tf.round(x), -127, 127), 255),
        (ks.functions.Staircase(16, 100.0), 16),
        (ks.functions.Staircase(15, 1e-7), 15),
        (ks.functions.Ternary(600.0), (-1, 0, 1)),
        ("round", None),
        ("tanh", None),
        ("hard_tanh", None),
        ("relu", None),
    ],
)
def test_levels_of_functions(function, levels):
    found = weight_scales.levels_of(ks.functions.get(function))
    assert (len(found) if isinstance(levels, int) else found) == levels


def test_learned_steps_of_zero_weights_in_float16():
    dense = keras.layers.Dense(3, kernel_initializer="zeros", dtype="float16")
    model = keras.Sequential(
        [keras.Input((4,)), SurrogateWeights(dense, "ste_tern", scale="learned")]
    )
    model.compile("sgd", "mse", auto_scale_loss=False)
    model.fit(VECTORS, np.zeros((len(VECTORS), 3)), epochs=2, verbose=0)
    assert all(np.isfinite(np.array(weight, "float32")).all() for weight in model.weights)


def test_the_scales_that_presets_name_reach_their_levels():
    twn = ks.presets.twn(0.35)
    layer = SurrogateWeights(keras.layers.Dense(300), twn, scale="max_abs", per="tensor")
    layer(np.zeros((1, 300)))
    kernel = np.abs(layer.layer.kernel)
    expected = kernel > 0.7 * kernel.mean()
    got = layer.effective_weights()["kernel"] != 0
    assert (got == expected).numpy().mean() > 0.99

    layer = SurrogateWeights(keras.layers.Dense(300), "dge_fp4", scale="learned")
    layer(np.zeros((1, 300)))
    assert len(np.unique(layer.weight_levels()["kernel"])) >= 9


def test_a_channel_of_zeros_stays_zero():
    layer = SurrogateWeights(
        keras.layers.Dense(2), ks.Surrogate(ternary, "linear"), scale="max_abs"
    )
    layer(VECTORS)
    layer.layer.kernel.assign(np.stack([np.zeros(4), np.ones(4)], axis=1))
    np.testing.assert_array_equal(layer.effective_weights()["kernel"][:, 0], np.zeros(4))
    output, gradients = outputs_and_gradients(layer, VECTORS, layer.trainable_variables)
    assert all(np.isfinite(one).all() for one in (output, *gradients))


# ------------------------------------------------------------------------------------- as Keras


def binary(units=3, scale=None, **kwargs):
    return SurrogateWeights(keras.layers.Dense(units, **kwargs), "ste_sign", scale=scale)


def small_model(scale="mean_abs"):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            SurrogateWeights(
                keras.layers.Conv2D(3, 3, kernel_constraint=WeightClip(), name="conv"),
                "ste_sign",
                scale=scale,
            ),
            keras.layers.BatchNormalization(),
            layers.SurrogateActivation("ste_sign"),
            keras.layers.Flatten(),
            SurrogateWeights(keras.layers.Dense(2, name="head"), "approx_sign", scale=scale),
        ]
    )


Y = RANDOM.normal(size=(4, 2)).astype("float32")


@pytest.mark.parametrize(
    "arguments",
    [
        {"jit_compile": True},
        {"run_eagerly": True},
        {"jit_compile": False, "steps_per_execution": 2},
    ],
    ids=str,
)
def test_fit_in_every_mode_is_a_loop_over_a_tape(arguments):
    """Four steps of SGD: with Keras's fit, and by hand with plain layers and NumPy's slopes."""
    check_fit(arguments, small_model())


def check_fit(arguments, model):
    start = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "mse", **arguments)
    model.fit(IMAGES, Y, batch_size=2, epochs=2, shuffle=False, verbose=0)

    conv, normalise, dense = (
        keras.layers.Conv2D(3, 3),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(2),
    )
    sign = ks.get("ste_sign")

    def apply(x):
        hidden = sign(normalise(conv(x), training=True))
        return dense(tf.reshape(hidden, [len(x), -1]))

    apply(IMAGES)
    conv.set_weights(start[:2])
    normalise.set_weights(start[2:6])
    dense.set_weights(start[6:])
    latent = {"conv": start[0], "dense": start[6]}
    for batch in (slice(0, 2), slice(2, 4)) * 2:
        means = {name: np.abs(w).reshape(-1, w.shape[-1]).mean(0) for name, w in latent.items()}
        conv.kernel.assign(means["conv"] * np.where(latent["conv"] >= 0, 1, -1))
        dense.kernel.assign(means["dense"] * np.where(latent["dense"] >= 0, 1, -1))
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(apply(IMAGES[batch]) - Y[batch]))
        plain = [conv.bias, normalise.gamma, normalise.beta, dense.bias]
        to_conv, to_dense, *rest = tape.gradient(
            loss, [one.value for one in (conv.kernel, dense.kernel, *plain)]
        )
        for variable, gradient in zip(plain, rest, strict=True):
            variable.assign_sub(0.1 * gradient)
        slope = np.abs(latent["conv"]) <= 1
        changed = latent["conv"] - 0.1 * means["conv"] * slope * to_conv.numpy()
        latent["conv"] = np.clip(changed, -1, 1)
        slope = 2 * np.maximum(1 - np.abs(latent["dense"]), 0)
        latent["dense"] = latent["dense"] - 0.1 * means["dense"] * slope * to_dense.numpy()
    expected = [latent["conv"], conv.bias, *normalise.weights, latent["dense"], dense.bias]
    for got, wanted in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)


def test_the_check_of_fit_can_fail():
    model = small_model()
    model.layers[0].surrogate = ks.get("approx_sign")
    with pytest.raises(AssertionError):
        check_fit({"run_eagerly": True}, model)


def test_on_two_replicas(two_replicas):
    alone = small_model("learned")
    with two_replicas.scope():
        mirrored = small_model("learned")
    mirrored.set_weights(alone.get_weights())
    for model in (alone, mirrored):
        # Without moving statistics, which replicas have of their own parts.
        model.layers[1].trainable = False
        model.compile(keras.optimizers.SGD(0.05), "mse")
        model.fit(IMAGES, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    for one, other in zip(alone.get_weights(), mirrored.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_losses_of_the_wrapped_layer_are_kept_and_not_doubled():
    arguments = {"kernel_regularizer": "l2", "activity_regularizer": "l1", "use_bias": False}
    layer = binary(**arguments)
    layer(VECTORS)
    kernel = layer.layer.kernel.numpy()
    # The activity loss of a plain layer, which Keras 3.8 does not divide by the size of the batch.
    plain = keras.layers.Dense(kernel.shape[1], use_bias=False, activity_regularizer="l1")
    plain.build(VECTORS.shape)
    plain.kernel.assign(np.where(kernel >= 0, 1, -1))
    outputs = plain(VECTORS)
    expected = [float(plain.losses[0]), 0.01 * np.square(kernel).sum()]
    for _ in range(2):
        layer(VECTORS)
        np.testing.assert_allclose(sorted(layer.losses), sorted(expected), rtol=1e-5)

    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile("sgd", "mse")
    loss = model.evaluate(VECTORS, outputs, verbose=0, batch_size=4)
    np.testing.assert_allclose(loss, sum(expected), rtol=1e-5)


def test_moving_statistics_and_seeds_of_the_wrapped_layer():
    block = keras.Sequential(
        [
            keras.layers.Dense(3),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=1),
        ]
    )
    layer = SurrogateWeights(block, "ste_sign")
    model = keras.Sequential([keras.Input((4,)), layer])
    mean, seed = block.layers[1].moving_mean, block.layers[2].seed_generator.state
    before = mean.numpy(), seed.numpy()
    first, second = (model(VECTORS, training=True).numpy() for _ in range(2))
    assert not np.array_equal(first, second)
    assert not np.array_equal(mean, before[0])
    assert not np.array_equal(seed, before[1])

    before = mean.numpy(), seed.numpy()
    np.testing.assert_array_equal(model(VECTORS), model(VECTORS))
    np.testing.assert_array_equal(mean, before[0])
    np.testing.assert_array_equal(seed, before[1])


def test_nothing_is_assigned_in_inference():
    """Else a server could not run two requests at once, and converters fail."""
    block = keras.Sequential([keras.layers.Dense(3), keras.layers.BatchNormalization()])
    model = keras.Sequential([keras.Input((4,)), SurrogateWeights(block, "ste_sign")])
    graph = tf.function(model).get_concrete_function(tf.TensorSpec([1, 4])).graph
    assert not [operation for operation in graph.get_operations() if "Assign" in operation.type]


@pytest.mark.parametrize("kind", [keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN])
def test_states_of_a_stateful_layer_move_on(kind):
    x = np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32")

    def made(layer):
        model = keras.Sequential([keras.Input(batch_shape=(4, 5, 3)), layer])
        model.compile(keras.optimizers.SGD(0.0), "mse")
        return model

    plain = made(kind(2, stateful=True))
    model = made(SurrogateWeights(kind(2, stateful=True), "linear"))
    model.set_weights(plain.get_weights())
    for _ in range(2):
        np.testing.assert_allclose(model(x), plain(x), atol=1e-6)
        for one in (model, plain):
            one.fit(x, np.zeros((4, 2)), batch_size=4, verbose=0)
        got, expected = (one.predict(x, batch_size=4, verbose=0) for one in (model, plain))
        np.testing.assert_allclose(got, expected, atol=1e-6)
    model.layers[0].layer.reset_state()
    plain.layers[0].reset_state()
    np.testing.assert_allclose(model(x), plain(x), atol=1e-6)


def test_masks():
    tokens = keras.Input((4,), dtype="int32")
    embedding = SurrogateWeights(keras.layers.Embedding(5, 2, mask_zero=True), "ste_sign")
    lstm = SurrogateWeights(keras.layers.LSTM(3, return_sequences=True), "ste_sign")
    model = keras.Model(tokens, lstm(embedding(tokens)))
    y = model(np.array([[1, 2, 0, 0]]))
    np.testing.assert_array_equal(y[:, 3], y[:, 1])
    assert not np.allclose(y[:, 1], y[:, 0])
    given = lstm(embedding(np.array([[1, 2, 3, 4]])), mask=np.array([[True, True, False, False]]))
    np.testing.assert_array_equal(given[:, 3], given[:, 1])


def test_arguments_of_the_wrapped_call():
    attention = SurrogateWeights(keras.layers.MultiHeadAttention(2, 3), "ste_sign")
    mask = np.tril(np.ones((4, 6, 6), bool))
    outputs, scores = attention(SERIES, SERIES, attention_mask=mask, return_attention_scores=True)
    assert outputs.shape == SERIES.shape
    assert (scores.numpy()[:, :, ~mask[0]] == 0).all()
    assert list(attention.effective_weights()) == [
        f"{name}/kernel" for name in ("query", "key", "value", "attention_output")
    ]

    own = SurrogateWeights(Bilinear(), "ste_sign", weights="gate/kernel")
    assert not np.allclose(own(VECTORS), own(VECTORS, gated=False))
    (replaced,) = own.effective_weights().values()
    np.testing.assert_array_equal(replaced, np.where(own.layer.gate.kernel.numpy() >= 0, 1, -1))
    symbolic = keras.Input((6, 4))
    assert attention(symbolic, symbolic).shape == (None, 6, 4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_dtypes(policy):
    layer = binary(scale="max_abs", dtype=policy)
    x = VECTORS.astype(layer.variable_dtype)
    layer(x)
    # Too small for float16, where it would be 0 and its sign 1.
    layer.layer.kernel.assign(np.full((4, 3), -1e-9))
    with tf.GradientTape() as tape:
        y = layer(x)
    assert y.dtype == layer.layer.compute_dtype
    gradient = tape.gradient(y, layer.layer.kernel.value)
    assert gradient.dtype == layer.layer.variable_dtype
    np.testing.assert_allclose(layer.effective_weights()["kernel"], -1e-9, rtol=1e-6)

    plain = binary(dtype=policy)
    plain(x)
    plain.layer.kernel.assign(np.full((4, 3), -1e-9))
    wanted = -x.sum(axis=1, keepdims=True).repeat(3, axis=1)
    np.testing.assert_allclose(plain(x), wanted, rtol=0.05, atol=0.05)


def test_a_mixed_model_trains():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = small_model()
    finally:
        keras.config.set_dtype_policy("float32")
    assert {weight.dtype for weight in model.weights} == {"float32"}
    model.compile("sgd", "mse")
    history = model.fit(IMAGES, Y, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_true_gradients():
    layer = binary()
    layer(VECTORS)
    with ks.true_gradients(layer), tf.GradientTape() as tape:
        y = layer(VECTORS)
    np.testing.assert_array_equal(tape.gradient(y, layer.layer.kernel.value), np.zeros((4, 3)))
    smooth = SurrogateWeights(keras.layers.Dense(3), ks.Surrogate("tanh", "linear"))
    smooth(VECTORS)
    kernel = smooth.layer.kernel
    _, (plain,) = outputs_and_gradients(smooth, VECTORS, [kernel])
    with ks.true_gradients(smooth):
        _, (true,) = outputs_and_gradients(smooth, VECTORS, [kernel])
    np.testing.assert_allclose(true, plain * (1 - np.tanh(kernel) ** 2), rtol=1e-4)


def test_the_logger_sees_the_latent_weights():
    model = small_model("learned")
    logger = GradientNormLogger()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(IMAGES, Y, batch_size=4, verbose=0, callbacks=[logger])
    assert tuple(logger.layer_names) == ("conv", "batch_normalization", "head")
    with tf.GradientTape(persistent=True) as tape:
        loss = tf.reduce_mean(tf.square(model(IMAGES, training=True) - Y))
    for number, layer in enumerate((model.layers[0], model.layers[1], model.layers[-1])):
        gradients = tape.gradient(loss, [one.value for one in layer.trainable_variables])
        norm = np.sqrt(sum(np.square(gradient).sum() for gradient in gradients))
        np.testing.assert_allclose(logger.norms[0, number], norm, rtol=1e-4)
    by_variable = GradientNormLogger(per="variable", also="activations")
    model.fit(IMAGES, Y, verbose=0, callbacks=[by_variable])
    assert {"conv/kernel_step", "conv/conv/kernel"} < set(by_variable.layer_names)


def test_a_shared_layer_has_one_set_of_weights():
    inputs = keras.Input((4,))
    layer = binary(4, scale="learned")
    model = keras.Model(inputs, layer(layer(inputs)))
    assert len(model.weights) == 3
    _, gradients = outputs_and_gradients(model, VECTORS, model.trainable_variables)
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)


class Subclass(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = binary(5, scale="learned")
        self.attention = SurrogateWeights(
            keras.layers.MultiHeadAttention(1, 2), "ste_sign", weights="query/kernel"
        )

    def call(self, inputs):
        hidden = self.first(inputs)
        return self.attention(hidden, hidden)


def functional():
    tokens = keras.Input((6,), dtype="int32")
    hidden = SurrogateWeights(keras.layers.Embedding(7, 4), "swish_sign")(tokens)
    hidden = SurrogateWeights(keras.layers.LSTM(3), "ste_sign", "recurrent_kernel", "max_abs")(
        hidden
    )
    return keras.Model(tokens, hidden)


MODELS = {
    "sequential": (small_model, IMAGES),
    "learned": (lambda: small_model("learned"), IMAGES),
    "functional": (functional, TOKENS),
    "subclass": (Subclass, SERIES),
}


@pytest.mark.parametrize("name", MODELS)
def test_saving(name, tmp_path):
    make, x = MODELS[name]
    model = make()
    model(x)
    spread(model)
    expected, gradients = outputs_and_gradients(model, x, model.trainable_variables)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    with keras.saving.custom_object_scope({"Subclass": Subclass}):
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = make()
    again(x)
    again.load_weights(tmp_path / "model.weights.h5")
    for copy in (loaded, again):
        output, copied = outputs_and_gradients(copy, x, copy.trainable_variables)
        np.testing.assert_array_equal(output, expected)
        for one, other in zip(copied, gradients, strict=True):
            np.testing.assert_array_equal(one, other)
    if name != "subclass":
        clone = keras.models.clone_model(model)
        clone(x)
        clone.set_weights(model.get_weights())
        np.testing.assert_array_equal(clone(x), expected)


def test_export_keeps_the_gradient(tmp_path):
    model = small_model()
    expected, gradients = outputs_and_gradients(model, IMAGES, model.trainable_variables)
    model.export(tmp_path / "exported", verbose=False)
    tf.saved_model.save(model, tmp_path / "saved")
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(IMAGES), expected, rtol=1e-5, atol=1e-6)
    saved = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(
        saved.signatures["serving_default"](tf.constant(IMAGES))["output_0"],
        expected,
        rtol=1e-5,
        atol=1e-6,
    )
    with tf.GradientTape() as tape:
        output = exported.serve(IMAGES)
        weight = tf.cos(tf.reshape(tf.range(tf.size(output), dtype=tf.float32), output.shape))
        loss = tf.reduce_sum(output * weight)
    variables = {variable.name: variable for variable in exported.trainable_variables}
    kernel = next(one for name, one in variables.items() if "conv/kernel" in name)
    np.testing.assert_allclose(tape.gradient(loss, kernel), gradients[0], rtol=1e-3, atol=1e-5)


def test_a_built_layer_keeps_its_weights():
    dense = keras.layers.Dense(3)
    dense(VECTORS)
    kernel = dense.kernel.numpy()
    layer = SurrogateWeights(dense, "ste_sign", scale="learned")
    y = layer(VECTORS)
    step = 2 * np.abs(kernel).mean()
    np.testing.assert_allclose(y, VECTORS @ (step * np.where(kernel >= 0, 1, -1)), rtol=1e-5)
    assert layer.layer.kernel is dense.kernel


def test_the_config_is_plain_and_complete():
    layer = SurrogateWeights(
        keras.layers.LSTM(3), "swish_sign", ["kernel", "recurrent_*"], "max_abs", name="mine"
    )
    layer.trainable = False
    config = layer.get_config()
    again = SurrogateWeights.from_config(layer.get_config())
    assert again.get_config() == config
    assert (config["weights"], config["scale"]) == (["kernel", "recurrent_*"], "max_abs")
    assert (again.name, again.trainable, again.surrogate) == ("mine", False, layer.surrogate)


def test_stateless_calls_take_the_given_weights():
    layer = binary(use_bias=False)
    layer(VECTORS)
    kernel = -layer.layer.kernel.numpy()
    output, _ = layer.stateless_call([kernel], [], VECTORS)
    np.testing.assert_allclose(output, VECTORS @ np.where(kernel >= 0, 1, -1), rtol=1e-5, atol=1e-6)


def test_frozen_layers_are_replaced_too():
    layer = binary(use_bias=False)
    layer.trainable = False
    y = layer(VECTORS)
    assert layer.trainable_variables == []
    np.testing.assert_allclose(
        y, VECTORS @ np.where(layer.layer.kernel.numpy() >= 0, 1, -1), rtol=1e-5, atol=1e-6
    )


# ------------------------------------------------------------------------------------ conversion


def test_a_layer_may_be_created_frozen():
    layer = SurrogateWeights(keras.layers.Dense(3), "ste_sign", scale="learned", trainable=False)
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(1)])
    assert len(model.trainable_variables) == 2
    assert not layer.layer.trainable
    layer.trainable = True
    assert len(model.trainable_variables) == 5


@pytest.mark.parametrize("name", ["sequential", "learned", "functional"])
def test_strip_bakes_the_values_in(name, tmp_path):
    make, x = MODELS[name]
    model = make()
    if name != "functional":
        # Without the sign between, which is no activation of Keras.
        kept = [one for one in model.layers if "activation" not in one.name]
        model = keras.Sequential([keras.Input(x.shape[1:]), *kept])
    spread(model)
    model.compile("sgd", "mse")
    plain = conversion.strip(model)
    np.testing.assert_array_equal(plain(x), model(x))
    np.testing.assert_array_equal(plain.predict(x, verbose=0), model.predict(x, verbose=0))
    assert [layer.name for layer in plain.layers] == [layer.name for layer in model.layers]
    assert not any(isinstance(layer, SurrogateWeights) for layer in plain.layers)
    assert "weights by" in str(conversion.report(plain))
    plain.save(tmp_path / "plain.keras")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", plain(x))
    code = f"""
import sys, keras, numpy as np
sys.modules["keras_surrogate"] = None
model = keras.saving.load_model({str(tmp_path / "plain.keras")!r})
x, y = (np.load({str(tmp_path)!r} + "/" + name) for name in ("x.npy", "y.npy"))
np.testing.assert_array_equal(model(x), y)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("scale", [None, "learned"], ids=str)
@pytest.mark.parametrize("name", [name for name in KINDS if name != "own"])
def test_strip_of_every_kind(name, scale):
    make, x = KINDS[name]
    layer = SurrogateWeights(make(), "ste_sign", scale=scale, name="here")
    model = keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype), layer])
    spread(model)
    plain = conversion.strip(model)
    assert type(plain.layers[0]) is type(layer.layer)
    assert plain.layers[0].name == "here"
    np.testing.assert_array_equal(plain(x), model(x))


def test_strip_and_swap_reach_the_activations_within():
    inner = keras.layers.Dense(3, activation=ks.get("sugar_bsilu"), name="dense")
    model = keras.Sequential([keras.Input((4,)), SurrogateWeights(inner, "ste_sign")])
    plain = conversion.strip(model)
    assert type(plain.layers[0]) is keras.layers.Dense
    assert plain.layers[0].activation is keras.activations.relu
    np.testing.assert_array_equal(plain(VECTORS), model(VECTORS))
    swapped = conversion.swap(model, {"relu": "leaky_backward"})
    layer = swapped.layers[0]
    assert isinstance(layer, SurrogateWeights)
    assert layer.layer.activation == ks.get("leaky_backward")
    np.testing.assert_array_equal(swapped(VECTORS), model(VECTORS))


def test_strip_within_a_layer_of_keras():
    layer = keras.layers.TimeDistributed(SurrogateWeights(keras.layers.Dense(3), "ste_sign"))
    model = keras.Sequential([keras.Input((5, 4)), layer])
    x = np.random.default_rng(0).normal(size=(8, 5, 4))
    np.testing.assert_array_equal(conversion.strip(model)(x), model(x))


def test_strip_of_a_layer_that_is_also_used_without_its_wrapper():
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(4, name="shared")
    wrapped = SurrogateWeights(dense, "ste_sign", name="binary")
    for other in (
        dense,
        SurrogateWeights(dense, "ste_tern", name="ternary"),
        keras.Sequential([dense], name="within"),
    ):
        model = keras.Model(inputs, [wrapped(inputs), other(inputs)])
        with pytest.raises(ValueError, match="shared is called both within binary"):
            conversion.strip(model)
    # One wrapper may be called twice.
    model = keras.Model(inputs, wrapped(wrapped(inputs)))
    np.testing.assert_array_equal(conversion.strip(model)(VECTORS), model(VECTORS))


def test_strip_names_what_it_cannot_replace():
    model = keras.Sequential([keras.Input((4,)), layers.SurrogateActivation("ste_sign"), binary()])
    with pytest.raises(ValueError, match="Keras has nothing that computes"):
        conversion.strip(model)


def test_the_last_activation_is_that_of_the_wrapped_layer():
    layer = SurrogateWeights(keras.layers.Dense(3, "tanh"), "ste_sign")
    assert ks.activations.last(layer).name == "tanh"


# ---------------------------------------------------------------------------------------- errors


class Assigning(keras.layers.Dense):
    def call(self, inputs):
        self.kernel.assign(self.kernel / 2)
        return super().call(inputs)


def built(layer):
    layer(VECTORS)
    return layer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SurrogateWeights("dense", "ste_sign"), "needs a Keras layer, but got 'dense'"),
        (lambda: SurrogateWeights(keras.layers.Dense(3), "ste_sgn"), "Did you mean 'ste_sign'"),
        (
            lambda: binary(scale="mean"),
            "scale must be one of None, 'mean_abs', 'max_abs', 'least_error', 'learned', but is "
            "'mean'. Did you",
        ),
        (
            lambda: SurrogateWeights(keras.layers.Dense(3), "tanh", scale="learned"),
            "needs a forward of few levels, such as a sign, but tanh has no finite number",
        ),
        (
            lambda: SurrogateWeights(keras.layers.Dense(3), "tanh", scale="least_error"),
            'scale="least_error" needs a forward of few levels',
        ),
        (
            lambda: SurrogateWeights(binary(name="inner"), "ste_sign"),
            "inner replaces its weights already",
        ),
        (
            lambda: SurrogateWeights(
                keras.Sequential([binary(name="inner"), keras.layers.Dense(2)]), "ste_sign"
            ),
            "inner replaces its weights already",
        ),
        (
            lambda: built(SurrogateWeights(keras.layers.Dense(3, name="d"), "ste_sign", "kernl")),
            "d has no weight 'kernl'. Its weights: 'kernel', 'bias'",
        ),
        (
            lambda: SurrogateWeights(built(keras.layers.Dense(3, name="d")), "ste_sign", "kernl"),
            "d has no weight 'kernl'. Its weights: 'kernel', 'bias'",
        ),
        (
            lambda: built(
                SurrogateWeights(keras.layers.LayerNormalization(name="norm"), "ste_sign")
            ),
            r"norm \(LayerNormalization\) has no kernel and no embeddings. Its weights: 'gamma'",
        ),
        (
            lambda: built(SurrogateWeights(keras.layers.Flatten(name="flat"), "ste_sign")),
            r"flat \(Flatten\) has no kernel and no embeddings. Its weights: none",
        ),
        (
            lambda: SurrogateWeights(keras.layers.Dense(3), "ste_sign", weights=3),
            "weights must be a name such as 'kernel', or several, but is 3",
        ),
        (
            lambda: SurrogateWeights(keras.layers.Dense(3), "ste_sign", weights=[]),
            r"weights must be a name such as 'kernel', or several, but is \[\]",
        ),
        (
            lambda: SurrogateWeights(keras.layers.Dense(3), "ste_sign", dtype="float16"),
            "the dtype is that of the wrapped layer",
        ),
        (
            lambda: built(SurrogateWeights(Assigning(3, name="a"), "ste_sign")),
            r"a \(Assigning\) assigns to its own kernel when it is called",
        ),
        (
            lambda: keras.layers.Bidirectional(SurrogateWeights(keras.layers.LSTM(3), "ste_sign")),
            "Wrap the whole: SurrogateWeights",
        ),
        (lambda: binary(name="b").effective_weights(), "b has no weights yet"),
    ],
)
def test_mistakes_are_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def staircase(levels):
    """Levels from -1 to 1 on the identity."""
    return ks.Surrogate(ks.functions.Staircase(levels, 2 / (levels - 1)), "linear")


# Max 1960, table 2: the best step for 2, 3, 4, 8 and 16 levels of normal numbers.
MAX_STEPS = {2: 1.596, 3: 1.224, 4: 0.9957, 8: 0.5860, 16: 0.3352}


@pytest.mark.parametrize("levels", MAX_STEPS)
def test_the_reach_of_the_least_error_is_that_of_max(levels):
    # The mean of abs(w) of normal w with deviation 1; there are levels - 1 steps from -m to m.
    m = weight_scales.normal_reach(staircase(levels).forward) * np.sqrt(2 / np.pi)
    assert 2 * m / (levels - 1) == pytest.approx(MAX_STEPS[levels], rel=3e-4)


def test_the_least_error_keeps_weights_that_the_maximum_rounds_to_zero():
    def three_levels(scale):
        layer = SurrogateWeights(keras.layers.Dense(50), staircase(3), scale=scale)
        layer.build((None, 400))
        weight = np.random.default_rng(0).normal(size=(400, 50))
        layer.layer.kernel.assign(weight)
        rounded = layer.effective_weights()["kernel"].numpy()
        return np.mean(rounded == 0), np.mean((rounded - weight) ** 2)

    zeros, error = zip(*map(three_levels, ["max_abs", "least_error"]), strict=True)
    # Max's least error for three levels is .1902; a sample of 400 is a little off.
    assert error[1] == pytest.approx(0.1902, rel=0.02) and error[0] > 2 * error[1]
    assert zeros[0] > 0.8 and zeros[1] == pytest.approx(0.46, abs=0.01)


def test_the_largest_level_of_the_least_error_is_at_most_the_largest_weight():
    # Of equal sizes, such as those of Glorot's weights, no level lies beyond them.
    layer = SurrogateWeights(keras.layers.Dense(3), staircase(7), scale="least_error")
    layer.build((None, 50))
    rounded = layer.effective_weights()["kernel"]
    largest = tf.reduce_max(tf.abs(layer.layer.kernel.value), axis=0)
    np.testing.assert_allclose(tf.reduce_max(tf.abs(rounded), axis=0), largest, rtol=1e-6)


def test_a_forward_that_falls_has_no_least_error():
    falling = ks.Surrogate(lambda x: -tf.sign(x), "linear")
    with pytest.raises(ValueError, match="needs a forward that grows with the weight"):
        SurrogateWeights(keras.layers.Dense(3), falling, scale="least_error")


@keras.saving.register_keras_serializable("test")
class WithoutBuild(keras.layers.Layer):
    """A layer that only its call builds."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(x)


# Keras warns of such layers whether they are wrapped or not.
@pytest.mark.filterwarnings("ignore:`build.*does not have a `build:UserWarning")
def test_a_layer_that_only_a_call_builds_is_loaded_and_cloned(tmp_path):
    inputs = keras.Input(VECTORS.shape[1:])
    model = keras.Model(inputs, SurrogateWeights(WithoutBuild(), "ste_sign")(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(VECTORS), model(VECTORS))
    cloned = keras.models.clone_model(model)
    cloned.set_weights(model.get_weights())
    np.testing.assert_array_equal(cloned(VECTORS), model(VECTORS))
