"""The vanishing gradient of a deep sigmoid network, and the effect of three other slopes.

The slope of the sigmoid is at most 1/4. The backward pass multiplies by it in each layer. After
five layers the gradient is so small that plain SGD hardly changes the first one. The same network
is trained from the same initial weights with four slopes: that of the sigmoid, four times that,
that of tanh, and that of the sigmoid plus 0.1. The last is the preset "flat_spot", which was
proposed for saturated units. It is at most 0.35, so the gradient vanishes too, only more slowly.
The value is always that of the sigmoid.

    python examples/02_deep_sigmoid.py        one seed, half a minute
    python examples/02_deep_sigmoid.py 5      mean and standard deviation over five seeds

Needs scikit-learn for the digits.
"""

from __future__ import annotations

import sys

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import datasets

ACTIVATIONS = {
    "true slope": {"forward": "sigmoid"},
    "4 x own slope": {"forward": "sigmoid", "scale": 4},
    "slope of tanh": {"forward": "sigmoid", "backward": "tanh"},
    "flat_spot": {"forward": "flat_spot"},
}
FIRST_STEPS = 20


def build(activation: dict, seed: int, depth: int = 5, width: int = 64) -> keras.Sequential:
    keras.utils.set_random_seed(seed)
    hidden = [
        keras.layers.Dense(
            width, activation=ks.layers.SurrogateActivation(**activation), name=f"hidden_{number}"
        )
        for number in range(1, depth + 1)
    ]
    output = keras.layers.Dense(10, name="output")
    model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), *hidden, output])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


def train(model: keras.Model, data: datasets.Dataset, epochs: int) -> tuple[float, float]:
    """Returns the test accuracy, and the gradient norm of the first layer over that of the last.

    The norms are means over the first steps.
    """
    logger = ks.callbacks.GradientNormLogger()
    model.fit(data.x_train, data.y_train, epochs=epochs, callbacks=[logger], verbose=0)
    _, accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)
    norms = logger.norms[:FIRST_STEPS].mean(axis=0)
    return accuracy, norms[0] / norms[-1]


def main(epochs: int = 40, seeds: int = 1) -> dict[str, tuple[float, float]]:
    """Prints the table.

    Returns:
        The accuracy and the gradient ratio of each slope, means over the seeds.
    """
    data = datasets.load("digits")
    guessing = np.bincount(data.y_test).max() / len(data.y_test)
    table = Table(
        "backward pass", title=f"Five sigmoid layers, {epochs} epochs of SGD, {seeds} seed(s)"
    )
    table.add_column(f"test accuracy\n(guessing: {guessing:.1%})", justify="right")
    table.add_column(f"gradient, first / last layer\n(first {FIRST_STEPS} steps)", justify="right")
    results = {}
    for name, activation in ACTIVATIONS.items():
        runs = np.array([train(build(activation, seed), data, epochs) for seed in range(seeds)])
        accuracy, ratio = runs.mean(axis=0)
        results[name] = (accuracy, ratio)
        spread = f" +- {runs[:, 0].std(ddof=1):.1%}" if seeds > 1 else ""
        table.add_row(name, f"{accuracy:.1%}{spread}", f"{ratio:.1e}")
    Console().print(table)
    return results


if __name__ == "__main__":
    main(seeds=int(sys.argv[1]) if len(sys.argv) > 1 else 1)
