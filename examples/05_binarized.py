"""A network whose weights and hidden activations are all -1 or 1, trained by straight-through.

The slope of the sign is 0: layers before a sign do not learn. The preset "ste_sign" has the value
of the sign and the slope 1 on [-1, 1]. The gradient changes latent float weights, which are clipped
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
import tensorflow as tf
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import datasets


@keras.saving.register_keras_serializable(package="examples")
class BinaryDense(keras.layers.Layer):
    """Multiplies its input by the sign of a latent float kernel.

    Args:
        units: the number of outputs.
        sign: an argument of `ks.get`; default "ste_sign".
    """

    def __init__(self, units: int, sign: str | dict | ks.Surrogate = "ste_sign", **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.sign = ks.get(sign)

    def build(self, input_shape: tuple) -> None:
        self.kernel = self.add_weight(
            (input_shape[-1], self.units), constraint=lambda w: keras.ops.clip(w, -1, 1)
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return keras.ops.matmul(inputs, self.sign(self.kernel))

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units, "sign": self.sign.get_config()}


TRUE_SIGN = ks.get("ste_sign").true()
NETWORKS = {
    "sign, straight-through": (BinaryDense, "ste_sign"),
    "sign, its own slope": (partial(BinaryDense, sign=TRUE_SIGN), TRUE_SIGN),
    "float, ReLU": (partial(keras.layers.Dense, use_bias=False), "relu"),
}


def train(
    dense: Callable, activation: str | ks.Surrogate, data: datasets.Dataset, epochs: int, seed: int
) -> tuple[float, ...]:
    """Trains one network.

    Returns:
        The test accuracy, the gradient norm of the first layer as a mean over all steps, the share
        of weights that are -1 or 1, and the bits per weight.
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
    # The output of a layer for the unit vectors is the matrix that it multiplies by.
    matrices = [layer(np.eye(layer.kernel.shape[0])) for layer in layers[2::3]]
    weights = np.concatenate([np.ravel(matrix) for matrix in matrices])
    stored = np.packbits(weights > 0) if set(weights) == {-1, 1} else weights
    bits = 8 * stored.nbytes / weights.size
    return accuracy, logger.norms[:, 0].mean(), np.mean(np.abs(weights) == 1), bits


def main(epochs: int = 20, seed: int = 0) -> dict[str, tuple[float, ...]]:
    """Prints the table; returns the result of `train` for each network."""
    data = datasets.load("digits")
    table = Table("network", title=f"Two hidden layers of 256, {epochs} epochs")
    for heading in (
        "test\naccuracy",
        "first layer's\ngradient norm",
        "weights that\nare -1 or 1",
        "bits per\nweight",
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
