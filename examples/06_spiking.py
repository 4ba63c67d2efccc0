"""A network of leaky integrate-and-fire neurons, trained by `fit` with a surrogate slope.

A neuron adds its input to a leaking potential. When the potential reaches 1, the neuron fires a
spike of 1, and the potential is lowered by 1. The spike is a step function, whose slope is 0, so
that no gradient passes it. `layers.LIF` gives the same spikes the slope of arctan,
1 / (1 + (pi * (potential - 1))**2) (Fang et al. 2021, arXiv:2007.05785). An image is the input for
ten steps, and a dense layer reads the class from the firing rates. With slope 0, from the same
seed, only this dense layer learns.

    python examples/06_spiking.py

Needs scikit-learn for the digits. They are split at random, stratified by class. In the split of
`datasets.load` the test images are by other writers.
"""

from __future__ import annotations

import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_surrogate as ks

SPIKES = {
    "the layer's": ks.layers.neurons.DEFAULT_SURROGATE,
    "its own: 0": ks.Surrogate("step"),
}


def build(
    spike: str | ks.Surrogate, seed: int, width: int = 128, steps: int = 10
) -> keras.Sequential:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            # The current is the same in every step, so that the first layer computes it once.
            keras.layers.Dense(width),
            ks.layers.ConstantCurrent(steps),
            ks.layers.LIF(surrogate=spike, name="spikes_1"),
            ks.layers.OverTime(keras.layers.Dense(width)),
            ks.layers.LIF(surrogate=spike, name="spikes_2"),
            ks.layers.SpikeCount(average=True),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.002), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def measure(spike: ks.Surrogate, epochs: int, seed: int) -> tuple[float, ...]:
    """Trains one network.

    Returns:
        The test accuracy, the firing rates of both layers in spikes per neuron and step, and the
        gradient norm of the first layer as a mean over all steps.
    """
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        x / 16, y, test_size=397, stratify=y, random_state=0
    )
    model = build(spike, seed)
    logger = ks.callbacks.GradientNormLogger()
    model.fit(x_train, y_train, epochs=epochs, callbacks=[logger], verbose=0)
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    outputs = [model.get_layer(name).output for name in ("spikes_1", "spikes_2")]
    spikes = keras.Model(model.inputs[0], outputs)(x_test)
    rates = [float(np.mean(layer)) for layer in spikes]
    return accuracy, *rates, logger.norms[:, 0].mean()


def main(epochs: int = 20, seed: int = 0) -> dict[str, tuple[float, ...]]:
    """Prints the table; returns the result of `measure` for each slope."""
    table = Table(
        "slope of\nthe spike", title=f"{epochs} epochs; firing rates are spikes per neuron and step"
    )
    for heading in (
        "test\naccuracy",
        "firing rate,\nlayer 1",
        "firing rate,\nlayer 2",
        "first layer's\ngradient norm",
    ):
        table.add_column(heading, justify="right")
    results = {name: measure(spike, epochs, seed) for name, spike in SPIKES.items()}
    for name, (accuracy, *rates, gradient) in results.items():
        table.add_row(
            name, f"{accuracy:.1%}", *(f"{rate:.3f}" for rate in rates), f"{gradient:.1e}"
        )
    Console().print(table)
    return results


if __name__ == "__main__":
    main()
