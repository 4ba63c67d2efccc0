"""Alerts come for what they are about, at the step and with the layer they name, and for nothing else."""

import keras
import numpy as np
import pytest

from keras_surrogate.callbacks import GradientAlerts, GradientNormLogger

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(200, 8)).astype("float32")
Y = RANDOM.integers(0, 3, 200)
STEPS = 20  # an epoch


def fitted(depth, activation, learning_rate=0.05, also=(), optimizer=None, epochs=2, **arguments):
    keras.utils.set_random_seed(0)
    layer_arguments = {
        key: arguments.pop(key) for key in ("kernel_initializer", "bias_initializer") if key in arguments
    }
    hidden = [keras.layers.Dense(16, activation, **layer_arguments) for _ in range(depth)]
    model = keras.Sequential([keras.Input((8,)), *hidden, keras.layers.Dense(3)])
    logger = GradientNormLogger(also=also)
    alerts = GradientAlerts(logger, **{"action": lambda alert: None, **arguments})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(learning_rate), loss)
    history = model.fit(X, Y, batch_size=10, epochs=epochs, verbose=0, callbacks=[logger, alerts])
    return alerts.alerts, history, logger


@pytest.mark.parametrize("order", [1, -1])
def test_a_healthy_network_raises_none(order):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3)])
    logger = GradientNormLogger(also="activations")
    alerts = GradientAlerts(logger)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[logger, alerts][::order])
    assert alerts.alerts == []


def test_vanishing_is_seen_after_patience_and_told_once():
    alerts, _, logger = fitted(8, "sigmoid", patience=7)
    assert [(alert.kind, alert.step, alert.epoch, alert.layer) for alert in alerts] == [("vanishing", 6, 0, "dense")]
    assert alerts[0].value == pytest.approx(logger.norms[6, 0] / logger.norms[6, -1])
    assert "first layer, dense, is" in alerts[0].message
    assert "that of the last, dense_8, and has been below 0.001 times it for 7 recorded steps" in alerts[0].message


def test_patience_is_for_steps_in_a_row():
    logger = GradientNormLogger()
    alerts, model = GradientAlerts(logger, patience=3, action=lambda alert: None), keras.Sequential()
    model.compile("sgd")
    for callback in (logger, alerts):
        callback.set_model(model)
    columns = ["gradient_norm/global", "gradient_norm/a", "gradient_norm/b"]
    ratios = np.array([1e-9, 1e-9, 1.0, 1e-9, 1e-9, 1e-9, 1e-9, 1.0, 1e-9, 1e-9, 1e-9])
    rows = np.stack([np.ones_like(ratios), ratios, np.ones_like(ratios)], axis=1)
    for part in (slice(0, 5), slice(5, None)):
        alerts.write(columns, np.arange(len(ratios))[part], np.zeros(len(ratios), int)[part], rows[part])
    assert [alert.step for alert in alerts.alerts] == [5, 10]


def test_vanishing_can_be_left_out_and_its_threshold_moved():
    assert fitted(8, "sigmoid", vanishing=None)[0] == []
    assert fitted(8, "sigmoid", vanishing=1e-12)[0] == []


def test_exploding_and_stopping():
    large = keras.initializers.RandomNormal(stddev=3.0)
    with pytest.warns(UserWarning, match=r"Gradients explode: the gradient norm is .* most of it in dense"):
        alerts, history, _ = fitted(
            6, "relu", 1e-12, epochs=3, exploding=10.0, patience=3, action="stop", kernel_initializer=large
        )
    assert [(alert.kind, alert.step) for alert in alerts] == [("exploding", 2)]
    assert history.epoch == [0]


def test_a_gradient_that_is_not_finite_is_told_at_once_with_the_first_layer_of_the_backward_pass():
    alerts, _, logger = fitted(3, "relu", 1e8, vanishing=None, exploding=None)
    first = np.flatnonzero(~np.isfinite(logger.global_norms))[0]
    assert [(alert.kind, alert.step, alert.layer) for alert in alerts] == [("nonfinite", first, "dense_3")]


def test_steps_that_loss_scaling_skips_are_told_only_if_they_last():
    def scaled(scale):
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), initial_scale=scale)

    def infinite(scale, **arguments):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            return fitted(2, "relu", optimizer=scaled(scale), patience=10, **arguments)
        finally:
            keras.config.set_dtype_policy("float32")

    alerts, _, logger = infinite(2.0**18)
    assert 0 < len(logger.record.nonfinite) < 10
    assert alerts == []
    alerts, _, _ = infinite(2.0**30)
    assert [(alert.kind, alert.step) for alert in alerts] == [("nonfinite", 9)]


def test_dead_layers_are_named_at_the_end_of_the_epoch():
    low = keras.initializers.Constant(-50.0)
    alerts, _, _ = fitted(2, "relu", also="activations", vanishing=None, bias_initializer=low)
    assert [(alert.kind, alert.step, alert.layer) for alert in alerts] == [
        ("dead", STEPS - 1, "dense"),
        ("dead", STEPS - 1, "dense_1"),
    ]
    assert (
        alerts[0].message
        == "Units are dead: 100% of the units of dense were 0 all through the epoch (step 19, epoch 0)."
    )
    assert fitted(2, "relu", also="activations", vanishing=None, dead=None, bias_initializer=low)[0] == []


def test_a_new_fit_starts_anew():
    logger = GradientNormLogger()
    alerts = GradientAlerts(logger, patience=5, action=lambda alert: None)
    hidden = [keras.layers.Dense(16, "sigmoid") for _ in range(8)]
    model = keras.Sequential([keras.Input((8,)), *hidden, keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for _ in range(2):
        model.fit(X, Y, batch_size=10, verbose=0, callbacks=[logger, alerts])
        assert [alert.step for alert in alerts.alerts] == [4]


def test_a_logger_that_is_not_in_the_same_fit():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    logger = GradientNormLogger()
    with pytest.raises(ValueError, match="put its GradientNormLogger into the callbacks"):
        model.fit(X, Y, verbose=0, callbacks=[GradientAlerts(logger)])
    model.fit(X, Y, verbose=0, callbacks=[logger])
    with pytest.raises(ValueError, match="put its GradientNormLogger into the callbacks"):
        model.fit(X, Y, verbose=0, callbacks=[GradientAlerts(logger)])


def test_alerts_that_are_not_in_the_fit_of_their_logger_are_silent():
    logger = GradientNormLogger()
    alerts = GradientAlerts(logger, vanishing=1e9, patience=1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, Y, verbose=0, callbacks=[logger])
    assert alerts.alerts == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vanishing": -1e-3}, r"vanishing must be positive, but is -0\.001"),
        ({"exploding": 0}, "exploding must be positive, but is 0"),
        ({"exploding": "many"}, "exploding must be positive, but is 'many'"),
        ({"dead": 1.5}, r"dead must be above 0 and at most 1, but is 1\.5"),
        ({"patience": 0}, "patience must be an integer of at least 1, but is 0"),
        ({"action": "shout"}, 'action must be "warn", "stop" or a function, but is \'shout\''),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GradientAlerts(GradientNormLogger(), **arguments)
