"""The cosine with each reference, against formulas and gradients computed by other means."""

import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

import keras_surrogate as ks
from keras_surrogate import Surrogate, diagnosis
from keras_surrogate.diagnosis import alignment, noise, references
from keras_surrogate.layers import LI, LIF, FakeQuantize, SurrogateActivation, SurrogateWeights

L = keras.layers
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(64, 8)).astype("float32")
Y = np.arange(64) % 5


def mlp(pair, depth=3, width=16, loss=LOSS):
    hidden = [L.Dense(width, pair, name=f"hidden_{number}") for number in range(1, depth + 1)]
    model = keras.Sequential([keras.Input((8,)), *hidden, L.Dense(5, name="output")])
    model.compile("adam", loss)
    return model


def copy_with(model, activation):
    """The same weights with another activation."""
    twin = mlp(activation, depth=len(model.layers) - 1)
    twin.set_weights(model.get_weights())
    return twin


def gradients(model):
    """The gradient of each layer as one vector, by a plain tape."""
    with tf.GradientTape() as tape:
        loss = LOSS(Y, model(X, training=True))
    found = [np.ravel(one) for one in tape.gradient(loss, model.trainable_variables)]
    return [np.concatenate(found[at : at + 2]) for at in range(0, len(found), 2)]


def cosine(one, other):
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def triangle(x):
    """The value of approx_sign's backward, from -1 to 1."""
    clipped = tf.clip_by_value(x, -1, 1)
    return clipped * (2 - tf.abs(clipped))


@pytest.mark.parametrize(
    "pair, plain, reference",
    [
        (Surrogate("relu", "softplus"), "relu", "true"),
        (ks.get("approx_sign"), triangle, "smooth"),
    ],
)
def test_the_default_reference_is_that_of_a_plain_network(pair, plain, reference):
    model = mlp(pair)
    twin = copy_with(model, plain)
    result = alignment(model, X, Y)
    assert result.reference == reference
    own, other = gradients(model), gradients(twin)
    expected = [cosine(*both) for both in zip(own, other, strict=True)]
    assert list(result.cosines) == ["hidden_1", "hidden_2", "hidden_3", "output"]
    np.testing.assert_allclose(list(result.cosines.values()), expected, rtol=1e-4)
    assert result.total.cosine == pytest.approx(
        cosine(np.concatenate(own), np.concatenate(other)), rel=1e-4
    )
    assert [row.gradient_norm for row in result.rows] == pytest.approx(
        [np.linalg.norm(one) for one in own], rel=1e-4
    )
    assert [row.reference_norm for row in result.rows] == pytest.approx(
        [np.linalg.norm(one) for one in other], rel=1e-4
    )


# The two-layer network of Yin et al. 2019: v . step(Z w) with Z of (m, n) normal numbers, and the
# loss 1/2 (v . step(Z w) - v* . step(Z w*))**2. Below, w_ and w*_ are unit vectors, and t is the
# angle between them. The expected gradients follow from
#     E[z 1{z in A}] = integral over the surface of A of the normal density times the inner normal
# and agree with lemmas 1, 5 and 7 of the paper, which has no formula for t of the clipped ReLU.
M, N = 3, 4
ROOT = np.sqrt(2 * np.pi)
V = np.array([0.8, -0.3, 0.6])
V_STAR = np.array([0.5, 0.4, 0.9])
W = np.array([0.9, -0.5, 0.7, 0.2])
W_STAR = np.array([0.1, 0.6, 0.8, -0.4])
UNIT = W / np.linalg.norm(W)
UNIT_STAR = W_STAR / np.linalg.norm(W_STAR)
ANGLE = np.arccos(UNIT @ UNIT_STAR)


def expected_true():
    """Lemma 1: the gradient of the expected loss, -(v . v*) / (2 pi |w|) times a unit vector."""
    across = UNIT_STAR - (UNIT @ UNIT_STAR) * UNIT
    return -(V @ V_STAR) / (2 * np.pi * np.linalg.norm(W)) * across / np.linalg.norm(across)


def expected_identity():
    """Lemma 7: (|v|**2 w_ - (v . v*) w*_) / sqrt(2 pi)."""
    return ((V @ V) * UNIT - (V @ V_STAR) * UNIT_STAR) / ROOT


def expected_relu():
    """Lemma 5: (h w_ - (v . v*) (w_ + w*_)) / 2 / sqrt(2 pi), where

    h = |v|**2 + (1 . v)**2 - (1 . v) (1 . v*) + v . v*
    """
    h = V @ V + V.sum() ** 2 - V.sum() * V_STAR.sum() + V @ V_STAR
    return (h * UNIT - (V @ V_STAR) * (UNIT + UNIT_STAR)) / 2 / ROOT


def expected_clipped_relu():
    """As for the ReLU, with the strip 0 < z . w < 1, whose far side is at c = 1 / |w|.

    E[1{strip} z] = q w_ with q = (1 - exp(-c**2 / 2)) / sqrt(2 pi), and
    E[1{strip} 1{z . w* > 0} z] = a w_ + b w*_ with
    a = 1 / 2 / sqrt(2 pi) - density(c) P(c / tan t),    b = (P(c / sin t) - 1 / 2) / sqrt(2 pi)
    where P is the normal distribution function.
    """
    c = 1 / np.linalg.norm(W)
    q = (1 - np.exp(-(c**2) / 2)) / ROOT
    a = 1 / 2 / ROOT - np.exp(-(c**2) / 2) / ROOT * distribution(c / np.tan(ANGLE))
    b = (distribution(c / np.sin(ANGLE)) - 1 / 2) / ROOT
    same = V @ V * q * UNIT - V @ V_STAR * (a * UNIT + b * UNIT_STAR)
    different = (V.sum() ** 2 - V @ V) - (V.sum() * V_STAR.sum() - V @ V_STAR)
    return same + different * q / 2 * UNIT


def distribution(x):
    return float(tf.math.erfc(-x / np.sqrt(2.0)) / 2)


@pytest.fixture(scope="module")
def many():
    """Many inputs with their targets."""
    x = np.random.default_rng(1).normal(size=(300_000, M, N)).astype("float32")
    return x, ((x @ W_STAR > 0) @ V_STAR).astype("float32")[:, np.newaxis]


def two_layers(backward):
    model = keras.Sequential(
        [
            keras.Input((M, N)),
            L.Dense(1, Surrogate("step", backward), use_bias=False, name="first"),
            L.Flatten(),
            L.Dense(1, use_bias=False, name="second"),
        ]
    )
    model.set_weights([W[:, np.newaxis], V[:, np.newaxis]])
    model.compile("sgd", lambda y, outputs: tf.square(y - outputs) / 2)
    return model


@pytest.mark.parametrize(
    "backward, expected",
    [
        ("linear", expected_identity),
        ("relu", expected_relu),
        ("clip", expected_clipped_relu),
    ],
)
def test_expected_angles_of_yin_et_al(many, backward, expected):
    result = alignment(two_layers(backward), *many, reference="difference")
    first = result.rows[0]
    assert first.gradient_norm == pytest.approx(np.linalg.norm(expected()), rel=0.02)
    assert first.reference_norm == pytest.approx(np.linalg.norm(expected_true()), rel=0.05)
    assert first.cosine == pytest.approx(cosine(expected(), expected_true()), abs=0.02)
    assert first.error is None
    # What follows the step has its true gradient.
    assert result.cosines["second"] == pytest.approx(1, abs=1e-4)


def exact_expected_gradient(model, x, y, backward_of):
    """The gradient of the expected loss of two stochastic layers, by a sum over all patterns."""
    kernels = [tf.Variable(one) for one in model.get_weights()]
    first, second, last = kernels
    patterns = [np.array(np.meshgrid(*[[0.0, 1.0]] * 3)).reshape(3, -1).T.astype("float32")] * 2
    with tf.GradientTape() as tape:
        expected = 0.0
        below = backward_of(x @ first)
        for one in patterns[0]:
            chance = tf.reduce_prod(tf.where(one > 0, below, 1 - below), axis=1)
            above = backward_of(one[np.newaxis] @ second)
            for other in patterns[1]:
                of_other = tf.reduce_prod(tf.where(other > 0, above, 1 - above))
                loss = tf.reduce_mean(tf.square(y - other[np.newaxis] @ last), axis=1)
                expected += tf.reduce_mean(chance * of_other * loss)
    return [np.ravel(one) for one in tape.gradient(expected, kernels)]


def test_noise_is_the_gradient_of_the_exact_expectation():
    pair = ks.get("atan_spike")
    layers = [L.Dense(3, pair, use_bias=False), L.Dense(3, pair, use_bias=False)]
    model = keras.Sequential([keras.Input((8,)), *layers, L.Dense(2, use_bias=False)])
    model.compile("sgd", "mse")
    x, y = X[:16], RANDOM.normal(size=(16, 2)).astype("float32")
    expected = exact_expected_gradient(model, x, y, lambda x: tf.atan(np.pi * x) / np.pi + 0.5)
    estimates = noise.estimates(model, x, y, samples=4096, seed=0)
    for variable, exact in zip(model.trainable_variables, expected, strict=True):
        found = np.stack([np.ravel(one[id(variable)]) for one in estimates])
        error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
        np.testing.assert_array_less(np.abs(found.mean(axis=0) - exact), 5 * error + 1e-6)
        # The error is small beside the gradient.
        assert np.linalg.norm(error) < 0.2 * np.linalg.norm(exact)

    result = alignment(model, x, y, references.Noise(samples=4096))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(x) - y))
    own = [np.ravel(one) for one in tape.gradient(loss, model.trainable_variables)]
    for row, mine, exact in zip(result.rows, own, expected, strict=True):
        assert row.cosine == pytest.approx(cosine(mine, exact), abs=5 * row.error + 0.02)
        assert 0 < row.error < 0.2


def test_noise_in_a_spiking_network():
    model = spiking()
    result = alignment(model, *sequences(), references.Noise(samples=256))
    assert all(row.error is not None for row in result.rows)
    assert result.rows[-1].cosine > 0.5


def sequences():
    return RANDOM.normal(size=(8, 5, 4)).astype("float32"), RANDOM.normal(size=(8, 2))


def spiking(**arguments):
    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            L.Dense(6),
            LIF(**arguments),
            L.Dense(2),
            LI(),
            L.Lambda(lambda x: x[:, -1]),
        ]
    )
    model.compile("adam", "mse")
    return model


def test_random_directions_estimate_the_cosine_of_all_coordinates():
    # A smooth loss, where small differences are exact.
    model = mlp(Surrogate("tanh", "softsign"), depth=2)
    exact = alignment(model, X, Y, "true")
    every = alignment(model, X, Y, references.Difference(directions=300, step=0.001))
    some = alignment(model, X, Y, references.Difference(directions=100, step=0.001))
    for one, all_of_them, few in zip(exact.rows, every.rows, some.rows, strict=True):
        assert all_of_them.error is None
        assert all_of_them.cosine == pytest.approx(one.cosine, abs=0.01)
        if few.error is not None:
            assert few.cosine == pytest.approx(one.cosine, abs=5 * few.error + 0.01)
    assert some.rows[0].error is not None


class WithFunctions(keras.Model):
    """Dropout, batch normalisation and a `tf.function` of its own."""

    def __init__(self):
        super().__init__()
        self.first = L.Dense(8, name="first")
        self.normal = L.BatchNormalization(name="normal")
        self.sign = SurrogateActivation("ste_sign", name="sign")
        self.dropout = L.Dropout(0.5, seed=3)
        self.last = L.Dense(5, name="last")

    @tf.function
    def _hidden(self, x):
        return self.sign(self.normal(self.first(x), training=True))

    def call(self, x, training=False):
        return self.last(self.dropout(self._hidden(x), training=training))


def test_the_model_stays_as_it_was_and_contexts_reach_into_traced_functions():
    model = WithFunctions()
    model(X)  # variables do not belong into a nested function
    model.compile("adam", LOSS, metrics=["accuracy"])
    model.fit(X, Y, verbose=0)

    def state():
        variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
        return [variable.numpy() for variable in variables]

    before = state()
    first = alignment(model, X, Y)
    for reference in ("smooth", references.Noise(32), references.Difference(8)):
        alignment(model, X, Y, reference)
    for one, other in zip(before, state(), strict=True):
        np.testing.assert_array_equal(one, other)
    # The same mask of the dropout in both passes, and in each call.
    assert alignment(model, X, Y) == first
    assert first.cosines["first"] < 0.999
    assert first.cosines["last"] < 1
    assert not tf.config.functions_run_eagerly()


def test_loss_scales_are_removed():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), 1024.0)
    model = mlp(ks.get("ste_sign"))
    plain = alignment(model, X, Y)
    model.compile(optimizer, LOSS)
    scaled = alignment(model, X, Y)
    for one, other in zip(plain.rows, scaled.rows, strict=True):
        assert other.cosine == pytest.approx(one.cosine, abs=1e-5)
        assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-5)


def test_on_weights_fake_quantization_and_sources_of_batches():
    layers = [
        SurrogateWeights(L.Dense(8, "relu"), "ste_sign", scale="learned"),
        FakeQuantize(2),
        L.Dense(5),
    ]
    model = keras.Sequential([keras.Input((8,)), *layers])
    model.compile("sgd", LOSS)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(64)
    result = alignment(model, data)
    assert result.reference == "smooth"
    assert result == alignment(model, X, Y)
    assert 0 < result.rows[0].cosine < 1


def test_print_and_to_dict():
    result = alignment(mlp(ks.get("ste_sign")), X, Y)
    console = Console(width=80, file=io.StringIO())
    result.print(console)
    text = console.file.getvalue()
    for row in result.rows:
        assert f"{row.cosine:.3f}" in text
    assert "smooth network" in text
    assert json.loads(json.dumps(result.to_dict()))["rows"][0]["cosine"] == result.rows[0].cosine
    assert "4 layers, cosines from" in repr(result)
    assert "hidden_1" in result._repr_html_()


def uncompiled():
    model = mlp(ks.get("ste_sign"))
    return keras.Sequential(model.layers)


STE = ks.get("ste_sign")


@pytest.mark.parametrize(
    "model, x, y, reference, message",
    [
        (uncompiled, X, Y, None, "alignment needs a loss, but the model is not compiled"),
        (lambda: mlp(STE), X, None, None, "alignment needs targets"),
        (lambda: mlp(STE), X[:0], Y[:0], None, "alignment: x is empty"),
        (lambda: mlp(STE), X, Y[:3], None, "alignment: x has 64 examples, but y has 3"),
        (lambda: mlp(STE), X[:, :3], Y, None, "alignment: the model, whose input shape is"),
        (lambda: mlp("relu"), X, Y, None, "has no surrogate .* every cosine is 1"),
        (lambda: mlp(STE), X, Y, "smoth", "reference must be one of .* Did you mean 'smooth'"),
        (lambda: mlp(STE), X, Y, "true", "'true' does not exist .* slope of sign is 0 everywhere"),
        (
            lambda: mlp(Surrogate("relu", "softplus")),
            X,
            Y,
            "noise",
            "'noise' does not exist .* relu with the slope of softplus does not choose",
        ),
        (lambda: mlp(ks.get("swish_sign")), X, Y, "noise", "'noise' does not exist"),
        (
            lambda: mlp(ks.get("dorefa")),
            X,
            Y,
            "noise",
            "dorefa with the slope of clip does not choose between two values",
        ),
    ],
)
def test_mistakes_are_explained(model, x, y, reference, message):
    with pytest.raises(ValueError, match=message):
        alignment(model(), x, y, reference)


def test_what_is_no_model_and_what_is_no_setting():
    with pytest.raises(TypeError, match="alignment: model must be a Keras model"):
        alignment(L.Dense(3), X, Y)
    with pytest.raises(ValueError, match="Noise: samples must be an integer of at least 8"):
        references.Noise(samples=1)
    with pytest.raises(ValueError, match="Difference: step must be a positive number"):
        references.Difference(step=0)
    weights = SurrogateWeights(L.Dense(5), "ste_sign", name="binary")
    model = keras.Sequential([keras.Input((8,)), weights])
    model.compile("sgd", LOSS)
    with pytest.raises(ValueError, match="binary has surrogates on weights"):
        diagnosis.alignment(model, X, Y, "noise")
