"""The vanishing gradient of a deep sigmoid network, and what three other slopes do about it.

The slope of the sigmoid is at most 1/4. The backward pass multiplies by it in every layer, so that
little gradient is left for the first of five, and plain SGD hardly moves it. The same network, from
the same start, is trained with the sigmoid's own slope, with four times that slope, with the slope
of tanh, and with the sigmoid's slope plus 0.1. The last is the preset "flat_spot", made against
saturated units; at 0.35 and less it vanishes too, only more slowly. What the network computes stays
the sigmoid's.

    python examples/02_deep_sigmoid.py        one start, half a minute
    python examples/02_deep_sigmoid.py 5      mean and standard deviation over five, because one is not a study

Needs scikit-learn for the digits.
"""

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


def build(activation, seed, depth=5, width=64):
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


def train(model, data, epochs):
    """The test accuracy, and the first layer's gradient norm divided by the last's over the first steps."""
    logger = ks.callbacks.GradientNormLogger()
    model.fit(data.x_train, data.y_train, epochs=epochs, callbacks=[logger], verbose=0)
    _, accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)
    norms = logger.norms[:FIRST_STEPS].mean(axis=0)
    return accuracy, norms[0] / norms[-1]


def main(epochs=40, seeds=1):
    """Prints the table; returns the mean accuracy and the mean gradient ratio of each slope over the seeds."""
    data = datasets.load("digits")
    guessing = np.bincount(data.y_test).max() / len(data.y_test)
    table = Table(
        "backward pass", title=f"Five sigmoid layers, {epochs} epochs of SGD, {seeds} start(s)"
    )
    table.add_column(f"test accuracy\n(guessing: {guessing:.1%})", justify="right")
    table.add_column(f"gradient, first / last layer\n(first {FIRST_STEPS} steps)", justify="right")
    results = {}
    for name, activation in ACTIVATIONS.items():
        runs = np.array([train(build(activation, seed), data, epochs) for seed in range(seeds)])
        results[name] = accuracy, ratio = tuple(runs.mean(axis=0))
        spread = f" +- {runs[:, 0].std(ddof=1):.1%}" if seeds > 1 else ""
        table.add_row(name, f"{accuracy:.1%}{spread}", f"{ratio:.1e}")
    Console().print(table)
    return results


if __name__ == "__main__":
    main(seeds=int(sys.argv[1]) if len(sys.argv) > 1 else 1)
