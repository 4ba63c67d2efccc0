"""`LayerRates` against an optimizer of its own for each layer, in every mode of training."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import conversion, diagnosis
from keras_surrogate.callbacks import GradientAlerts, GradientNormLogger
from keras_surrogate.optimizers import Bop, LayerRates

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(32, 6)).astype("float32")
Y = RANDOM.normal(size=(32, 2)).astype("float32")
RATES = {"first": 0.25, "second": 0.0, "third": 3.0}


def make_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, "tanh", name="first"),
            keras.layers.Dense(4, "tanh", name="second"),
            keras.layers.Dense(2, name="third"),
        ]
    )


def fitted(optimizer, epochs=2, model=None, callbacks=(), **arguments):
    model = model or make_model()
    model.compile(optimizer, "mse", **arguments)
    model.fit(
        X, Y, batch_size=8, shuffle=False, epochs=epochs, verbose=0, callbacks=list(callbacks)
    )
    return model


def by_hand(make, rates=RATES, epochs=2):
    """The same training with a tape and one optimizer for each layer, with its own rate.

    A layer whose rate is 0 is left out.
    """
    model = make_model()
    layers = [layer for layer in model.layers if rates[layer.name]]
    optimizers = [make(rates[layer.name]) for layer in layers]
    for start in [*range(0, len(X), 8)] * epochs:
        x, y = X[start : start + 8], Y[start : start + 8]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
        weights = [[one.value for one in layer.trainable_variables] for layer in layers]
        for layer, optimizer, found in zip(
            layers, optimizers, tape.gradient(loss, weights), strict=True
        ):
            optimizer.apply(found, layer.trainable_variables)
    for layer, optimizer in zip(layers, optimizers, strict=True):
        optimizer.finalize_variable_values(layer.trainable_variables)
    return model


def assert_alike(model, other, tolerance=1e-5):
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance / 10)


MAKERS = {
    "sgd": lambda factor: keras.optimizers.SGD(0.1 * factor),
    "momentum": lambda factor: keras.optimizers.SGD(0.05 * factor, 0.9, nesterov=True),
    "adam": lambda factor: keras.optimizers.Adam(0.01 * factor),
    "decay": lambda factor: keras.optimizers.AdamW(0.01 * factor, weight_decay=0.5),
    "clipnorm": lambda factor: keras.optimizers.SGD(0.1 * factor, clipnorm=0.1),
    "clipvalue": lambda factor: keras.optimizers.SGD(0.1 * factor, clipvalue=0.01),
    "ema": lambda factor: keras.optimizers.Adam(
        0.01 * factor, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3
    ),
    "accumulation": lambda factor: keras.optimizers.AdamW(
        0.01 * factor, weight_decay=0.5, gradient_accumulation_steps=2
    ),
    "scale": lambda factor: keras.optimizers.SGD(0.1 * factor, loss_scale_factor=None),
    "schedule": lambda factor: keras.optimizers.SGD(
        keras.optimizers.schedules.ExponentialDecay(0.1 * factor, 1, 0.9)
    ),
    "rmsprop": lambda factor: keras.optimizers.RMSprop(0.01 * factor, momentum=0.5),
    "lion": lambda factor: keras.optimizers.Lion(0.01 * factor),
    "adagrad": lambda factor: keras.optimizers.Adagrad(0.1 * factor),
}


@pytest.mark.parametrize("name", MAKERS)
def test_each_layer_has_its_rate(name):
    assert_alike(fitted(LayerRates(MAKERS[name](1.0), RATES)), by_hand(MAKERS[name]))


@pytest.mark.parametrize(
    "arguments",
    [{"run_eagerly": True}, {"jit_compile": True}, {"steps_per_execution": 2}],
    ids=str,
)
def test_in_every_mode(arguments):
    make = MAKERS["decay"]
    assert_alike(fitted(LayerRates(make(1.0), RATES), **arguments), by_hand(make))


def test_the_check_can_fail():
    make = MAKERS["decay"]
    model = fitted(LayerRates(make(1.0), {**RATES, "first": 0.3}))
    with pytest.raises(AssertionError):
        assert_alike(model, by_hand(make))


def test_weights_that_are_excluded_from_decay_stay_so():
    def make(factor):
        optimizer = MAKERS["decay"](factor)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        return optimizer

    assert_alike(fitted(LayerRates(make(1.0), RATES)), by_hand(make))


def test_a_global_norm_is_that_of_the_trained_layers():
    model = make_model()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(X) - Y))
    weights = model.trainable_variables
    gradients = tape.gradient(loss, [one.value for one in weights])
    trained = [gradient for place, gradient in enumerate(gradients) if place not in (2, 3)]
    factor = 0.01 / float(tf.linalg.global_norm(trained))
    rates = [0.25, 0.25, 0, 0, 3, 3]
    expected = [
        one.numpy() - 0.1 * rate * factor * gradient.numpy()
        for one, rate, gradient in zip(weights, rates, gradients, strict=True)
    ]
    optimizer = LayerRates(keras.optimizers.SGD(0.1, global_clipnorm=0.01), RATES)
    model.compile(optimizer, "mse")
    model.train_on_batch(X, Y)
    for one, other in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("own", [False, True])
def test_with_loss_scaling(own):
    """The scale by Keras, for float16, and the plain `loss_scale_factor`."""
    if own:
        inner = keras.optimizers.SGD(0.1, loss_scale_factor=64.0)
        model = fitted(LayerRates(inner, RATES))
        assert_alike(model, by_hand(MAKERS["sgd"]))
        return
    outer = keras.optimizers.LossScaleOptimizer(LayerRates(keras.optimizers.SGD(0.1), RATES))
    assert_alike(fitted(outer), by_hand(MAKERS["sgd"]))
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = make_model()
    finally:
        keras.config.set_dtype_policy("float32")
    start = model.get_weights()
    fitted(LayerRates("adam", RATES), model=model)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    changed = [(one != two).any() for one, two in zip(start, model.get_weights(), strict=True)]
    assert changed == [True, True, False, False, True, True]


def test_on_two_replicas(two_replicas):
    with two_replicas.scope():
        mirrored = make_model()
        optimizer = LayerRates(MAKERS["decay"](1.0), RATES)
    fitted(optimizer, model=mirrored)
    assert_alike(mirrored, by_hand(MAKERS["decay"]), 1e-4)


def test_a_rate_of_0_is_not_trainable():
    frozen = make_model()
    frozen.layers[1].trainable = False
    inner = keras.optimizers.AdamW(0.01, weight_decay=0.5, global_clipnorm=0.1)
    fitted(keras.optimizers.AdamW.from_config(inner.get_config()), model=frozen)
    assert_alike(fitted(LayerRates(inner, {"second": 0})), frozen, 1e-6)


@pytest.mark.parametrize("rates", [RATES, 0.5, {0: 2, -1: 0.5}], ids=str)
@pytest.mark.parametrize("name", ["adam", "accumulation", "ema"])
def test_training_goes_on_after_loading(name, rates, tmp_path):
    make = MAKERS[name]
    half = fitted(LayerRates(make(1.0), rates))
    half.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, LayerRates)
    assert loaded.optimizer.rates == rates
    assert loaded.optimizer.get_config() == half.optimizer.get_config()
    for model in (half, loaded):
        model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    assert_alike(loaded, half, 1e-6)


def test_a_copy_has_its_own_state():
    optimizer = LayerRates(keras.optimizers.SGD(0.1), RATES)
    fitted(optimizer)
    clone = LayerRates.from_config(optimizer.get_config())
    assert_alike(fitted(clone), by_hand(MAKERS["sgd"]))
    with pytest.raises(ValueError, match="already is within another LayerRates"):
        LayerRates(optimizer.inner_optimizer, RATES)
    assert_alike(fitted(copy.deepcopy(LayerRates("sgd", RATES))), fitted(LayerRates("sgd", RATES)))


def test_a_checkpoint(tmp_path):
    model = fitted(LayerRates("adam", RATES))
    path = tf.train.Checkpoint(optimizer=model.optimizer).save(tmp_path / "checkpoint")
    other = fitted(LayerRates("adam", RATES), epochs=1)
    tf.train.Checkpoint(optimizer=other.optimizer).restore(path).expect_partial()
    for one, two in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, two)


def test_schedules_and_callbacks_act_on_the_inner_optimizer():
    optimizer = LayerRates(keras.optimizers.SGD(0.1), RATES)
    fitted(optimizer, callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch: 0.5)])
    assert float(optimizer.learning_rate) == float(optimizer.inner_optimizer.learning_rate) == 0.5
    assert int(optimizer.iterations) == 8


def nested():
    keras.utils.set_random_seed(0)
    inner = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5, name="one"), keras.layers.Dense(5, name="two")],
        name="encoder",
    )
    inputs = keras.Input((6,))
    x = keras.layers.LayerNormalization(name="norm")(inner(inputs))
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(x))


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"encoder": 0.5}, [0.5] * 4 + [1] * 4),
        ({"encoder/two": 0.5}, [1, 1, 0.5, 0.5] + [1] * 4),
        ({"*/bias": 0}, [1, 0, 1, 0, 1, 1, 1, 0]),
        ({"*": 2, "head": 0}, [2] * 6 + [0, 0]),
        ({"head": 0, "*": 2}, [2] * 8),
        ({"one": 0.1, "norm/gamma": 3.0}, [0.1, 0.1, 1, 1, 3, 1, 1, 1]),
        ({0: 0.5, -1: 4}, [0.5, 0.5, 1, 1, 1, 1, 4, 4]),
        (0.5, [0.125, 0.125, 0.25, 0.25, 0.5, 0.5, 1, 1]),
    ],
    ids=str,
)
def test_names_patterns_and_places(rates, expected):
    model = nested()
    optimizer = LayerRates("sgd", rates)
    optimizer.build(model.trainable_variables)
    assert [optimizer.factor(one) for one in model.trainable_variables] == expected


@pytest.mark.parametrize("outer", [lambda one: one, keras.optimizers.LossScaleOptimizer])
@pytest.mark.parametrize("kind", ["raw", "applied"])
def test_the_logger_sees_gradients_unscaled_and_updates_scaled(kind, outer):
    logger = GradientNormLogger(kind=kind, also="update_ratio")
    plain = GradientNormLogger(kind=kind, also="update_ratio")
    # The first step only: later ones begin from other weights.
    rates = {"first": 0.25, "second": 0.0}
    for callback, optimizer in (
        (logger, outer(LayerRates(keras.optimizers.SGD(0.1), rates))),
        (plain, keras.optimizers.SGD(0.1)),
    ):
        model = make_model()
        model.compile(optimizer, "mse")
        model.fit(X[:8], Y[:8], batch_size=8, verbose=0, callbacks=[callback])
    # Nothing is known of a gradient that is not applied.
    norms = [1, np.nan, 1] if kind == "applied" else [1, 1, 1]
    np.testing.assert_allclose(logger.norms[0], plain.norms[0] * norms, rtol=1e-5)
    ratios = [record["update_ratio"][0][-3:] for record in (logger.record, plain.record)]
    np.testing.assert_allclose(ratios[0], ratios[1] * [0.25, 0, 1], rtol=1e-4)


def test_the_logger_sees_clipping_and_steps():
    inner = keras.optimizers.SGD(0.1, clipnorm=1e-6, gradient_accumulation_steps=2)
    logger = GradientNormLogger(kind="applied")
    fitted(LayerRates(inner, RATES), callbacks=[logger])
    assert "gradient_clipped" in logger.record.quantities
    assert list(logger.steps) == list(range(8))


def test_diagnose_tells_the_update_with_the_rate():
    model, plain = make_model(), make_model()
    plain.compile(keras.optimizers.AdamW(0.01, weight_decay=0.5), "mse")
    inner = keras.optimizers.AdamW(0.01, weight_decay=0.5)
    model.compile(LayerRates(inner, RATES), "mse")
    rows = [diagnosis.diagnose(one, X, Y).rows for one in (model, plain)]
    ratios = [one.update_ratio / other.update_ratio for one, other in zip(*rows, strict=True)]
    np.testing.assert_allclose(ratios, [0.25, 0, 3], rtol=1e-4)
    assert not inner.built


def test_around_bop():
    from keras_surrogate.layers import SurrogateWeights

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), SurrogateWeights(keras.layers.Dense(2, name="only"), "ste_sign")]
    )
    start = model.get_weights()
    fitted(LayerRates(Bop(1e-3, 0.5, "sgd"), {"*/bias": 0}), model=model)
    assert (np.sign(model.get_weights()[0]) != np.sign(start[0])).any()
    np.testing.assert_array_equal(model.get_weights()[1], start[1])


@pytest.mark.parametrize("outer", [lambda one: one, keras.optimizers.LossScaleOptimizer])
def test_strip_keeps_the_optimizer_within(outer):
    model = fitted(outer(LayerRates("adam", RATES)))
    inner = model.optimizer.inner_optimizer
    plain = conversion.strip(model).optimizer
    if isinstance(plain, keras.optimizers.LossScaleOptimizer):
        inner, plain = inner.inner_optimizer, plain.inner_optimizer
    assert type(plain) is keras.optimizers.Adam
    for one, other in zip(inner.variables, plain.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    same = conversion.swap(model, {"tanh": "softsign"})
    assert same.optimizer.get_config() == model.optimizer.get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LayerRates("adam", {"first": -1.0}), r"rates\['first'\] must be .*is -1.0"),
        (lambda: LayerRates("adam", {"first": float("nan")}), "must be a finite number"),
        (lambda: LayerRates("adam", {"first": "big"}), "must be a finite number"),
        (lambda: LayerRates("adam", {}), "rates is empty"),
        (lambda: LayerRates("adam", {1.5: 1.0}), "a key of rates must be"),
        (lambda: LayerRates("adam", 0.0), "a dictionary or a positive number"),
        (lambda: LayerRates("adam", ["first"]), "a dictionary or a positive number"),
        (lambda: LayerRates("adamm", RATES), "adamm"),
        (lambda: LayerRates(tf.constant(1.0), RATES), "must be a Keras optimizer"),
        (
            lambda: LayerRates(keras.optimizers.LossScaleOptimizer(Bop()), RATES),
            "put the loss scaling outside",
        ),
        (lambda: fitted(LayerRates("sgd", {"frist": 1.0})), "fits 'frist'. Did you mean .*first"),
        (lambda: fitted(LayerRates("sgd", {3: 1.0})), "there is no layer 3: .* 0 to 2"),
        (lambda: fitted(LayerRates("sgd", {"*": 0.0})), "nothing is trained"),
    ],
)
def test_mistakes_are_explained(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize("kind", ["raw", "applied"])
def test_clipping_does_not_see_layers_that_are_left_out(kind):
    def fitted_logger(threshold):
        logger = GradientNormLogger(kind=kind)
        inner = keras.optimizers.SGD(0.0, global_clipnorm=float(threshold))
        fitted(LayerRates(inner, {"third": 0}), epochs=1, callbacks=[logger])
        return logger

    norms = fitted_logger(1e9).norms
    trained = np.sqrt(np.sum(norms[0, :2] ** 2))
    everything = np.sqrt(np.nansum(fitted_logger(1e9).norms[0] ** 2))
    assert kind == "applied" or everything > trained * 1.01
    assert fitted_logger(trained * 1.005).record.total("gradient_clipped")[0] == 0
    assert fitted_logger(trained * 0.995).record.total("gradient_clipped")[0] == 1


def test_applied_gradients_of_a_layer_that_is_left_out_are_unknown_and_no_fault():
    logger = GradientNormLogger(kind="applied")
    alerts = GradientAlerts(logger, patience=2, action=lambda alert: None)
    fitted(LayerRates("adam", {"first": 0}), callbacks=[logger, alerts])
    assert np.isnan(logger.norms[:, 0]).all()
    np.testing.assert_allclose(
        logger.global_norms, np.sqrt(np.sum(logger.norms[:, 1:] ** 2, axis=1)), rtol=1e-6
    )
    assert not logger.record.updates_nothing.any()
    assert alerts.alerts == []


@pytest.mark.skipif(not hasattr(keras.optimizers, "Muon"), reason="this Keras has no Muon")
def test_the_decay_of_muon_for_the_weights_that_adam_trains():
    def make(rate):
        return keras.optimizers.Muon(rate, weight_decay=None, adam_weight_decay=1.0)

    models = []
    for optimizer in (LayerRates(make(0.1), {"*": 0.5}), make(0.05)):
        model = make_model()
        for layer in model.layers:
            layer.bias.assign(np.ones(layer.bias.shape))
        models.append(fitted(optimizer, model=model))
    assert_alike(*models)
