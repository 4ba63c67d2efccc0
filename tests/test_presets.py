"""Presets: their pairs, their documentation, and `get`."""

import inspect
import re

import keras
import pytest

import keras_surrogate as ks
from keras_surrogate import Surrogate, functions, presets


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
    assert ks.get("leaky_backward", negative_slope=0.3) == Surrogate("relu", functions.LeakyRelu(0.3))
    assert ks.get("ste_sign") == Surrogate(functions.Sign(1.0), "hard_tanh")


def test_get_takes_functions_configurations_and_surrogates():
    pair = ks.get("sugar_bsilu")
    assert ks.get(pair) is pair
    assert ks.get("tanh") == Surrogate("tanh", "tanh") == ks.get(functions.Tanh()) == ks.get(keras.activations.tanh)
    assert ks.get("scaled_tanh", n=3.0).forward == functions.ScaledTanh(3.0)
    assert ks.get(pair.get_config()) == ks.get(keras.saving.serialize_keras_object(pair)) == pair


def test_a_new_preset_is_one_function():
    @presets.preset
    def throw_away():
        return Surrogate("step", "atan")

    assert ks.get("throw_away") == Surrogate("step", "atan")
    del presets._PRESETS["throw_away"]


@pytest.mark.parametrize(
    ("identifier", "parameters", "message"),
    [
        ("sugar_bsilo", {}, "'sugar_bsilo'.*Did you mean 'sugar_bsilu'"),
        ("flat_spot", {"constant": -1.0}, "constant must be a number of at least 0, but is -1.0"),
        ("flat_spot", {"slope": 1.0}, r"flat_spot has no parameter \['slope'\]; it has \['constant'\]"),
        (Surrogate("relu"), {"alpha": 1.0}, "go with a name"),
        (5, {}, "not 5"),
    ],
)
def test_mistakes_are_explained(identifier, parameters, message):
    with pytest.raises(ValueError, match=message):
        ks.get(identifier, **parameters)
