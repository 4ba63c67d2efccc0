"""`GradientScale` and `GradientReversal`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from layer_checks import UPSTREAM, X, assert_same, value_and_gradients

from keras_surrogate.layers import GradientReversal, GradientScale


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, -2.5])
def test_identities_with_another_gradient(factor):
    for layer, expected in ((GradientScale(factor), factor), (GradientReversal(factor), -factor)):
        y, gradient = value_and_gradients(layer, X.astype("float32"), UPSTREAM)
        np.testing.assert_array_equal(y, X.astype("float32"))
        np.testing.assert_allclose(gradient, expected * UPSTREAM, rtol=1e-6)


def test_domain_adversarial_training():
    """The features descend on the label's loss and ascend on the domain's; both heads descend."""

    def gradients(middle):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,))
        features = keras.layers.Dense(3, "tanh", name="features")(inputs)
        label = keras.layers.Dense(1, name="label")(features)
        domain = keras.layers.Dense(1, name="domain")(middle(features))
        model = keras.Model(inputs, [label, domain])
        with tf.GradientTape(persistent=True) as tape:
            losses = [
                tf.reduce_mean(tf.square(output - 1)) for output in model(X.astype("float32"))
            ]
            both = tf.add_n(losses)
        kernels = {layer.name: layer.kernel.value for layer in model.layers if layer.weights}
        return [tape.gradient(loss, kernels) for loss in (*losses, both)]

    *_, reversed_gradient = gradients(GradientReversal(0.7))
    label, domain, plain = gradients(keras.layers.Identity())
    assert np.abs(domain["features"]).min() > 1e-3
    assert_same([reversed_gradient["features"]], [label["features"] - 0.7 * domain["features"]])
    for head in ("label", "domain"):
        assert_same([reversed_gradient[head]], [plain[head]])
