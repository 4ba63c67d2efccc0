"""What the theory says of five slopes before training, and what training then shows.

Twenty ReLU layers of width 64 with He's weights, on digits. For each slope in the backward pass the
gradient norm of every layer is predicted; then the network is trained, and its first gradients are
drawn on the same axis. (The gradient of a kernel is that of its output, which is predicted, times
its input, whose size the prediction has too.)

    python examples/07_predict_then_train.py        five epochs of Adam, one start
    python examples/07_predict_then_train.py 5      means over five starts, a few minutes

Needs scikit-learn for the digits and matplotlib for the picture.
"""

import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import datasets, plots, theory

DEPTH, WIDTH, INITIALIZER = 20, 64, "he_normal"
PAIRS = {
    "true slope": ks.get("relu"),
    "leaky slope": ks.get("leaky_backward"),
    "softplus slope": ks.get("artificial_relu"),
    "B-SiLU slope": ks.get("sugar_bsilu"),
    "B-SiLU slope, balanced": theory.balance("sugar_bsilu", INITIALIZER),
}


def build(pair, seed):
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


def train(pair, data, epochs, seed):
    """The test accuracy, and the gradient norm of each hidden layer in the first step, over that of the last one."""
    logger, model = ks.callbacks.GradientNormLogger(), build(pair, seed)
    model.fit(data.x_train, data.y_train, epochs=epochs, callbacks=[logger], verbose=0)
    norms = logger.norms[0][:DEPTH]
    return model.evaluate(data.x_test, data.y_test, verbose=0)[1], norms / norms[-1]


def per_unit_of_input(norms, prediction):
    """From gradients of kernels to those of pre-activations, on the scale of the prediction at the last layer."""
    norms = norms / np.sqrt(prediction.signal_variance)
    return norms * prediction.gradient_norm[-1] / norms[-1]


def main(epochs=5, seeds=1, output=None):
    """Draws and prints; returns, of each slope, the ratios predicted and measured, and the accuracy."""
    data, results, predictions, measured = datasets.load("digits"), {}, {}, {}
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
        prediction = predictions[name] = theory.predict(
            pair, DEPTH, INITIALIZER, input_variance=power, width=WIDTH
        )
        accuracies, norms = zip(
            *[train(pair, data, epochs, seed) for seed in range(seeds)], strict=True
        )
        measured[name] = per_unit_of_input(np.exp(np.mean(np.log(norms), axis=0)), prediction)
        ratios = prediction.gradient_ratio, float(measured[name][0] / measured[name][-1])
        results[name] = *ratios, float(np.mean(accuracies))
        cells = [f"{ratio:.2g}" for ratio in ratios]
        table.add_row(name, *cells, f"{prediction.alignment[0]:.2f}", f"{results[name][2]:.1%}")
    Console().print(table)
    folder = Path(output or tempfile.mkdtemp(prefix="predict-then-train-"))
    plots.save(plots.prediction(predictions, measured=measured), folder / "predict_then_train.png")
    print(f"The picture is in {folder}.")
    return results


if __name__ == "__main__":
    main(seeds=int(sys.argv[1]) if len(sys.argv) > 1 else 1)
