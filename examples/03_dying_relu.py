"""ReLU units that are all dead at the start: which slopes bring them back?

A unit is dead if it is off for every image there is. Its true derivative is then 0 and it stays
dead for good; another slope in the backward pass can move its weights although it is off. Whether
that helps depends on the slope, which may be tiny there or even negative, on how far below zero the
unit lies, and on the optimizer: Adam makes full steps of the smallest gradient. Biases of -1 and -3
with small weights make all units dead; the tables show what becomes of them.

The limit: a dead unit puts out 0, so its OUTGOING weights get no gradient under any slope; only the
incoming ones do. The tables show both gradient norms at the first step; the output layer has no
bias, so that its norm is theirs alone.

    python examples/03_dying_relu.py

Needs scikit-learn for the digits.
"""

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
STARTS = (("SGD", -1.0), ("SGD", -3.0), ("Adam", -3.0))


def build(backward, optimizer, bias):
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


def dead_share(model, images):
    hidden = keras.Model(model.inputs[0], model.layers[1].output)
    return float(np.mean(np.max(hidden(images), axis=0) == 0))


def measure(backward, optimizer, bias, epochs, data):
    """Share of dead units before and after, gradient norms at the first step (incoming, outgoing), test accuracy."""
    model, logger = build(backward, optimizer, bias), ks.callbacks.GradientNormLogger()
    images = np.concatenate([data.x_train, data.x_test])
    before = dead_share(model, images)
    model.fit(data.x_train, data.y_train, epochs=epochs, callbacks=[logger], verbose=0)
    _, accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)
    return before, dead_share(model, images), *logger.norms[0], accuracy


def main(epochs=8, starts=STARTS):
    """Prints a table for each start; returns what `measure` gives by optimizer, bias and backward."""
    data = datasets.load("digits")
    guessing = np.bincount(data.y_test).max() / len(data.y_test)
    results = {}
    for optimizer, bias in starts:
        table = Table(
            title=f"{optimizer}, bias {bias:g}, {epochs} epochs (guessing: {guessing:.1%})"
        )
        for heading in (
            "backward",
            "dead before",
            "dead after",
            "incoming",
            "outgoing",
            "accuracy",
        ):
            table.add_column(heading, justify="left" if heading == "backward" else "right")
        for backward in BACKWARDS:
            row = results[optimizer, bias, backward] = measure(
                backward, optimizer, bias, epochs, data
            )
            formats = ("{:.0%}", "{:.0%}", "{:.1e}", "{:.1e}", "{:.1%}")
            table.add_row(
                backward, *(text.format(number) for text, number in zip(formats, row, strict=True))
            )
        Console().print(table)
    return results


if __name__ == "__main__":
    main()
