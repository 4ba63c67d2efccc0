"""`Bop` against its algorithm in NumPy, in fit, saved and loaded."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import conversion
from keras_surrogate.callbacks import GradientNormLogger
from keras_surrogate.layers import SurrogateWeights
from keras_surrogate.optimizers import Bop

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(32, 6)).astype("float32")
Y = RANDOM.normal(size=(32, 2)).astype("float32")


def make_model(scale=None):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6,)),
            SurrogateWeights(keras.layers.Dense(5, name="first"), "ste_sign", scale=scale),
            keras.layers.BatchNormalization(),
            SurrogateWeights(keras.layers.Dense(2, name="second"), "ste_sign", scale=scale),
        ]
    )


def make_bop(rest=None):
    return Bop(1e-2, 0.3, rest or keras.optimizers.SGD(0.05))


def fitted(model, optimizer, epochs=2, **arguments):
    model.compile(optimizer, "mse", **arguments)
    model.fit(X, Y, batch_size=8, shuffle=False, epochs=epochs, verbose=0)
    return model


def by_hand(epochs=2):
    """The same training by a tape, plain SGD and algorithm 1 of the paper in NumPy."""
    model = make_model()
    variables = model.trainable_variables
    averages = {0: 0.0, 4: 0.0}
    for start in [*range(0, len(X), 8)] * epochs:
        x, y = X[start : start + 8], Y[start : start + 8]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
        gradients = tape.gradient(loss, [one.value for one in variables])
        for number, (variable, gradient) in enumerate(zip(variables, gradients, strict=True)):
            if number not in averages:
                variable.assign_sub(0.05 * gradient)
                continue
            m = 0.7 * averages[number] + 0.3 * gradient.numpy()
            averages[number] = m
            w = variable.numpy()
            variable.assign(np.where((np.abs(m) > 1e-2) & (np.sign(m) == np.sign(w)), -w, w))
    return model.get_weights()


@pytest.mark.parametrize(
    "arguments",
    [
        {"jit_compile": True},
        {"run_eagerly": True},
        {"jit_compile": False, "steps_per_execution": 2},
    ],
    ids=str,
)
def test_fit_is_the_algorithm(arguments):
    start = make_model().get_weights()
    got = fitted(make_model(), make_bop(), **arguments).get_weights()
    for one, other in zip(got, by_hand(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    flipped = np.sign(start[0]) != np.sign(got[0])
    assert 0 < flipped.mean() < 1
    np.testing.assert_array_equal(np.abs(got[0]), np.abs(start[0]))


def test_the_check_can_fail():
    class Backwards(Bop):
        def update_step(self, gradient, variable, learning_rate):
            super().update_step(-tf.convert_to_tensor(gradient), variable, learning_rate)

    got = fitted(make_model(), Backwards(1e-2, 0.3, keras.optimizers.SGD(0.05))).get_weights()
    assert not np.allclose(got[0], by_hand()[0])


@pytest.mark.parametrize("rest", ["adam", "sgd"])
def test_training_goes_on_after_loading(rest, tmp_path):
    straight = fitted(make_model("mean_abs"), make_bop(rest), epochs=4)
    half = fitted(make_model("mean_abs"), make_bop(rest), epochs=2)
    half.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, Bop)
    assert loaded.optimizer.get_config() == half.optimizer.get_config()
    loaded.fit(X, Y, batch_size=8, shuffle=False, epochs=2, verbose=0)
    for one, other in zip(loaded.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_on_two_replicas(two_replicas):
    with two_replicas.scope():
        mirrored = make_model()
        optimizer = make_bop()
    # Batch normalisation would see the halves of a batch.
    mirrored.layers[1].trainable = False
    alone = make_model()
    alone.layers[1].trainable = False
    fitted(mirrored, optimizer)
    fitted(alone, make_bop())
    for one, other in zip(mirrored.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_with_loss_scaling():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = make_model()
    finally:
        keras.config.set_dtype_policy("float32")
    start = model.get_weights()
    fitted(model, make_bop())
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    got = model.get_weights()
    np.testing.assert_allclose(np.abs(got[0]), np.abs(start[0]))
    assert (np.sign(got[0]) != np.sign(start[0])).any()


@pytest.mark.parametrize("at_zero", [1.0, -1.0, 0.0])
def test_weights_of_zero_flip(at_zero):
    dense = keras.layers.Dense(2, kernel_initializer="zeros", use_bias=False)
    surrogate = ks.Surrogate(ks.functions.Sign(at_zero), "hard_tanh")
    model = keras.Sequential([keras.Input((1,)), SurrogateWeights(dense, surrogate)])
    model.compile(Bop(0.0, 1.0, rest="sgd"), "mse")
    x = np.ones((8, 1))
    for sign in (-1, 1, -1):
        # The outputs are too large for one target, too small for the other.
        target = np.tile([[10.0 * sign, -10.0 * sign]], (8, 1))
        model.fit(x, target, verbose=0)
        np.testing.assert_array_equal(model(x), np.tile([[sign, -sign]], (8, 1)))


def test_the_learning_rate_is_that_of_the_rest():
    model = make_model()
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5 / (1 + epoch))
    model.compile(make_bop(), "mse")
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[schedule])
    assert float(model.optimizer.rest.learning_rate.numpy()) == 0.25


@pytest.mark.parametrize("kind", ["raw", "applied"])
def test_the_logger_sees_all_gradients(kind):
    model, logger = make_model(), GradientNormLogger(kind=kind, also="flips")
    model.compile(make_bop(), "mse")
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[logger])
    assert (logger.norms > 0).all()
    assert logger.record["flips"].max() > 0


def test_strip_compiles_with_the_rest():
    model = fitted(make_model(), make_bop("adam"))
    plain = conversion.strip(model)
    assert type(plain.optimizer) is keras.optimizers.Adam
    np.testing.assert_array_equal(plain(X), model(X))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bop(-1.0), "Bop: threshold must be .*at least 0, but is -1.0"),
        (lambda: Bop(gamma=0), "Bop: gamma must be .*above 0 and at most 1, but is 0"),
        (lambda: Bop(gamma=2.0), "Bop: gamma must be"),
        (lambda: Bop(rest="adm"), "adm"),
        (
            lambda: fitted(keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)]), Bop()),
            "the model has no binary weights",
        ),
    ],
)
def test_mistakes_are_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_ternary_weights_are_left_to_the_rest():
    ternary = ks.Surrogate(lambda x: tf.clip_by_value(tf.round(x), -1, 1), "hard_tanh")
    layers = [SurrogateWeights(keras.layers.Dense(2), one) for one in (ternary, "ste_sign")]
    model = keras.Sequential([keras.Input((6,)), *layers])
    start = model.get_weights()
    fitted(model, make_bop(), epochs=1)
    assert not np.allclose(np.abs(model.get_weights()[0]), np.abs(start[0]))
    np.testing.assert_array_equal(np.abs(model.get_weights()[2]), np.abs(start[2]))


@pytest.mark.parametrize(
    "rest",
    [
        lambda: keras.optimizers.SGD(0.1, loss_scale_factor=100.0),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
    ],
)
def test_the_other_optimizer_does_not_scale_the_loss(rest):
    with pytest.raises(ValueError, match="`rest` must not scale the loss"):
        Bop(rest=rest())


@pytest.mark.parametrize("threshold", [1e-3, 1e3])
def test_the_clipping_of_the_other_optimizer_is_recorded(threshold):
    model = make_model()
    model.compile(make_bop(keras.optimizers.SGD(0.05, clipnorm=threshold)), "mse")
    logger = GradientNormLogger()
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[logger])
    assert (logger.record.total("gradient_clipped") == (threshold < 1)).all()
