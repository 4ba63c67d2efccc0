"""Values and gradients of larq 0.14, whose numbers are kept in reference/larq.npz."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate.layers import SurrogateActivation, SurrogateWeights

PATH = Path(__file__).parent / "reference" / "larq_reference.py"
specification = importlib.util.spec_from_file_location("larq_reference", PATH)
reference = importlib.util.module_from_spec(specification)
specification.loader.exec_module(reference)
LARQ = np.load(reference.FILE)


def ternary(x):
    """Of larq's ste_tern: 1 above 0.05, -1 below -0.05, and 0 at neither."""
    return tf.sign(tf.sign(x + 0.05) + tf.sign(x - 0.05))


SURROGATES = {
    "ste_sign": ("ste_sign", None),
    "approx_sign": ("approx_sign", None),
    "swish_sign": ("swish_sign", None),
    "ste_tern": (ks.Surrogate(ternary, "hard_tanh"), None),
    "magnitude_aware_sign": ("ste_sign", "mean_abs"),
}


def results_of(name, quantizer, cls=SurrogateWeights):
    x, kernels, random = reference.arrays(name)
    arguments, _, _ = reference.LAYERS[name]
    surrogate, scale = SURROGATES[quantizer]
    plain = getattr(keras.layers, name)(**arguments, use_bias=False)
    layer = cls(plain, surrogate, scale=scale)
    x = tf.constant(x)
    layer(x)
    layer.set_weights(kernels)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    upstream = random.normal(size=y.shape).astype("float32")
    sources = [x, *(weight.value for weight in layer.trainable_weights)]
    to_x, *to_kernels = tape.gradient(y, sources, upstream)
    found = {"output": y, "input_gradient": to_x}
    found.update({f"kernel_gradient_{number}": one for number, one in enumerate(to_kernels)})
    return {key: np.asarray(value) for key, value in found.items()}


# For these two larq takes the mean over other axes than those of an output channel: the input
# channels of a transposed kernel, and all channels of a depthwise one.
OTHER_AXES = [
    (name, "magnitude_aware_sign")
    for name in ("Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D")
]
CASES = [
    (name, quantizer)
    for name in reference.LAYERS
    for quantizer in reference.QUANTIZERS
    if (name, quantizer) not in OTHER_AXES
]


@pytest.mark.parametrize(("name", "quantizer"), CASES)
def test_layers(name, quantizer):
    check_layer(name, quantizer)


def check_layer(name, quantizer, cls=SurrogateWeights):
    found = results_of(name, quantizer, cls)
    for key, value in found.items():
        expected = LARQ[f"{name}/{quantizer}/{key}"]
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5, err_msg=key)
    assert sum(key.startswith(f"{name}/{quantizer}/") for key in LARQ.files) == len(found)


@pytest.mark.parametrize(("name", "quantizer"), OTHER_AXES)
def test_the_mean_per_output_channel_differs_from_larq_where_larq_takes_others(name, quantizer):
    with pytest.raises(AssertionError):
        check_layer(name, quantizer)


def test_the_check_can_fail():
    class Other(SurrogateWeights):
        def _value(self, name, weight):
            return ks.get("sign")(weight.value)

    with pytest.raises(AssertionError):
        check_layer("Conv1D", "ste_sign", Other)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_training_with_clipped_latent_weights(jit_compile):
    x, y, weights = reference.training_arrays()
    clip = {"kernel_constraint": ks.constraints.WeightClip(reference.CLIP)}
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            SurrogateWeights(keras.layers.Conv2D(4, 3, **clip), "ste_sign"),
            keras.layers.Flatten(),
            SurrogateActivation("ste_sign"),
            SurrogateWeights(keras.layers.Dense(2, **clip), "approx_sign"),
        ]
    )
    model.set_weights(weights)
    model.compile(keras.optimizers.SGD(reference.RATE), "mse", jit_compile=jit_compile)
    losses = []
    for _ in range(reference.STEPS):
        losses.append(model.evaluate(x, y, verbose=0))
        model.train_on_batch(x, y)
    np.testing.assert_allclose(losses, LARQ["training/losses"], rtol=1e-4)
    for number, weight in enumerate(model.get_weights()):
        expected = LARQ[f"training/weight_{number}"]
        np.testing.assert_allclose(weight, expected, rtol=1e-3, atol=1e-5)
    # The clip was active.
    assert (np.abs(model.get_weights()[0]) == 1).any()
