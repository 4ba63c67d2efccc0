"""`GradientNormLogger(also="alignment")`: cosines of sampled steps, and a training left unchanged."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from products import some

import keras_surrogate as ks
from keras_surrogate import Surrogate
from keras_surrogate.callbacks import GradientNormLogger
from keras_surrogate.diagnosis import alignment
from keras_surrogate.layers import LI, LIF, SurrogateActivation, SurrogateWeights

L = keras.layers
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(96, 8)).astype("float32")
Y = np.arange(96) % 5
BATCH = 16
STEPS = len(X) // BATCH


def layers_of(pair, rate=0.3):
    return [
        L.Dense(12, name="first"),
        L.BatchNormalization(name="normal"),
        SurrogateActivation(pair, name="activation"),
        L.Dropout(rate, seed=5),
        L.Dense(12, activation=pair, name="second"),
        L.Dense(5, name="last"),
    ]


def make_model(pair="ste_sign", rate=0.3, **arguments):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), *layers_of(ks.get(pair), rate)])
    arguments = {"optimizer": keras.optimizers.Adam(0.01), "loss": LOSS, **arguments}
    model.compile(metrics=["accuracy"], **arguments)
    return model


def logger_of(**arguments):
    return GradientNormLogger(also="alignment", alignment_every=2, **arguments)


def fit(model, *callbacks, epochs=2, **arguments):
    arguments = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **arguments).history


def state(model):
    variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    return [variable.numpy() for variable in variables]


class Measured(keras.callbacks.Callback):
    """The alignment of each batch before its step, by `diagnosis.alignment`."""

    def __init__(self):
        super().__init__()
        self.cosines = []

    def on_train_batch_begin(self, batch, logs=None):
        part = slice(batch * BATCH, (batch + 1) * BATCH)
        result = alignment(self.model, X[part], Y[part])
        cosines = [*result.cosines.values(), result.total.cosine]
        self.cosines.append(np.array(cosines, float))


STRIDES = [(3, 6), (1, 2), (2, 2)]
MODES = [
    {},
    {"jit_compile": True},
    {"run_eagerly": True},
    {"steps_per_execution": 4},
]


@some("mode", MODES, MODES[:2])
def test_sampled_steps_have_the_cosines_of_diagnosis_and_training_is_unchanged(mode):
    # XLA draws other masks than `diagnosis` does, so that they are compared without.
    rate = 0.0 if mode == {"jit_compile": True} else 0.3
    alone = make_model(rate=rate, **mode)
    history = fit(alone)
    model, logger = make_model(rate=rate, **mode), logger_of()
    recorded = fit(model, logger)
    # The training is the same to the bit, with its random masks, averages and metrics.
    for one, other in zip(state(alone), state(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(recorded[name] == history[name] for name in history)

    record = logger.record
    assert record.names("alignment") == ("first", "normal", "second", "last")
    values = np.column_stack([record["alignment"], record.total("alignment")])
    assert len(values) == 2 * STEPS
    assert np.isnan(values[1::2]).all()
    assert np.isfinite(values[::2]).all()
    # A model with the same weights, step by step.
    measured = Measured()
    fit(make_model(rate=rate), measured)
    np.testing.assert_allclose(values[::2], measured.cosines[::2], atol=2e-4)
    assert values[::2, 0].max() < 0.999
    mean = np.nanmean(values[STEPS:, 0])
    assert recorded["alignment/first"][1] == pytest.approx(mean)


def test_the_true_gradient_is_the_reference_where_it_is_not_zero():
    pair = Surrogate("relu", "softplus")
    logger, measured = logger_of(), Measured()
    fit(make_model(pair), logger)
    fit(make_model(pair), measured)
    np.testing.assert_allclose(
        logger.record["alignment"][::2], np.array(measured.cosines)[::2, :-1], atol=1e-4
    )
    plain = logger_of()
    fit(make_model("relu"), plain)
    np.testing.assert_allclose(plain.record["alignment"][::2], 1, atol=1e-6)


@some("steps", STRIDES, STRIDES[:1])
def test_sampled_steps_are_multiples_of_their_number(steps):
    every, expected = steps
    logger = GradientNormLogger(every, also="alignment", alignment_every=expected)
    model = make_model()
    fit(model, logger, epochs=1)
    fit(model, logger, epochs=3)
    is_sampled = np.isfinite(logger.record["alignment"]).all(axis=1)
    # The second fit begins at step 6.
    np.testing.assert_array_equal(logger.steps, np.arange(STEPS, 4 * STEPS)[::every])
    np.testing.assert_array_equal(logger.steps[is_sampled] % expected, 0)
    assert is_sampled.sum() == 3 * STEPS // expected


class OwnStep(keras.Model):
    """A train step with a loss of its own in a `tf.function`, a counter, and a change by hand."""

    def __init__(self):
        super().__init__()
        self.hidden = L.Dense(8, ks.get("approx_sign"), name="hidden")
        self.head = L.Dense(1, name="head")
        self.mean = keras.metrics.Mean(name="cost")
        self.steps = tf.Variable(0)
        self.average = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        return self.head(self.hidden(x))

    @tf.function
    def cost(self, x, y):
        error = self(x)[:, 0] - tf.cast(y, tf.float32)
        return tf.reduce_mean(tf.math.log(tf.cosh(error)))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            cost = self.cost(x, y)
            cost += 0.1 * tf.cast(self.steps, tf.float32)
            scaled = self.optimizer.scale_loss(cost)
        gradients = tape.gradient(scaled, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.mean.update_state(cost)
        self.steps.assign_add(1)
        self.average.assign(0.9 * self.average + 0.1 * cost)
        self.head.bias.assign_add([0.01])
        return {"cost": self.mean.result()}


def own_step(optimizer=None):
    keras.utils.set_random_seed(1)
    model = OwnStep()
    model(X)
    # Contexts reach into functions that have a trace.
    model.cost(tf.constant(X[:BATCH]), tf.constant(Y[:BATCH]))
    model.compile(optimizer or keras.optimizers.SGD(0.1))
    return model


@some("scaled", [True, False], [True])
def test_a_train_step_with_a_loss_of_its_own(scaled):
    def optimizer():
        inner = keras.optimizers.SGD(0.1)
        return keras.optimizers.LossScaleOptimizer(inner, 1024.0) if scaled else inner

    alone, model = own_step(optimizer()), own_step(optimizer())
    weights = [variable.numpy() for variable in model.trainable_variables]
    logger = logger_of()
    assert fit(alone)["cost"] == fit(model, logger)["cost"]
    for one, other in zip(state(alone), state(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(alone.steps) == int(model.steps) == 2 * STEPS
    assert np.isfinite(logger.record["alignment"][::2]).all()

    # The first step by a plain tape: own gradient, and that of the smooth network.
    def gradient(activation):
        kernel, bias, head, offset = map(tf.Variable, weights)
        with tf.GradientTape() as tape:
            outputs = activation(X[:BATCH] @ kernel + bias) @ head + offset
            loss = tf.reduce_mean(tf.math.log(tf.cosh(outputs[:, 0] - Y[:BATCH].astype("float32"))))
        return np.concatenate([np.ravel(one) for one in tape.gradient(loss, [kernel, bias])])

    def triangle(x):
        clipped = tf.clip_by_value(x, -1, 1)
        return clipped * (2 - tf.abs(clipped))

    own, other = gradient(ks.get("approx_sign")), gradient(triangle)
    expected = own @ other / np.linalg.norm(own) / np.linalg.norm(other)
    assert logger.record["alignment"][0, 0] == pytest.approx(expected, abs=1e-4)


@some("arguments", MODES, [MODES[0], MODES[3]])
def test_a_model_that_is_built_by_fit(arguments):
    keras.utils.set_random_seed(1)
    model, logger = keras.Sequential(layers_of(ks.get("ste_sign"))), logger_of()
    model.compile("sgd", LOSS, metrics=["accuracy"], **arguments)
    history = fit(model, logger)
    assert np.isfinite(logger.record["alignment"][::2]).all()
    # Metrics count each example once, as without the logger.
    keras.utils.set_random_seed(1)
    alone = keras.Sequential(layers_of(ks.get("ste_sign")))
    alone.compile("sgd", LOSS, metrics=["accuracy"], **arguments)
    expected = fit(alone)
    assert {name: history[name] for name in expected} == expected


def test_mixed_precision_with_a_loss_scale_that_changes():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inner = keras.optimizers.SGD(0.1)
        optimizer = keras.optimizers.LossScaleOptimizer(
            inner, initial_scale=2.0**10, dynamic_growth_steps=2
        )
        model, logger = make_model(optimizer=optimizer), logger_of()
        inner = keras.optimizers.SGD(0.1)
        optimizer = keras.optimizers.LossScaleOptimizer(
            inner, initial_scale=2.0**10, dynamic_growth_steps=2
        )
        alone = make_model(optimizer=optimizer)
    finally:
        keras.config.set_dtype_policy("float32")
    fit(model, logger)
    fit(alone)
    for one, other in zip(state(alone), state(model), strict=True):
        np.testing.assert_array_equal(one, other)
    cosines = logger.record["alignment"][::2]
    assert np.isfinite(cosines).all()
    # The last layer follows the sign, whose values differ in the smooth network.
    assert np.abs(cosines).max() <= 1


def test_gradients_whose_squares_do_not_fit_float32():
    def tiny(y, outputs):
        return 1e-25 * LOSS(y, outputs)

    usual, vanishing = logger_of(), logger_of()
    # A learning rate of 0: the same weights in all steps.
    fit(make_model(rate=0.0, optimizer=keras.optimizers.SGD(0.0)), usual, epochs=1)
    fit(make_model(rate=0.0, optimizer=keras.optimizers.SGD(0.0), loss=tiny), vanishing, epochs=1)
    assert vanishing.norms.max() < 1e-23
    np.testing.assert_allclose(
        vanishing.record["alignment"][::2], usual.record["alignment"][::2], atol=1e-4
    )


def test_on_weights_and_spiking_neurons_per_variable():
    model = keras.Sequential(
        [
            keras.Input((4, 2)),
            SurrogateWeights(L.Dense(6), "ste_sign", name="binary"),
            LIF(name="spiking"),
            L.Dense(5, name="last"),
            LI(),
            L.Lambda(lambda x: x[:, -1]),
        ]
    )
    model.compile("sgd", LOSS)
    logger = logger_of(per="variable")
    x = X.reshape(96, 4, 2)
    model.fit(x, Y, batch_size=BATCH, verbose=0, callbacks=[logger])
    assert logger.record.names("alignment")[0] == "binary/dense/kernel"
    assert np.isfinite(logger.record["alignment"][::2]).all()


def test_by_default_every_two_hundredth_step_is_sampled(two_replicas):
    assert GradientNormLogger(also="alignment")._alignment_every == 200
    assert GradientNormLogger(7, also="alignment")._alignment_every == 203
    with pytest.raises(ValueError, match="alignment_every must be a multiple of every = 7"):
        GradientNormLogger(7, also="alignment", alignment_every=10)
    with two_replicas.scope():
        model = make_model()
    with pytest.raises(ValueError, match='also="alignment" needs one replica'):
        fit(model, logger_of())
