"""A network whose weights and hidden activations are all -1 or 1, trained by straight-through.

The sign has slope 0: nothing in front of one ever learns. The preset "ste_sign" keeps the sign and
takes slope 1 on [-1, 1]; its gradient moves latent float weights, clipped to [-1, 1] and needed in
training only (Courbariaux et al. 2016, arXiv:1602.02830). From the same start, for comparison: a
float network with ReLU, and one with the sign's own slope, where only the batch normalisation after
the last weights learns. That and the input are float in all three.

    python examples/05_binarized.py

Needs scikit-learn for the digits.
"""

from functools import partial

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import datasets


@keras.saving.register_keras_serializable(package="examples")
class BinaryDense(keras.layers.Layer):
    """Multiplies by the sign of its latent float kernel; `sign` is whatever `ks.get` takes."""

    def __init__(self, units, sign="ste_sign", **kwargs):
        super().__init__(**kwargs)
        self.units, self.sign = units, ks.get(sign)

    def build(self, input_shape):
        self.kernel = self.add_weight(
            (input_shape[-1], self.units), constraint=lambda w: keras.ops.clip(w, -1, 1)
        )

    def call(self, inputs):
        return keras.ops.matmul(inputs, self.sign(self.kernel))

    def get_config(self):
        return {**super().get_config(), "units": self.units, "sign": self.sign.get_config()}


TRUE_SIGN = ks.get("ste_sign").true()
NETWORKS = {
    "sign, straight-through": (BinaryDense, "ste_sign"),
    "sign, its own slope": (partial(BinaryDense, sign=TRUE_SIGN), TRUE_SIGN),
    "float, ReLU": (partial(keras.layers.Dense, use_bias=False), "relu"),
}


def train(dense, activation, data, epochs, seed):
    """Test accuracy; gradient norm of the first layer, mean over all steps; share of -1 and 1; bits per weight."""
    keras.utils.set_random_seed(seed)
    layers, logger = (
        [keras.Input((8, 8)), keras.layers.Flatten()],
        ks.callbacks.GradientNormLogger(),
    )
    for units in (256, 256, 10):
        layers += [
            dense(units),
            keras.layers.BatchNormalization(),
            ks.layers.SurrogateActivation(activation),
        ]
    model, steps = keras.Sequential(layers[:-1]), epochs * -(-len(data.x_train) // 32)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, steps))
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(data.x_train, data.y_train, epochs=epochs, callbacks=[logger], verbose=0)
    _, accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)
    # A layer that is sent the unit vectors answers with the weights it really multiplies by.
    weights = np.concatenate(
        [np.ravel(layer(np.eye(layer.kernel.shape[0]))) for layer in layers[2::3]]
    )
    stored = np.packbits(weights > 0) if set(weights) == {-1, 1} else weights
    return (
        accuracy,
        logger.norms[:, 0].mean(),
        np.mean(np.abs(weights) == 1),
        8 * stored.nbytes / weights.size,
    )


def main(epochs=20, seed=0):
    """Prints the table; returns what `train` gives for each network."""
    data, table = (
        datasets.load("digits"),
        Table("network", title=f"Two hidden layers of 256, {epochs} epochs"),
    )
    for heading in (
        "test\naccuracy",
        "first layer's\ngradient norm",
        "weights that\nare -1 or 1",
        "bits per\nweight",
    ):
        table.add_column(heading, justify="right")
    results = {name: train(*network, data, epochs, seed) for name, network in NETWORKS.items()}
    for name, (accuracy, gradient, ones, bits) in results.items():
        table.add_row(name, f"{accuracy:.1%}", f"{gradient:.1e}", f"{ones:.1%}", f"{bits:g}")
    Console().print(table)
    return results


if __name__ == "__main__":
    main()
