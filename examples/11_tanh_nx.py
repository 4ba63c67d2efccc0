"""Could tanh(n x), whose slope reaches n, prevent vanishing gradients? The question's numbers, and what n really does.

A slope below 1/n undoes one of n. Beyond |x| = 0.658 tanh(2x) is that flat; beyond 9.01 one slope
undoes 49 of 2; inside 0.441 it exceeds 1. No n gives pairs of slopes more room than n = 1.81, with
0.663: the first table.

tanh(n (W h + b)) is tanh(W' h + b') with W' = n W and b' = n b: the same function, trained on the
same images in the second table. With the same learning rate it learns otherwise; with n**2 times
that for all layers as well; and with n**2 times that for the hidden layers alone it is the same
network at every step, and to the last bit, since n is a power of 2. (`GradientScale` multiplies the
gradients of all layers before it: for SGD a learning rate of their own.)

    python examples/11_tanh_nx.py  (needs scikit-learn and matplotlib)
"""

import tempfile
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import datasets, theory

N, RATE, DEPTHS = 2, 0.05, (1, 2, 50)
# For hidden layers, for the last layer: factors of the learning rate.
RULES = {
    "r for all": (1, 1),
    "n r for all": (N, N),
    "n² r for all": (N**2, N**2),
    "n² r hidden, r last": (N**2, 1),
}


def build(steepness, hidden_rate=1, last_rate=1):
    """Three hidden layers of tanh(steepness x); all compute the same at the start."""
    keras.utils.set_random_seed(0)
    tanh = ks.Surrogate(ks.functions.ScaledTanh(steepness))
    hidden = [keras.layers.Dense(64, activation=tanh) for _ in range(3)]
    scale = ks.layers.GradientScale(hidden_rate / last_rate)
    model = keras.Sequential(
        [keras.Input((8, 8)), keras.layers.Flatten(), *hidden, scale, keras.layers.Dense(10)]
    )
    for layer in hidden:
        layer.kernel.assign(layer.kernel * (N / steepness))
    model.compile(
        keras.optimizers.SGD(RATE * last_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def thresholds_table():
    table = Table("depth", "n: 2 and best", "threshold of |x|", title="Slope below n^-(depth-1)")
    for depth in DEPTHS:
        for n in (N, theory.tanh_optimum(depth).n):
            table.add_row(
                str(depth), f"{n:.3f}", f"{theory.tanh_threshold(n, depth):.3f}", end_section=n != N
            )
    return table


def main(epochs=5, output=None):
    """Prints both tables and draws; returns the difference from tanh(nx) and the accuracy for each rule."""
    data, results = datasets.load("digits"), {}
    table = Table(
        "activation", "learning rate", title=f"The same start, {epochs} epochs of SGD on the digits"
    )
    for heading in ("largest difference\nof outputs from tanh(2x)", "test accuracy"):
        table.add_column(heading, justify="right")
    reference = None
    for name, rule in {"r": (), **RULES}.items():
        model = build(1 if rule else N, *rule)
        model.fit(data.x_train, data.y_train, epochs=epochs, verbose=0)
        outputs = model.predict(data.x_test, verbose=0)
        accuracy = float(np.mean(outputs.argmax(axis=1) == data.y_test))
        reference = outputs if reference is None else reference
        results[name] = difference, _ = float(np.max(np.abs(outputs - reference))), accuracy
        table.add_row(
            "tanh(x), n W" if rule else "tanh(2x)", name, f"{difference:.1e}", f"{accuracy:.1%}"
        )
    Console().print(thresholds_table(), table)
    folder = Path(output or tempfile.mkdtemp(prefix="tanh-nx-"))
    figure, axes = plt.subplots(1, len(DEPTHS), figsize=(14, 4), layout="constrained")
    for depth, ax in zip(DEPTHS, axes, strict=True):
        ks.plots.tanh_thresholds(depth, ax)
    ks.plots.save(axes, folder / "tanh_thresholds.png", dpi=120)
    plt.close(figure)
    print(f"Drawn in {folder}")
    return results


if __name__ == "__main__":
    main()
