"""Gradient norms of five slopes, predicted before training and measured in training.

Twenty ReLU layers of width 64 with He's weights, on digits. For each slope in the backward pass the
gradient norm of each layer is predicted. Then the network is trained, and its first gradients are
drawn on the same axes. (The prediction is for the gradient of a layer's output. The gradient of a
kernel is this times the layer's input, whose size is predicted too.)

    python examples/07_predict_then_train.py        five epochs of Adam, one seed
    python examples/07_predict_then_train.py 5      means over five seeds, a few minutes

Needs scikit-learn for the digits and matplotlib for the picture.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import datasets, plots, theory

DEPTH = 20
WIDTH = 64
INITIALIZER = "he_normal"
PAIRS = {
    "true slope": ks.get("relu"),
    "leaky slope": ks.get("leaky_backward"),
    "softplus slope": ks.get("artificial_relu"),
    "B-SiLU slope": ks.get("sugar_bsilu"),
    "B-SiLU slope, balanced": theory.balance("sugar_bsilu", INITIALIZER),
}


def build(pair: ks.Surrogate, seed: int) -> keras.Sequential:
    keras.utils.set_random_seed(seed)
    hidden = [
        keras.layers.Dense(WIDTH, activation=pair, kernel_initializer=INITIALIZER)
        for _ in range(DEPTH)
    ]
    model = keras.Sequential(
        [keras.Input((8, 8)), keras.layers.Flatten(), *hidden, keras.layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return model


def train(
    pair: ks.Surrogate, data: datasets.Dataset, epochs: int, seed: int
) -> tuple[float, np.ndarray]:
    """Trains one network.

    Returns:
        The test accuracy, and the gradient norm of each hidden layer in the first step, over that
        of the last one.
    """
    model = build(pair, seed)
    logger = ks.callbacks.GradientNormLogger()
    model.fit(data.x_train, data.y_train, epochs=epochs, callbacks=[logger], verbose=0)
    _, accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)
    norms = logger.norms[0][:DEPTH]
    return accuracy, norms / norms[-1]


def per_unit_of_input(norms: np.ndarray, prediction: theory.Prediction) -> np.ndarray:
    """Gradient norms of pre-activations from those of kernels.

    The last one is scaled to the predicted one.
    """
    norms = norms / np.sqrt(prediction.signal_variance)
    return norms * prediction.gradient_norm[-1] / norms[-1]


def main(
    epochs: int = 5, seeds: int = 1, output: str | None = None
) -> dict[str, tuple[float, float, float]]:
    """Draws and prints.

    Returns:
        For each slope, the ratio of first to last layer as predicted and as measured, and the test
        accuracy.
    """
    data = datasets.load("digits")
    results = {}
    predictions = {}
    measured = {}
    power = float(np.mean(np.square(data.x_train)))
    table = Table(
        "slope",
        "predicted",
        "measured",
        "cosine, predicted",
        "test accuracy",
        title="First over last layer",
    )
    for name, pair in PAIRS.items():
        prediction = theory.predict(pair, DEPTH, INITIALIZER, input_variance=power, width=WIDTH)
        runs = [train(pair, data, epochs, seed) for seed in range(seeds)]
        accuracies, norms = zip(*runs, strict=True)
        geometric_mean = np.exp(np.mean(np.log(norms), axis=0))
        predictions[name] = prediction
        measured[name] = per_unit_of_input(geometric_mean, prediction)
        predicted_ratio = prediction.gradient_ratio
        measured_ratio = float(measured[name][0] / measured[name][-1])
        accuracy = float(np.mean(accuracies))
        results[name] = (predicted_ratio, measured_ratio, accuracy)
        table.add_row(
            name,
            f"{predicted_ratio:.2g}",
            f"{measured_ratio:.2g}",
            f"{prediction.alignment[0]:.2f}",
            f"{accuracy:.1%}",
        )
    Console().print(table)
    folder = Path(output or tempfile.mkdtemp(prefix="predict-then-train-"))
    plots.save(plots.prediction(predictions, measured=measured), folder / "predict_then_train.png")
    print(f"The picture is in {folder}.")
    return results


if __name__ == "__main__":
    main(seeds=int(sys.argv[1]) if len(sys.argv) > 1 else 1)
