"""A network whose weights and hidden activations are all -1 or 1, trained by straight-through.

The slope of the sign is 0: layers before a sign do not learn. The preset "ste_sign" has the value
of the sign and the slope 1 on [-1, 1]. `SurrogateWeights` puts it on the weights of a Dense layer,
`SurrogateActivation` on its outputs. The gradient changes latent float weights, which are clipped
to [-1, 1] and needed only in training (Courbariaux et al. 2016, arXiv:1602.02830). Two networks are
trained from the same seed for comparison: a float network with ReLU, and one with the sign's own
slope, in which only the batch normalisation after the last weights learns. The input and this batch
normalisation are float in all three networks.

    python examples/05_binarized.py

Needs scikit-learn for the digits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import conversion, datasets


def float_dense(units: int) -> keras.layers.Layer:
    """A dense layer without bias."""
    return keras.layers.Dense(units, use_bias=False)


def binary_dense(units: int, sign: str | ks.Surrogate = "ste_sign") -> keras.layers.Layer:
    """A dense layer without bias that multiplies its input by the signs of its weights."""
    latent = keras.layers.Dense(
        units, use_bias=False, kernel_constraint=ks.constraints.WeightClip(1.0)
    )
    return ks.layers.SurrogateWeights(latent, sign)


TRUE_SIGN = ks.get("ste_sign").true()
NETWORKS = {
    "sign, straight-through": (binary_dense, "ste_sign"),
    "sign, its own slope": (partial(binary_dense, sign=TRUE_SIGN), TRUE_SIGN),
    "float, ReLU": (float_dense, "relu"),
}


def matrix_of(dense: keras.layers.Layer) -> np.ndarray:
    """The matrix that a dense layer multiplies by."""
    if isinstance(dense, ks.layers.SurrogateWeights):
        return dense.effective_weights()["kernel"].numpy()
    return dense.kernel.numpy()


def train(
    dense: Callable, activation: str | ks.Surrogate, data: datasets.Dataset, epochs: int, seed: int
) -> tuple[float, ...]:
    """Trains one network.

    Returns:
        The test accuracy, the gradient norm of the first layer as a mean over all steps, the share
        of weights that are -1 or 1, and the bits of a weight.
    """
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((8, 8)), keras.layers.Flatten()]
    for units in (256, 256, 10):
        layers += [
            dense(units),
            keras.layers.BatchNormalization(),
            ks.layers.SurrogateActivation(activation),
        ]
    model = keras.Sequential(layers[:-1])  # no activation after the last layer
    steps = epochs * -(-len(data.x_train) // 32)  # batches of 32, the last one smaller
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, steps))
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    logger = ks.callbacks.GradientNormLogger()
    model.fit(data.x_train, data.y_train, epochs=epochs, callbacks=[logger], verbose=0)
    _, accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)
    weights = np.concatenate([np.ravel(matrix_of(layer)) for layer in layers[2::3]])
    bits = min(min(layer.counts) for layer in conversion.weight_report(model).layers)
    return accuracy, logger.norms[:, 0].mean(), np.mean(np.abs(weights) == 1), bits


def main(epochs: int = 20, seed: int = 0) -> dict[str, tuple[float, ...]]:
    """Prints the table; returns the result of `train` for each network."""
    data = datasets.load("digits")
    table = Table("network", title=f"Two hidden layers of 256, {epochs} epochs")
    for heading in (
        "test\naccuracy",
        "first layer's\ngradient norm",
        "weights that\nare -1 or 1",
        "bits of a\nweight",
    ):
        table.add_column(heading, justify="right")
    results = {
        name: train(dense, activation, data, epochs, seed)
        for name, (dense, activation) in NETWORKS.items()
    }
    for name, (accuracy, gradient, ones, bits) in results.items():
        table.add_row(name, f"{accuracy:.1%}", f"{gradient:.1e}", f"{ones:.1%}", f"{bits:g}")
    Console().print(table)
    return results


if __name__ == "__main__":
    main()
