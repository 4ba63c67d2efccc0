"""Presets: their pairs, their documentation, and `get`."""

import inspect
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import Surrogate, functions, presets
from keras_surrogate.functions.lookup import PAIRS
from keras_surrogate.layers import SurrogateActivation


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_is_documented_and_found_by_name(name):
    make = getattr(presets, name)
    assert ks.get(name) == make()
    assert re.search(r"Source: .*(19|20)\d\d", make.__doc__)
    for parameter in inspect.signature(make).parameters.values():
        assert re.search(rf"{parameter.name}: .*default", make.__doc__)
        assert str(parameter.default) in make.__doc__


def test_the_published_pairs():
    assert ks.get("artificial_relu") == Surrogate("relu", "softplus")
    assert ks.get("flat_spot", constant=0.2) == Surrogate("sigmoid", functions.FlatSpotSigmoid(0.2))
    assert ks.get("sugar_bsilu") == Surrogate("relu", functions.Bsilu(1.67))
    assert ks.get("sugar_nelu", alpha=0.01) == Surrogate("relu", functions.Nelu(0.01))
    assert ks.get("leaky_backward", negative_slope=0.3) == Surrogate(
        "relu", functions.LeakyRelu(0.3)
    )
    assert ks.get("ste_sign") == Surrogate(functions.Sign(1.0), "hard_tanh")
    assert ks.get("approx_sign") == Surrogate(functions.Sign(1.0), "piecewise_quadratic", scale=2.0)
    assert ks.get("swish_sign", beta=3.0) == Surrogate(
        functions.Sign(1.0), functions.SwishSign(3.0)
    )
    assert ks.get("superspike", sharpness=10.0) == Surrogate("step", functions.FastSigmoid(10.0))
    assert ks.get("atan_spike", alpha=3.0) == Surrogate("step", functions.Atan(3.0))
    assert ks.get("gradient_reversal", weight=0.5) == Surrogate("linear", "linear", scale=-0.5)


def test_a_name_that_a_preset_shares_with_a_function():
    assert ks.get("swish_sign").forward == functions.Sign(1.0)
    assert ks.get("swish_sign").backward == functions.get("swish_sign")
    assert ks.get(functions.SwishSign()) == Surrogate("swish_sign", "swish_sign")


def test_slopes_of_the_published_pairs():
    x = tf.constant([-1.5, -0.5, 0.0, 0.3, 0.6])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        approx, swish, reversal = (
            ks.get(name)(x) for name in ("approx_sign", "swish_sign", "gradient_reversal")
        )
    np.testing.assert_array_equal(approx, [-1, -1, 1, 1, 1])
    np.testing.assert_allclose(tape.gradient(approx, x), [0, 1, 2, 1.4, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(swish, [-1, -1, 1, 1, 1])
    assert (np.sign(tape.gradient(swish, x)) == [-1, -1, 1, 1, -1]).all()
    np.testing.assert_array_equal(reversal, x)
    np.testing.assert_array_equal(tape.gradient(reversal, x), -tf.ones_like(x))


def test_get_takes_functions_configurations_and_surrogates():
    pair = ks.get("sugar_bsilu")
    assert ks.get(pair) is pair
    assert (
        ks.get("tanh")
        == Surrogate("tanh", "tanh")
        == ks.get(functions.Tanh())
        == ks.get(keras.activations.tanh)
    )
    assert ks.get("scaled_tanh", n=3.0).forward == functions.ScaledTanh(3.0)
    assert ks.get(pair.get_config()) == ks.get(keras.saving.serialize_keras_object(pair)) == pair


def test_keras_takes_a_surrogate_or_its_dictionary_and_no_preset_s_name(tmp_path):
    pair = ks.get("sugar_bsilu")
    dictionary = json.loads(json.dumps(keras.saving.serialize_keras_object(pair)))
    model = keras.Sequential(
        [
            keras.Input((4,)),
            *(keras.layers.Dense(3, activation=each) for each in (pair, dictionary)),
        ]
    )
    assert [layer.activation for layer in model.layers] == [pair, pair]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [layer.activation for layer in loaded.layers] == [pair, pair]
    with pytest.raises(ValueError, match="sugar_bsilu"):
        keras.layers.Dense(3, activation="sugar_bsilu")


def test_a_new_preset_is_one_function():
    @presets.preset
    def throw_away():
        return Surrogate("step", "atan")

    assert ks.get("throw_away") == Surrogate("step", "atan")
    del PAIRS["throw_away"]


@pytest.mark.parametrize(
    ("identifier", "parameters", "message"),
    [
        ("sugar_bsilo", {}, "'sugar_bsilo'.*Did you mean 'sugar_bsilu'"),
        ("flat_spot", {"constant": -1.0}, "constant must be a number of at least 0, but is -1.0"),
        ("superspike", {"sharpness": 0.0}, "k must be a positive number, but is 0.0"),
        (
            "gradient_reversal",
            {"weight": "1"},
            "gradient_reversal: weight must be a finite number, but is '1'",
        ),
        (
            "flat_spot",
            {"slope": 1.0},
            r"flat_spot has no parameter \['slope'\]; it has \['constant'\]",
        ),
        (Surrogate("relu"), {"alpha": 1.0}, "need a function's name"),
        (5, {}, "not 5"),
        (keras.layers.ReLU(), {}, "needs a function, but got the layer 're_lu"),
        (SurrogateActivation("relu", "softplus"), {}, "Pass its surrogate, layer.surrogate"),
    ],
)
def test_mistakes_are_explained(identifier, parameters, message):
    with pytest.raises(ValueError, match=message):
        ks.get(identifier, **parameters)
