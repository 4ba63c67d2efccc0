"""The question if tanh(n x), whose slope reaches n, prevents vanishing gradients; and its answer.

The first table has the numbers of the question. A slope below 1/n cancels one slope of n. The slope
of tanh(2x) is below 1/2 for |x| > 0.658, and above 1 for |x| < 0.441. For |x| > 9.01 one slope
cancels 49 slopes of 2. For pairs of slopes the best n is 1.81, with 0.663.

The second table has the answer. tanh(n (W h + b)) is tanh(W' h + b') with W' = n W and b' = n b: it
is the same function. Trained on the same images with the same learning rate, it learns differently.
With n**2 times the learning rate for all layers it learns differently, too. With n**2 times the
learning rate for the hidden layers only, both networks are the same at each step. They agree to the
last bit, because n is a power of 2. (`GradientScale` multiplies the gradients of all layers before
it, which for SGD is a separate learning rate.)

    python examples/11_tanh_nx.py

Needs scikit-learn for the digits and matplotlib for the picture.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import datasets, theory

N = 2
RATE = 0.05
DEPTHS = (1, 2, 50)
# Factors of the learning rate, for the hidden layers and for the last layer.
RULES = {
    "r for all": (1, 1),
    "n r for all": (N, N),
    "n² r for all": (N**2, N**2),
    "n² r hidden, r last": (N**2, 1),
}


def build(steepness: float, hidden_rate: float = 1, last_rate: float = 1) -> keras.Sequential:
    """Three hidden layers of tanh(steepness x). Initially all networks are the same function."""
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


def thresholds_table() -> Table:
    table = Table("depth", "n: 2 and best", "threshold of |x|", title="Slope below n^-(depth-1)")
    for depth in DEPTHS:
        for n in (N, theory.tanh_optimum(depth).n):
            threshold = theory.tanh_threshold(n, depth)
            table.add_row(str(depth), f"{n:.3f}", f"{threshold:.3f}")
        table.add_section()
    return table


def main(epochs: int = 5, output: str | None = None) -> dict[str, tuple[float, float]]:
    """Prints both tables and draws.

    Returns:
        For each rule of RULES, and for "r", tanh(nx) itself: the largest difference of the outputs
        from tanh(nx), and the test accuracy.
    """
    data = datasets.load("digits")
    results = {}
    table = Table(
        "activation",
        "learning rate",
        title=f"The same initial network, {epochs} epochs of SGD on the digits",
    )
    for heading in ("largest difference\nof outputs from tanh(2x)", "test accuracy"):
        table.add_column(heading, justify="right")
    networks: dict[str, tuple[str, tuple[float, ...]]] = {"r": ("tanh(2x)", (N,))}
    for name, rule in RULES.items():
        networks[name] = ("tanh(x), n W", (1, *rule))
    reference = None
    for name, (activation, arguments) in networks.items():
        model = build(*arguments)
        model.fit(data.x_train, data.y_train, epochs=epochs, verbose=0)
        outputs = model.predict(data.x_test, verbose=0)
        if reference is None:
            reference = outputs
        difference = float(np.max(np.abs(outputs - reference)))
        accuracy = float(np.mean(outputs.argmax(axis=1) == data.y_test))
        results[name] = (difference, accuracy)
        table.add_row(activation, name, f"{difference:.1e}", f"{accuracy:.1%}")
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
