"""Diagnosis of eight models from one batch, and the effect of following the advice.

Seven of the models have a planted fault, the eighth is healthy. The diagnosis needs no training.
Then the network with the vanishing gradient is trained twice: without a change, and with the first
change in the advice, initial weights from the theory.

    python examples/09_diagnose.py

Needs scikit-learn for the digits and matplotlib for the picture.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import datasets, diagnosis, plots

LARGE = keras.initializers.RandomNormal(stddev=1.0)


def build(
    activation: str | ks.Surrogate,
    depth: int,
    initializer: str | keras.initializers.Initializer = "he_normal",
) -> keras.Sequential:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,))])
    for number in range(1, depth + 1):
        # The same initializer object would give layers of the same shape equal weights.
        weights = keras.initializers.get(initializer).clone()
        model.add(
            keras.layers.Dense(64, activation, kernel_initializer=weights, name=f"hidden_{number}")
        )
    model.add(keras.layers.Dense(10, name="output"))
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(True),
        metrics=["accuracy"],
    )
    return model


def models(x: np.ndarray) -> dict[str, tuple[keras.Model, np.ndarray]]:
    """A model and a batch for each fault."""
    dead = build("relu", 4)
    dead.get_layer("hidden_3").bias.assign([-100.0] * 64)
    return {
        "nothing": (build("relu", 6), x),
        "a dead layer": (dead, x),
        "saturated": (build("tanh", 5, LARGE), x),
        "exploding weights": (build("relu", 5, LARGE), x),
        "inputs not centred": (build("relu", 3), x + 5),
        "vanishing gradient": (build("sigmoid", 5, "glorot_uniform"), x),
        "collapsed signal": (build("sigmoid", 20, "glorot_uniform"), x),
        "surrogate far from the slope": (build(ks.get("sugar_bsilu"), 30), x),
    }


def accuracy(
    initializer: str | keras.initializers.Initializer, data: datasets.Dataset, epochs: int
) -> float:
    """Trains the network whose gradient vanishes; returns its test accuracy."""
    model = build("sigmoid", 5, initializer)
    model.fit(data.x_train.reshape(-1, 64), data.y_train, epochs=epochs, verbose=0)
    _, score = model.evaluate(data.x_test.reshape(-1, 64), data.y_test, verbose=0)
    return score


def main(epochs: int = 15, output: str | None = None) -> dict[str, object]:
    """Prints and draws.

    Returns:
        found: for each model, the numbers of its findings by their kinds; accuracy: without and
        with the change.
    """
    data = datasets.load("digits")
    console = Console()
    images = data.x_train[:256].reshape(-1, 64)
    y = data.y_train[:256]
    results = {fault: diagnosis.diagnose(*pair, y) for fault, pair in models(images).items()}
    table = Table("planted", "found", "layer", "number", title="One batch, no training")
    for fault, result in results.items():
        for finding in result.findings:
            table.add_row(fault, finding.kind, finding.layer, f"{finding.value:.2g}")
    console.print(table)
    results["vanishing gradient"].print(console)
    folder = Path(output or tempfile.mkdtemp(prefix="diagnose-"))
    plots.save(plots.diagnosis(results["collapsed signal"]), folder / "diagnosis.png")
    advised = ks.initializers.CriticalNormal("sigmoid")
    before = accuracy("glorot_uniform", data, epochs)
    after = accuracy(advised, data, epochs)
    console.print(
        f"\nTest accuracy after {epochs} epochs: {before:.1%}; with the advised weights: "
        f"{after:.1%}. Picture: {folder}."
    )
    found = {
        fault: {finding.kind: finding.value for finding in each.findings}
        for fault, each in results.items()
    }
    return {"found": found, "accuracy": [before, after]}


if __name__ == "__main__":
    main()
