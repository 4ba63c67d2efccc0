"""ReLU units that are all dead at the start, and the slopes that make them active again.

A unit is dead if its output is 0 for all images. Its true derivative is then 0, so its weights
never change. With another slope in the backward pass they can change. The effect depends on three
things: on the slope at negative inputs, which may be very small or negative; on the distance of the
inputs from zero; and on the optimizer, because Adam makes steps of full size from the smallest
gradients. Here biases of -1 and -3, with small weights, make all units dead.

The output of a dead unit is 0. Therefore its OUTGOING weights get no gradient with any slope; only
the incoming weights do. The tables show the gradient norms of both at the first step. The output
layer has no bias, so its norm is that of the outgoing weights alone.

    python examples/03_dying_relu.py

Needs scikit-learn for the digits.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import datasets

BACKWARDS = ("relu", "leaky_backward", "artificial_relu", "sugar_bsilu", "sugar_nelu")
OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.2),
    "Adam": lambda: keras.optimizers.Adam(0.002),
}
# Of the table: headings and formats.
COLUMNS = {
    "dead before": "{:.0%}",
    "dead after": "{:.0%}",
    "incoming": "{:.1e}",
    "outgoing": "{:.1e}",
    "accuracy": "{:.1%}",
}
STARTS = (("SGD", -1.0), ("SGD", -3.0), ("Adam", -3.0))


def build(backward: str, optimizer: str, bias: float) -> keras.Sequential:
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(
        64,
        activation=ks.get(backward),
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.05),
        bias_initializer=keras.initializers.Constant(bias),
    )
    output = keras.layers.Dense(10, use_bias=False)
    model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), hidden, output])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(OPTIMIZERS[optimizer](), loss, metrics=["accuracy"])
    return model


def dead_share(model: keras.Model, images: np.ndarray) -> float:
    """The share of hidden units that are 0 for all images."""
    hidden = keras.Model(model.inputs[0], model.layers[1].output)
    return float(np.mean(np.max(hidden(images), axis=0) == 0))


def measure(
    backward: str, optimizer: str, bias: float, epochs: int, data: datasets.Dataset
) -> tuple[float, ...]:
    """Trains one network.

    Returns:
        The share of dead units before and after training, the gradient norms of incoming and
        outgoing weights at the first step, and the test accuracy.
    """
    model = build(backward, optimizer, bias)
    logger = ks.callbacks.GradientNormLogger()
    images = np.concatenate([data.x_train, data.x_test])
    before = dead_share(model, images)
    model.fit(data.x_train, data.y_train, epochs=epochs, callbacks=[logger], verbose=0)
    _, accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)
    return before, dead_share(model, images), *logger.norms[0], accuracy


def main(
    epochs: int = 8, starts: Sequence[tuple[str, float]] = STARTS
) -> dict[tuple[str, float, str], tuple[float, ...]]:
    """Prints a table for each pair of an optimizer and a bias.

    Returns:
        The result of `measure` for each optimizer, bias and backward.
    """
    data = datasets.load("digits")
    guessing = np.bincount(data.y_test).max() / len(data.y_test)
    results = {}
    for optimizer, bias in starts:
        table = Table(
            title=f"{optimizer}, bias {bias:g}, {epochs} epochs (guessing: {guessing:.1%})"
        )
        table.add_column("backward")
        for heading in COLUMNS:
            table.add_column(heading, justify="right")
        for backward in BACKWARDS:
            row = measure(backward, optimizer, bias, epochs, data)
            results[optimizer, bias, backward] = row
            formatted = zip(COLUMNS.values(), row, strict=True)
            table.add_row(backward, *(form.format(number) for form, number in formatted))
        Console().print(table)
    return results


if __name__ == "__main__":
    main()
