"""How deep a network of few levels can be: the theory of Blumenfeld et al. 2019, and trainings.

    python examples/published/staircases.py [--data-dir FOLDER] [--theory]

A network whose activations have N equal steps keeps two inputs apart over the more layers, the
nearer chi is to 1: the factor by which a small correlation of two inputs shrinks in each layer.
For the best spacing of the steps, arXiv:1906.00771 finds that the depth scale -1 / log(chi) grows
as N**1.82. `theory.predict` gives chi for each spacing; SciPy finds the best one.

1 - chi is also the least mean square error of a uniform quantiser of N levels for Gaussian numbers,
if its levels may be scaled freely. So J. Max's table of 1960 (doi:10.1109/TIT.1960.1057548), where
they may not, is an independent check: it is equal or a little larger.

Then networks of width 256 are trained on MNIST with the best spacing, critical weights and the
clipped straight-through slope: accuracy should fall where the depth passes some depth scales.
"""

from __future__ import annotations

import argparse
import functools

import keras
import matplotlib.pyplot as plt
import numpy as np
import study
from scipy import optimize

import keras_surrogate as ks
from keras_surrogate import datasets, theory

LEVELS = (2, 3, 4, 5, 7, 8, 10, 16, 32, 64, 128, 256, 512, 1024)
# Max 1960, table II: the error of the best uniform quantiser, and its step.
MAX = {
    2: (0.3634, 1.596),
    3: (0.1902, 1.224),
    4: (0.1188, 0.9957),
    8: (0.03744, 0.5860),
    16: (0.01154, 0.3352),
    32: (0.003495, 0.1881),
}
TRAINED = (4, 7, 10)
DEPTHS = (10, 20, 30, 40, 50, 60)
SEEDS = range(3)
WIDTH = 256
IMAGES = 20_000
EPOCHS = 3


def staircase(levels: int, spacing: float) -> ks.functions.Function:
    """The staircase."""
    return ks.functions.get("staircase", levels=levels, spacing=spacing)


def power(levels: int, spacing: float) -> float:
    """The mean square of the outputs for standard normal inputs."""
    found = theory.predict(staircase(levels, spacing), depth=2, weight_variance=1.0)
    return float(found.signal_variance[1])


def chi(levels: int, spacing: float) -> float:
    """The factor of a small correlation in a layer whose pre-activations have variance 1."""
    variance = 1 / power(levels, spacing)
    found = theory.predict(
        staircase(levels, spacing),
        depth=2,
        weight_variance=variance,
        input_variance=1 / variance,
        input_correlation=1e-3,
    )
    before, after = found.correlation
    return float(after / before)


@functools.cache
def best(levels: int) -> tuple[float, float]:
    """The spacing with the largest chi, and 1 - chi there."""
    if levels == 2:
        # A sign has a single jump.
        return 1.0, 1 - chi(2, 1.0)
    # Near 4 * sqrt(log(levels)) / levels for many levels.
    guess = 4 * np.sqrt(np.log(levels)) / levels
    found = optimize.minimize_scalar(
        lambda spacing: 1 - chi(levels, spacing),
        bounds=(guess / 3, 2 * guess),
        method="bounded",
        options={"xatol": 1e-5 * guess},
    )
    return float(found.x), float(found.fun)


def depth_scale(levels: int) -> float:
    """The number of layers in which a small correlation shrinks by a factor e."""
    return -1 / np.log1p(-best(levels)[1])


def network(levels: int, depth: int) -> keras.Model:
    """Layers of the best staircase with weights that keep the variance of 1."""
    spacing, _ = best(levels)
    variance = 1 / power(levels, spacing)
    # The identity through the levels, flat beyond the last jump by half a spacing.
    reach = spacing * levels / 2
    slope = ks.functions.get("clip", low=-reach, high=reach)
    activation = ks.Surrogate(staircase(levels, spacing), slope, 2 / (levels - 1) / spacing)
    drawn = keras.initializers.VarianceScaling(variance, "fan_in", "untruncated_normal")
    layers = [
        keras.layers.Dense(WIDTH, activation=activation, kernel_initializer=drawn, use_bias=False)
        for _ in range(depth)
    ]
    return keras.Sequential([keras.Input((784,)), *layers, keras.layers.Dense(10)])


def train(data: datasets.Dataset, levels: int, depth: int, seed: int) -> dict[str, float]:
    """The test accuracy of a network after some epochs."""
    keras.utils.set_random_seed(seed)
    model = network(levels, depth)
    mean = data.x_train.mean()
    deviation = data.x_train.std()
    model.compile(
        keras.optimizers.Adam(0.0003),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=52,
    )
    x_train = (data.x_train[:IMAGES].reshape(IMAGES, -1) - mean) / deviation
    x_test = (data.x_test.reshape(len(data.x_test), -1) - mean) / deviation
    model.fit(x_train, data.y_train[:IMAGES], batch_size=128, epochs=EPOCHS, verbose=0)
    _, accuracy = model.evaluate(x_test, data.y_test, batch_size=500, verbose=0)
    return {"test": accuracy}


def write_theory() -> None:
    """The table of the theory."""
    lines = []
    for levels in LEVELS:
        spacing, distance = best(levels)
        error, step = MAX.get(levels, ("", ""))
        shown = f"{spacing:.4g}" if levels > 2 else ""
        lines.append([levels, shown, f"{distance:.4g}", f"{depth_scale(levels):.4g}", error, step])
    scales = {levels: depth_scale(levels) for levels in LEVELS}
    exponents = {
        low: np.log(scales[1024] / scales[low]) / np.log(1024 / low) for low in (16, 64, 256)
    }
    told = ", ".join(f"{found:.2f} from {low} levels on" for low, found in exponents.items())
    law = f"The depth scale grows as a power of the levels: {told} (published: 1.82)."
    heading = ["levels", "best spacing", "1 - chi", "depth scale", "Max 1960", "his step"]
    study.write("staircases_theory", f"{study.markdown(heading, lines)}\n{law}\n")


def main(data_dir: str | None = None, theory_only: bool = False) -> None:
    """Write the table of the theory, train what is missing, and write its table and picture."""
    write_theory()
    if theory_only:
        return
    train_on = functools.partial(train, datasets.load("mnist", data_dir))
    lines = []
    _, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for levels in TRAINED:
        accuracies = []
        for depth in DEPTHS:
            settings = [{"levels": levels, "depth": depth, "seed": seed} for seed in SEEDS]
            accuracies.append([one["test"] for one in study.run("staircases", settings, train_on)])
        scales = np.array(DEPTHS) / depth_scale(levels)
        ax.plot(scales, 100 * np.mean(accuracies, axis=1), "o-", label=f"{levels} levels")
        lines.append(
            [
                levels,
                f"{depth_scale(levels):.3g}",
                *(study.percent(found, 1) for found in accuracies),
            ]
        )
    ax.set(xlabel="depth / depth scale", ylabel="test accuracy, %")
    ax.grid(alpha=0.25)
    ax.legend(frameon=False)
    ax.figure.savefig(study.RESULTS / "staircases.png", dpi=110)
    heading = ["levels", "depth scale", *(f"depth {depth}, %" for depth in DEPTHS)]
    study.write("staircases", study.markdown(heading, lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder with the four idx files of MNIST")
    parser.add_argument("--theory", action="store_true", help="the table of the theory only")
    arguments = parser.parse_args()
    main(arguments.data_dir, arguments.theory)
