"""Swap and strip on the architectures that people use, as keras.applications and Keras's own layers make them."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_surrogate import conversion

SIDE = 32


def application(name, side=SIDE):
    return getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=5)


def transformer():
    """Two encoder blocks: attention, then a Dense of GELU, each with a residual connection."""
    inputs = x = keras.Input((6, 8))
    for number in range(2):
        attended = keras.layers.MultiHeadAttention(2, 4, name=f"attention_{number}")(x, x)
        x = keras.layers.LayerNormalization()(keras.layers.Add()([x, attended]))
        hidden = keras.layers.Dense(16, activation="gelu", name=f"hidden_{number}")(x)
        x = keras.layers.LayerNormalization()(
            keras.layers.Add()([x, keras.layers.Dense(8)(hidden)])
        )
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(x)))


def recurrent():
    inputs = keras.Input((6, 8))
    x = keras.layers.Bidirectional(keras.layers.GRU(5, return_sequences=True))(inputs)
    x = keras.layers.TimeDistributed(keras.layers.Dense(4, activation="tanh"))(x)
    x = keras.layers.RNN([keras.layers.LSTMCell(4), keras.layers.SimpleRNNCell(3)])(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def two_inputs():
    """One encoder for both inputs, a model within the model, whose last layer is used once more outside."""
    left, right = keras.Input((8,), name="left"), keras.Input((8,), name="right")
    shared = keras.layers.Dense(8, activation="relu", name="shared")
    encoder = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(8), keras.layers.ReLU(), shared], name="encoder"
    )
    joined = keras.layers.Concatenate()([encoder(left), encoder(right), shared(left)])
    return keras.Model({"left": left, "right": right}, {"out": keras.layers.Dense(3)(joined)})


def residual_block():
    """As in ResNet50 and VGG16: activations as layers and as arguments, about a shortcut."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    shortcut = x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, padding="same")(x))
    x = keras.layers.Conv2D(4, 3, padding="same")(keras.layers.Activation("relu")(x))
    x = keras.layers.ReLU()(keras.layers.Add()([shortcut, keras.layers.BatchNormalization()(x)]))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))


def inverted_block():
    """As in MobileNetV2 and EfficientNetB0: depthwise, with a squeeze that multiplies."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(6, 1, use_bias=False)(inputs))
    x = keras.layers.DepthwiseConv2D(3, padding="same")(keras.layers.ReLU(6.0)(x))
    x = keras.layers.Activation("swish")(keras.layers.BatchNormalization()(x))
    squeezed = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    squeezed = keras.layers.Conv2D(2, 1, activation="swish")(squeezed)
    weights = keras.layers.Conv2D(6, 1, activation="sigmoid")(squeezed)
    x = keras.layers.Conv2D(3, 1)(keras.layers.Multiply()([x, weights]))
    joined = keras.layers.Concatenate()([inputs, keras.layers.Dropout(0.2)(x)])
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalMaxPooling2D()(joined)))


# What to build, what to swap, how many activations that is.
CASES = {
    "VGG16": (lambda: application("VGG16"), {"relu": "leaky_backward"}, 15),
    "ResNet50": (lambda: application("ResNet50"), {"relu": "leaky_backward"}, 49),
    "MobileNetV2": (lambda: application("MobileNetV2"), {"relu6": "leaky_backward"}, 35),
    "EfficientNetB0": (
        lambda: application("EfficientNetB0"),
        {"swish": "softplus", "sigmoid": "tanh"},
        65,
    ),
    "DenseNet121": (lambda: application("DenseNet121"), {"relu": "sugar_bsilu"}, 121),
    "residual_block": (residual_block, {"relu": "leaky_backward"}, 3),
    "inverted_block": (
        inverted_block,
        {"relu6": "leaky_backward", "swish": "softplus", "sigmoid": "tanh"},
        4,
    ),
    "transformer": (transformer, {"gelu": "softplus"}, 2),
    "recurrent": (recurrent, {"tanh": "softsign", "sigmoid": "tanh"}, 8),
    "two_inputs": (two_inputs, {"relu": "leaky_backward"}, 2),
}
SMALL = ("residual_block", "inverted_block", "transformer", "recurrent", "two_inputs")
every_case = pytest.mark.parametrize(
    "case", [pytest.param(name, marks=() if name in SMALL else pytest.mark.slow) for name in CASES]
)


def inputs_for(model):
    generator = np.random.default_rng(0)
    return keras.tree.map_structure(
        lambda tensor: generator.normal(size=(2, *tensor.shape[1:])).astype("float32"), model.input
    )


def outputs_and_gradient(model, x):
    """Outputs, and the gradient of a sum of them with respect to the first kernel, to which it comes through all."""
    with tf.GradientTape() as tape:
        (outputs,) = keras.tree.flatten(model(x))
        loss = tf.reduce_sum(outputs * tf.cos(tf.range(float(outputs.shape[-1]))))
    (gradient,) = tape.gradient(loss, model.trainable_variables[:1])
    return outputs.numpy(), gradient.numpy()


@every_case
def test_swap_keeps_outputs_and_changes_gradients_and_strip_undoes_it(case):
    build, mapping, count = CASES[case]
    model = build()
    x = inputs_for(model)
    swapped = conversion.swap(model, mapping)
    stripped = conversion.strip(swapped)
    assert (
        len(conversion.report(swapped).changes) == len(conversion.report(stripped).changes) == count
    )
    (outputs, gradient), (kept, other), (again, same) = (
        outputs_and_gradient(m, x) for m in (model, swapped, stripped)
    )
    np.testing.assert_allclose(kept, outputs, rtol=1e-6, atol=1e-6 * np.max(np.abs(outputs)))
    np.testing.assert_array_equal(again, outputs)
    assert np.linalg.norm(other - gradient) > 1e-3 * np.linalg.norm(gradient) > 0
    np.testing.assert_array_equal(same, gradient)
    assert type(swapped) is type(stripped) is type(model)
    assert stripped.get_config() == model.get_config()
    for weight, weight_again in zip(model.weights, stripped.weights, strict=True):
        np.testing.assert_array_equal(weight_again, weight)


@pytest.mark.slow
def test_resnet50_takes_less_than_ten_seconds_each_way():
    model = application("ResNet50")
    started = time.perf_counter()
    swapped = conversion.swap(model, {"relu": "leaky_backward"})
    halfway = time.perf_counter()
    conversion.strip(swapped)
    assert halfway - started < 10
    assert time.perf_counter() - halfway < 10


def test_what_is_shared_stays_shared():
    swapped = conversion.swap(two_inputs(), {"relu": "leaky_backward"})
    assert swapped.get_layer("encoder").layers[-1] is swapped.get_layer("shared")
