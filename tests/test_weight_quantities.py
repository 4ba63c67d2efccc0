"""Flips and levels of replaced weights against NumPy, and the alerts about them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate.callbacks import GradientAlerts, GradientNormLogger
from keras_surrogate.layers import SurrogateWeights
from keras_surrogate.layers.weight_scales import SCALES

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 6)).astype("float32")
Y = RANDOM.normal(size=(40, 2)).astype("float32")


def ternary(x):
    return tf.clip_by_value(tf.round(x), -1, 1)


TERNARY = ks.Surrogate(ternary, "hard_tanh")


def make_model(scale):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6,)),
            SurrogateWeights(keras.layers.Dense(8, name="signs"), "ste_sign", scale=scale),
            keras.layers.Dense(5, "relu", name="plain"),
            SurrogateWeights(keras.layers.Dense(2, name="three"), TERNARY, scale=scale),
        ]
    )


def levels_of(model):
    """The levels of the kernels of both layers, in NumPy."""
    found = []
    for layer in (model.layers[0], model.layers[2]):
        w = layer.layer.kernel.numpy()
        if layer.scale == "max_abs":
            w = w / np.abs(w).max(axis=0)
        if layer.scale == "least_error" and layer.name == "three":
            # Levels of -1, 0 and 1, from 0.5 on: Max's step for them is 1.224 deviations, and a
            # deviation of normal numbers is 1.2533 times their mean size.
            w = w / np.minimum(np.abs(w).max(axis=0), 1.53409 * np.abs(w).mean(axis=0))
        if layer.scale == "learned":
            w = w / layer.own_weights[0].numpy()
        found.append(
            np.where(w >= 0, 1, -1) if layer.name == "signs" else np.clip(np.round(w), -1, 1)
        )
    return found


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("arguments", [{"jit_compile": True}, {"jit_compile": False}], ids=str)
def test_against_numpy(scale, arguments):
    check(scale, arguments)


def check(scale, arguments, per="layer"):
    twin, model = make_model(scale), make_model(scale)
    logger = GradientNormLogger(also=("flips", "levels"), per=per)
    # Weights of size 1 make large gradients.
    rate = {None: 0.02, "max_abs": 0.05}.get(scale, 0.5)
    for one in (twin, model):
        one.compile(keras.optimizers.SGD(rate), "mse", **arguments)
    history = model.fit(
        X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[logger]
    ).history
    record = logger.record
    names = ("signs", "three") if per == "layer" else ("signs/signs/kernel", "three/three/kernel")
    assert record.names("flips") == record.names("largest_level") == names
    assert record.names("dead_kernels") == names[1:]

    for row, start in enumerate([*range(0, 40, 8)] * 2):
        before = levels_of(twin)
        twin.train_on_batch(X[start : start + 8], Y[start : start + 8])
        after = levels_of(twin)
        flips = [np.mean(one != other) for one, other in zip(before, after, strict=True)]
        np.testing.assert_allclose(record["flips"][row], flips, atol=1e-9)
        signs, three = after
        shares = [np.mean(signs == -1), np.mean(signs == 1)]
        for share, level in zip(shares, ("-1", "1"), strict=True):
            assert record[f"weight_level[{level}]"][row, 0] == pytest.approx(share)
        three_shares = [np.mean(three == level) for level in (-1, 0, 1)]
        assert record["weight_level[0]"][row, 0] == pytest.approx(three_shares[1])
        largest = [max(shares), max(three_shares)]
        np.testing.assert_allclose(record["largest_level"][row], largest)
        dead = np.mean((three == 0).all(axis=0))
        np.testing.assert_allclose(record["dead_kernels"][row], [dead])
    assert 0 < record["flips"].max() < 1
    np.testing.assert_allclose(
        history[f"flips/{names[0]}"], record["flips"][:, 0].reshape(2, -1).mean(1)
    )
    np.testing.assert_allclose(
        history[f"largest_level/{names[1]}"], record["largest_level"][4::5, 1]
    )


def test_by_variable():
    check("learned", {"jit_compile": False}, per="variable")


def test_models_without_replaced_weights_have_no_columns():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    logger = GradientNormLogger(also=("flips", "levels"))
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0, callbacks=[logger])
    assert logger.record.quantities == ("gradient_norm",)


def test_many_levels_have_no_column_each():
    fine = ks.Surrogate(lambda x: tf.clip_by_value(tf.round(9 * x), -9, 9) / 9, "linear")
    model = keras.Sequential(
        [keras.Input((6,)), SurrogateWeights(keras.layers.Dense(2), fine, scale="max_abs")]
    )
    logger = GradientNormLogger(also="levels")
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0, callbacks=[logger])
    assert logger.record.quantities == ("gradient_norm", "largest_level", "dead_kernels")


def test_flips_on_two_replicas(two_replicas):
    records = []
    for scope in (tf.distribute.get_strategy(), two_replicas):
        with scope.scope():
            model = make_model("learned")
            model.compile(keras.optimizers.SGD(0.5), "mse")
        logger = GradientNormLogger(also=("flips", "levels"))
        model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[logger])
        records.append(logger.record)
    for quantity in ("flips", "largest_level"):
        np.testing.assert_allclose(records[0][quantity], records[1][quantity], atol=1e-6)


def test_a_variable_of_a_layer_that_is_gone_is_not_replaced():
    from keras_surrogate.layers.weights import replacing

    dense = keras.layers.Dense(2)
    wrapper = SurrogateWeights(dense, "ste_sign")
    wrapper(X)
    assert replacing(dense.kernel) is wrapper
    assert replacing(dense.bias) is None


# ---------------------------------------------------------------------------------------- alerts


def alerts_of(learning_rate, start, epochs=2):
    keras.utils.set_random_seed(0)
    layer = SurrogateWeights(keras.layers.Dense(2, name="three"), TERNARY)
    model = keras.Sequential([keras.Input((6,)), layer])
    layer.layer.kernel.assign(start)
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    logger = GradientNormLogger(also=("flips", "levels"))
    alerts = GradientAlerts(logger, action=lambda alert: None, zero=False)
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=[logger, alerts])
    return alerts.alerts


SPREAD = np.linspace(-0.9, 0.9, 12).reshape(6, 2)


def test_healthy_weights_raise_no_alert():
    assert alerts_of(0.1, SPREAD) == []


def test_frozen_weights():
    (alert,) = alerts_of(1e-6, SPREAD)
    assert (alert.kind, alert.layer, alert.epoch, alert.step, alert.value) == (
        "frozen",
        "three",
        0,
        4,
        0,
    )
    assert "no weight of three changed its level" in alert.message


def test_one_level():
    found = alerts_of(1e-6, np.full((6, 2), 0.1))
    assert [alert.kind for alert in found] == ["frozen", "one_level"]
    assert "all weights of a kernel of three have one level" in found[1].message


def test_unstable_weights():
    """A gradient that reverses with the sign, and steps beyond the other side."""
    keras.utils.set_random_seed(0)
    layer = SurrogateWeights(
        keras.layers.Dense(1, use_bias=False, name="one"), ks.Surrogate("sign", "linear")
    )
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    logger = GradientNormLogger(also="flips")
    alerts = GradientAlerts(logger, action=lambda alert: None)
    layer.layer.kernel.assign([[0.5]])
    x = np.ones((8, 1))
    model.fit(x, 0 * x, batch_size=1, verbose=0, callbacks=[logger, alerts])
    (alert,) = [one for one in alerts.alerts if one.kind == "unstable"]
    assert alert.value == 1
    assert "100% or more of the weights of one" in alert.message
