"""The logger with train steps and optimizers of users: functions, branches, own optimizers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate.callbacks import GradientAlerts, GradientNormLogger

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(24, 3)).astype("float32")
Y = RANDOM.normal(size=(24, 1)).astype("float32")
QUANTITIES = ("gradient_norm", "update_ratio")


class Own(keras.Model):
    """A model whose train step applies the gradients as one of `STEPS` does."""

    def __init__(self, apply=None):
        super().__init__(name="own")
        self.out = keras.layers.Dense(1, name="out", kernel_initializer="ones")
        self.apply = apply
        self.own = keras.optimizers.SGD(0.1)
        self(X[:1])

    def call(self, x):
        return self.out(x)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        variables = self.trainable_variables
        self.apply(self, tape.gradient(loss, variables), variables)
        return {"loss": loss}


def plainly(model, gradients, variables):
    model.optimizer.apply(gradients, variables)


def in_a_branch(model, gradients, variables):
    def update():
        model.optimizer.apply(gradients, variables)
        return True

    tf.cond(tf.norm(gradients[0]) < 1e9, update, lambda: False)


def by_an_own_optimizer(model, gradients, variables):
    model.own.apply(gradients, variables)


class Compiled(Own):
    @tf.function
    def train_step(self, data):
        return super().train_step(data)


def recorded(model, optimizer="sgd", **arguments):
    model.compile(optimizer)
    logger = GradientNormLogger(**arguments)
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[logger])
    return logger.record


@pytest.mark.parametrize(
    ("make", "apply", "kind"),
    [
        (Own, in_a_branch, "raw"),
        (Own, in_a_branch, "applied"),
        (Compiled, plainly, "applied"),
        (Compiled, in_a_branch, "applied"),
    ],
)
def test_updates_within_a_branch_or_a_function_are_recorded(make, apply, kind):
    expected = recorded(Own(plainly), also="update_ratio")
    record = recorded(make(apply), also="update_ratio", kind=kind)
    for quantity in QUANTITIES:
        np.testing.assert_allclose(record[quantity], expected[quantity], rtol=1e-5)
        assert (record[quantity] > 0).all()


def test_a_gradient_that_cannot_leave_a_function_is_explained_and_nothing_was_trained():
    model = Compiled(plainly)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r'gradient of own/out/kernel .*Use kind="applied", or'):
        recorded(model)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert recorded(model, kind="applied").norms.shape == (3, 1)


def test_within_a_function_it_is_not_known_whether_the_gradient_was_clipped():
    optimizer = keras.optimizers.SGD(0.1, clipnorm=0.01)
    record = recorded(Compiled(plainly), optimizer, kind="applied")
    assert np.isnan(record.total("gradient_clipped")).all()
    # Of the kernel and of the bias, each clipped by itself.
    np.testing.assert_allclose(record.global_norms, 0.01 * np.sqrt(2), rtol=1e-5)


def test_a_variable_outside_the_model_is_no_part_of_an_applied_norm():
    outside = keras.Variable(1.0, name="outside")

    def apply(model, gradients, variables):
        model.optimizer.apply([*gradients, tf.constant(5.0)], [*variables, outside])

    with pytest.warns(UserWarning, match="outside.* not among the trainable variables of own"):
        record = recorded(Own(apply), kind="applied")
    np.testing.assert_allclose(record.global_norms, recorded(Own(plainly)).global_norms, rtol=1e-5)


@pytest.mark.parametrize("compiled", [None, "rmsprop"])
def test_steps_are_counted_by_the_optimizer_that_makes_the_updates(compiled):
    model = Own(by_an_own_optimizer)
    model.own.build(model.trainable_variables)
    model.own.iterations.assign(7)
    model.compile(optimizer=compiled)
    logger = GradientNormLogger()
    alerts = GradientAlerts(logger)
    for first in (7, 10):
        model.fit(X, Y, batch_size=8, verbose=0, callbacks=[logger, alerts])
        np.testing.assert_array_equal(logger.steps, first + np.arange(3))
    assert np.isfinite(logger.norms).all() and not alerts.alerts


def plain_model(**arguments):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="out")])
    model.compile(keras.optimizers.SGD(0.01, **arguments), "mse")
    return model


def test_a_train_function_that_is_made_anew_during_the_fit_is_explained():
    class MakesAnother(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.make_train_function(force=True)

    model, logger = plain_model(), GradientNormLogger()
    with pytest.raises(ValueError, match="another train function during the fit"):
        model.fit(X, Y, epochs=3, batch_size=8, verbose=0, callbacks=[MakesAnother(), logger])
    assert len(logger.steps) == 3
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[logger])
    np.testing.assert_array_equal(logger.steps, [3, 4, 5])


@pytest.mark.parametrize("accumulation", [None, 2])
def test_applied_gradients_of_nan_are_reported_and_steps_without_an_update_are_not(accumulation):
    model, logger = (
        plain_model(gradient_accumulation_steps=accumulation),
        GradientNormLogger(kind="applied"),
    )
    alerts = GradientAlerts(logger, action=lambda alert: None)
    x = X.copy()
    arguments = {"batch_size": 4, "shuffle": False, "verbose": 0, "callbacks": [logger, alerts]}
    history = model.fit(x, Y, **arguments).history
    assert history["gradient_norm/nonfinite_steps"] == [0]
    assert logger.record.nonfinite == {} and not alerts.alerts
    x[-1] = np.nan
    history = model.fit(x, Y, **arguments).history
    # The last step is one with an update, and the weights are NaN after it.
    assert history["gradient_norm/nonfinite_steps"] == [1]
    assert logger.record.nonfinite == {11: "out"}
    assert [(alert.kind, alert.step) for alert in alerts.alerts] == [("nonfinite", 11)]


def test_an_applied_gradient_of_nan_on_two_replicas_is_reported(two_replicas):
    with two_replicas.scope():
        model = plain_model()
    logger = GradientNormLogger()
    alerts = GradientAlerts(logger, action=lambda alert: None)
    model.fit(X * np.nan, Y, batch_size=24, verbose=0, callbacks=[logger, alerts])
    assert logger.kind == "applied"
    assert [(alert.kind, alert.step) for alert in alerts.alerts] == [("nonfinite", 0)]
