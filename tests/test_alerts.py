"""Alerts name the right fault, step and layer, and there are no others."""

import warnings

import keras
import numpy as np
import pytest

import keras_surrogate as ks
from keras_surrogate.callbacks import GradientAlerts, GradientNormLogger, GradientTable

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(200, 8)).astype("float32")
Y = RANDOM.integers(0, 3, 200)
STEPS = 20  # an epoch


def fitted(depth, activation, learning_rate=0.05, also=(), optimizer=None, epochs=2, **arguments):
    keras.utils.set_random_seed(0)
    layer_arguments = {
        key: arguments.pop(key)
        for key in ("kernel_initializer", "bias_initializer")
        if key in arguments
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
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3)]
    )
    logger = GradientNormLogger(also="activations")
    alerts = GradientAlerts(logger)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[logger, alerts][::order])
    assert alerts.alerts == []


def test_vanishing_is_seen_after_patience_and_told_once():
    alerts, _, logger = fitted(8, "sigmoid", patience=7)
    assert [(alert.kind, alert.step, alert.epoch, alert.layer) for alert in alerts] == [
        ("vanishing", 6, 0, "dense")
    ]
    assert alerts[0].value == pytest.approx(logger.norms[6, 0] / logger.norms[6, -1])
    assert "first layer, dense, is" in alerts[0].message
    assert (
        "that of the last layer, dense_8; the ratio has been below 0.001 for 7 recorded steps"
        in alerts[0].message
    )


@pytest.mark.parametrize("kind", ["raw", "applied"])
def test_vanishing_with_accumulated_gradients(kind):
    """Every second step makes no update, and says nothing about the others."""
    hidden = [keras.layers.Dense(16, "sigmoid") for _ in range(8)]
    model = keras.Sequential([keras.Input((8,)), *hidden, keras.layers.Dense(3)])
    logger = GradientNormLogger(kind=kind)
    alerts = GradientAlerts(logger, patience=3, action=lambda alert: None)
    optimizer = keras.optimizers.SGD(0.01, gradient_accumulation_steps=2)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, Y, batch_size=10, verbose=0, callbacks=[logger, alerts])
    step = 2 if kind == "raw" else 5
    assert [(alert.kind, alert.step) for alert in alerts.alerts] == [("vanishing", step)]
    nothing = np.isnan(logger.record.global_norms)
    np.testing.assert_array_equal(logger.record.updates_nothing, nothing)
    assert nothing.any() == (kind == "applied")


def test_patience_is_for_steps_in_a_row():
    logger = GradientNormLogger()
    alerts, model = (
        GradientAlerts(logger, patience=3, action=lambda alert: None),
        keras.Sequential(),
    )
    model.compile("sgd")
    for callback in (logger, alerts):
        callback.set_model(model)
    columns = ["gradient_norm/global", "gradient_norm/a", "gradient_norm/b"]
    ratios = np.array([1e-9, 1e-9, 1.0, 1e-9, 1e-9, 1e-9, 1e-9, 1.0, 1e-9, 1e-9, 1e-9])
    rows = np.stack([np.ones_like(ratios), ratios, np.ones_like(ratios)], axis=1)
    for part in (slice(0, 5), slice(5, None)):
        alerts.write(
            columns, np.arange(len(ratios))[part], np.zeros(len(ratios), int)[part], rows[part]
        )
    assert [alert.step for alert in alerts.alerts] == [5, 10]


def test_vanishing_can_be_left_out_and_its_threshold_moved():
    assert fitted(8, "sigmoid", vanishing=None)[0] == []
    assert fitted(8, "sigmoid", vanishing=1e-12)[0] == []


def test_exploding_and_stopping():
    with pytest.warns(
        UserWarning,
        match=r"Gradients explode: .* at the start of this fit; the largest part is in dense",
    ):
        alerts, history, logger = diverging(1.0, action="stop")
    assert {alert.kind for alert in alerts} == {"exploding"}
    norms = logger.global_norms
    above = np.flatnonzero(norms > 100 * np.median(norms[:3]))
    assert alerts[0].step == above[0] + 2
    assert alerts[0].value == pytest.approx(norms[alerts[0].step] / np.median(norms[:3]))
    assert len(history.epoch) < 20


def diverging(scale, learning_rate=1.5, **arguments):
    """Least squares with too large a learning rate: the gradient grows by a factor in each step."""
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    logger = GradientNormLogger()
    alerts = GradientAlerts(
        logger, exploding=100, patience=3, loss=False, **{"action": lambda alert: None, **arguments}
    )
    history = model.fit(
        X, scale * X[:, 0], batch_size=200, epochs=20, verbose=0, callbacks=[logger, alerts]
    )
    return alerts.alerts, history, logger


@pytest.mark.parametrize("scale", [1e-6, pytest.param(1.0, marks=pytest.mark.slow), 1e6])
def test_exploding_does_not_depend_on_the_scale_of_the_loss(scale):
    assert [alert.kind for alert in diverging(scale)[0]] == ["exploding"]
    assert diverging(scale, learning_rate=1e-3)[0] == []


def test_a_gradient_that_explodes_from_layer_to_layer_is_seen_from_the_start():
    steep = ks.Surrogate("tanh", scale=8.0)
    alerts, _, logger = fitted(6, steep, 1e-9, patience=3)
    assert [(alert.kind, alert.step, alert.layer) for alert in alerts] == [
        ("exploding", 2, "dense")
    ]
    assert alerts[0].value == pytest.approx(logger.norms[2, 0] / logger.norms[2, -1])
    assert fitted(6, steep, 1e-9, patience=3, exploding=None)[0] == []


def test_a_gradient_that_is_not_finite_is_told_at_once_with_the_first_layer_of_the_backward_pass():
    alerts, _, logger = fitted(3, "relu", 1e8, vanishing=None, exploding=None)
    first = np.flatnonzero(~np.isfinite(logger.global_norms))[0]
    assert [(alert.kind, alert.step, alert.layer) for alert in alerts] == [
        ("nonfinite", first, "dense_3")
    ]


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
    alerts, _, _ = fitted(
        2, "relu", also="activations", vanishing=None, zero=False, bias_initializer=low
    )
    assert [(alert.kind, alert.step, alert.layer) for alert in alerts] == [
        ("dead", STEPS - 1, "dense"),
        ("dead", STEPS - 1, "dense_1"),
    ]
    assert alerts[0].message.startswith(
        "Units are dead: 100% of the units of dense were 0 during the whole epoch "
        "(step 19, epoch 0). Lower the learning rate"
    )
    settings = {"vanishing": None, "dead": None, "zero": False}
    assert fitted(2, "relu", also="activations", bias_initializer=low, **settings)[0] == []


def test_layers_that_no_gradient_reaches_are_named_with_common_causes():
    alerts, _, logger = fitted(3, ks.get("round"), patience=4, vanishing=None)
    assert [(alert.kind, alert.step, alert.layer, alert.value) for alert in alerts] == [
        ("zero", 3, "dense", 0.0)
    ]
    assert (
        "the gradients of dense, dense_1, dense_2 have been 0 for 4 recorded steps (step 3"
        in alerts[0].message
    )
    assert "an operation whose derivative is zero" in alerts[0].message
    assert (logger.norms[:, :3] == 0).all() and (logger.norms[:, 3] > 0).all()


def test_a_new_fit_starts_anew():
    logger = GradientNormLogger()
    alerts = GradientAlerts(logger, patience=5, action=lambda alert: None)
    hidden = [keras.layers.Dense(16, "sigmoid") for _ in range(8)]
    model = keras.Sequential([keras.Input((8,)), *hidden, keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for first in (0, STEPS):
        model.fit(X, Y, batch_size=10, verbose=0, callbacks=[logger, alerts])
        assert [alert.step for alert in alerts.alerts] == [first + 4]


@pytest.mark.parametrize("fails", [False, True])
def test_alerts_of_an_earlier_fit_are_gone(fails):
    hidden = [keras.layers.Dense(16, "sigmoid") for _ in range(8)]
    model = keras.Sequential([keras.Input((8,)), *hidden, keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    logger = GradientNormLogger()
    earlier = GradientAlerts(logger, patience=25, action="stop")

    def fail(epoch, logs):
        if fails:
            raise RuntimeError

    try:
        failing = keras.callbacks.LambdaCallback(on_epoch_end=fail)
        model.fit(X, Y, batch_size=10, verbose=0, callbacks=[logger, earlier, failing])
    except RuntimeError:
        pass
    history = model.fit(X, Y, batch_size=10, verbose=0, epochs=5, callbacks=[logger])
    assert history.epoch == [0, 1, 2, 3, 4]
    assert earlier.alerts == []


def test_many_alerts_one_after_the_other_leave_nothing_behind():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    logger = GradientNormLogger()
    told = []
    for _ in range(5):
        alerts = GradientAlerts(
            logger, vanishing=None, zero=False, exploding=None, action=told.append
        )
        model.fit(X, Y, batch_size=100, verbose=0, callbacks=[logger, alerts])
        assert not logger._listeners
    assert told == []


def test_a_model_without_trainable_weights_trains_on_as_with_keras_alone():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, trainable=False)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    logger = GradientNormLogger()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Keras's own, and the logger's that there are no gradients.
        history = model.fit(
            X, Y, verbose=0, callbacks=[logger, GradientAlerts(logger, action="stop")]
        )
    assert len(history.history["loss"]) == 1


@pytest.mark.parametrize("callback", [GradientAlerts, GradientTable])
@pytest.mark.parametrize("logger", [None, "model"])
def test_what_is_no_logger_is_an_error_that_says_what_to_write(callback, logger):
    logger = (
        keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        if logger == "model"
        else logger
    )
    with pytest.raises(
        TypeError,
        match=rf"{callback.__name__} needs a GradientNormLogger, but got .*callbacks=\[",
    ):
        callback(logger)


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


@pytest.mark.parametrize("every", [1, 15])
def test_faults_of_weights_last_over_epochs_without_a_recorded_step(every):
    model = keras.Sequential(
        [
            keras.Input((8,)),
            ks.layers.SurrogateWeights(keras.layers.Dense(3, name="binary"), "ste_sign"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(1e-9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    logger = GradientNormLogger(every=every, also=("flips", "levels"))
    alerts = GradientAlerts(logger, action=lambda alert: None, loss=False)
    # Ten steps an epoch.
    model.fit(X, Y, batch_size=20, epochs=7, verbose=0, callbacks=[logger, alerts])
    assert [(alert.kind, alert.epoch) for alert in alerts.alerts] == [("frozen", 0)]
