"""The uses of surrogates in a forward pass."""

import keras
import numpy as np
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import uses
from keras_surrogate.layers import LIF, FakeQuantize, SurrogateActivation, SurrogateWeights

L = keras.layers
X = tf.constant(np.random.default_rng(0).normal(size=(4, 3, 5)).astype("float32"))


def seen(*layers):
    model = keras.Sequential([keras.Input((3, 5)), *layers])
    outside = model(X)
    with uses.noted() as noted:
        inside = model(X)
    np.testing.assert_array_equal(inside, outside)
    return noted


def test_every_use_is_noted_and_nothing_changes():
    noted = seen(
        L.Dense(5, ks.get("ste_sign")),
        SurrogateWeights(L.Dense(5), "ste_tern"),
        SurrogateActivation("sugar_bsilu", blend=0.5),
        LIF(unroll=True),
        FakeQuantize(4),
    )
    titles = [uses.title_of_forward(use) for use in noted]
    assert titles == ["sign", "ternary", "relu", "step", "step", "step", "a rounding"]
    assert [use.blended for use in noted] == [False, False, True, *[False] * 4]
    assert all(map(uses.replaces_slope, noted))
    assert uses.flat_forwards(noted) == ["sign", "ternary", "step", "a rounding"]


def test_a_true_slope_is_not_replaced_even_if_it_is_zero():
    noted = seen(L.Dense(5, ks.Surrogate("sign")), L.Activation(ks.get("relu")))
    assert not any(map(uses.replaces_slope, noted))
    assert uses.flat_forwards(noted) == []
    (reversal,) = seen(L.Activation(ks.get("gradient_reversal")))
    assert uses.replaces_slope(reversal)
    assert uses.flat_forwards([reversal]) == []
