"""Reference values of binary and ternary layers, made with larq and kept in larq.npz.

    python -m venv larq && larq/bin/pip install larq==0.14.0 tensorflow==2.19.* tf_keras==2.19.*
    TF_USE_LEGACY_KERAS=1 larq/bin/python tests/reference/larq_reference.py

larq needs the legacy Keras 2, so that it has an environment of its own. The inputs and kernels are
those of `arrays`, which the tests use too. This file imports larq only when it is run.
"""

import pathlib

import numpy as np

FILE = pathlib.Path(__file__).with_name("larq.npz")
STEPS = 20
CLIP = 1.0
RATE = 0.1

# From the name of a layer to its arguments, the shape of its input and those of its kernels.
LAYERS = {
    "Dense": ({"units": 3}, (2, 5), [(5, 3)]),
    "Conv1D": ({"filters": 3, "kernel_size": 2}, (2, 5, 2), [(2, 2, 3)]),
    "Conv2D": (
        {"filters": 3, "kernel_size": 3, "padding": "same", "strides": 2},
        (2, 5, 5, 2),
        [(3, 3, 2, 3)],
    ),
    "Conv2DTranspose": ({"filters": 3, "kernel_size": 2}, (2, 3, 3, 2), [(2, 2, 3, 2)]),
    "DepthwiseConv2D": ({"kernel_size": 2, "depth_multiplier": 2}, (2, 4, 4, 2), [(2, 2, 2, 2)]),
    "SeparableConv2D": (
        {"filters": 3, "kernel_size": 2},
        (2, 4, 4, 2),
        [(2, 2, 2, 1), (1, 1, 2, 3)],
    ),
}
QUANTIZERS = ("ste_sign", "approx_sign", "swish_sign", "ste_tern", "magnitude_aware_sign")


def arrays(name):
    """Input, kernels and the gradient of the output for a layer; some kernels are beyond 1."""
    _, shape, kernels = LAYERS[name]
    random = np.random.default_rng(list(LAYERS).index(name))
    x = random.normal(size=shape).astype("float32")
    weights = [random.normal(0, 0.7, kernel).astype("float32") for kernel in kernels]
    # The numbers at which quantizers change: 0, the threshold of 0.05 and the clip of 1.
    for weight in weights:
        weight.flat[:4] = 0.0, 0.05, 1.0, -1.0
    return x, weights, random


def training_arrays():
    """Images, targets and initial weights of the network that is trained."""
    random = np.random.default_rng(99)
    x = random.normal(size=(16, 6, 6, 1)).astype("float32")
    y = random.normal(size=(16, 2)).astype("float32")
    shapes = [(3, 3, 1, 4), (4,), (64, 2), (2,)]
    return x, y, [random.normal(0, 0.5, shape).astype("float32") for shape in shapes]


def main():
    import larq
    import tensorflow as tf

    results = {"version": np.array(larq.__version__)}
    for name, (arguments, _, _) in LAYERS.items():
        for quantizer in QUANTIZERS:
            x, kernels, random = arrays(name)
            keys = ["kernel_quantizer"]
            if name == "SeparableConv2D":
                keys = ["depthwise_quantizer", "pointwise_quantizer"]
            if name == "DepthwiseConv2D":
                keys = ["depthwise_quantizer"]
            layer = getattr(larq.layers, f"Quant{name}")(
                **arguments, **dict.fromkeys(keys, quantizer), use_bias=False
            )
            layer.build(x.shape)
            layer.set_weights(kernels)
            x = tf.constant(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x)
            upstream = random.normal(size=y.shape).astype("float32")
            to_x, *to_kernels = tape.gradient(y, [x, *layer.trainable_weights], upstream)
            results[f"{name}/{quantizer}/output"] = y.numpy()
            results[f"{name}/{quantizer}/input_gradient"] = to_x.numpy()
            for number, gradient in enumerate(to_kernels):
                results[f"{name}/{quantizer}/kernel_gradient_{number}"] = gradient.numpy()

    x, y, weights = training_arrays()
    clip = {"kernel_constraint": larq.constraints.WeightClip(CLIP)}
    model = tf.keras.Sequential(
        [
            larq.layers.QuantConv2D(
                4, 3, kernel_quantizer="ste_sign", input_shape=x.shape[1:], **clip
            ),
            tf.keras.layers.Flatten(),
            larq.layers.QuantDense(
                2, input_quantizer="ste_sign", kernel_quantizer="approx_sign", **clip
            ),
        ]
    )
    model.set_weights(weights)
    model.compile(tf.keras.optimizers.legacy.SGD(RATE), "mse")
    losses = [model.train_on_batch(x, y) for _ in range(STEPS)]
    results["training/losses"] = np.array(losses)
    for number, weight in enumerate(model.get_weights()):
        results[f"training/weight_{number}"] = weight
    np.savez_compressed(FILE, **results)


if __name__ == "__main__":
    main()
