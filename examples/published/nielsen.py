"""The vanishing gradient of Nielsen's book, chapter 5: his record, and twenty starts of ours.

    python examples/published/nielsen.py [--data-dir FOLDER]

His networks: 784 pixels, two, three or four layers of 30 sigmoids, ten sigmoid outputs; weights of
variance 1 / fan_in, biases of variance 1; cross-entropy on the first 1000 training images of MNIST;
500 steps of gradient descent on all of them, rate 0.1; L2 regularisation with lambda 5. He records
the norm of the mean gradient of each hidden layer's biases, which is our logger's number of that
variable (`per="variable"`). His numbers are data/nielsen.csv, from one start for each depth.

The same networks are then trained with other slopes, and with the weights that the theory calls
critical.
"""

from __future__ import annotations

import argparse
import csv
import functools
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import study
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import datasets, theory

DEPTHS = (2, 3, 4)
WIDTH = 30
STEPS = 500
IMAGES = 1000
SEEDS = range(20)
# The steps that are kept, and those of the table.
KEPT = (*range(0, STEPS, 5), STEPS - 1)
SHOWN = (0, 100, STEPS - 1)
SIGMOID = ks.Surrogate("sigmoid")
SLOPES = {
    "true": SIGMOID,
    "4 * true": SIGMOID.scaled(4.0),
    "tanh": ks.Surrogate("sigmoid", "tanh"),
    "flat spot": ks.get("flat_spot"),
    "true, critical weights": SIGMOID,
}
FEWER_SEEDS = range(5)


def published() -> dict[int, np.ndarray]:
    """His norms: from the number of hidden layers to an array of shape (steps, layers)."""
    path = Path(__file__).parent / "data" / "nielsen.csv"
    rows = csv.reader(line for line in path.read_text().splitlines() if line[0] != "#")
    next(rows)
    found: dict[int, list[list[float]]] = {depth: [] for depth in DEPTHS}
    for depth, _, *norms in rows:
        found[int(depth)].append([float(norm) for norm in norms if norm])
    return {depth: np.array(norms) for depth, norms in found.items()}


def cross_entropy(wanted: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The cross-entropy of ten sigmoid outputs, summed over them."""
    losses = tf.nn.sigmoid_cross_entropy_with_logits(wanted, logits)
    return tf.reduce_sum(losses, axis=1)


def network(depth: int, slope: str) -> keras.Model:
    """His network, with a slope of `SLOPES`; it returns what enters the last sigmoids."""
    drawn = keras.initializers.VarianceScaling(1.0, "fan_in", "untruncated_normal")
    hidden = ks.initializers.CriticalNormal("sigmoid") if "critical" in slope else drawn
    bias = (
        keras.initializers.Zeros()
        if "critical" in slope
        else keras.initializers.RandomNormal(stddev=1.0)
    )
    layers = [
        keras.layers.Dense(
            WIDTH, activation=SLOPES[slope], kernel_initializer=hidden, bias_initializer=bias
        )
        for _ in range(depth)
    ]
    last = keras.layers.Dense(10, kernel_initializer=drawn, bias_initializer=bias)
    model = keras.Sequential([keras.Input((784,)), *layers, last])
    # A step multiplies the weights by 1 - 0.1 * 5 / 1000, as his does.
    optimizer = keras.optimizers.SGD(0.1, weight_decay=5 / IMAGES)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, cross_entropy, steps_per_execution=50)
    return model


def train(data: datasets.Dataset, depth: int, slope: str, seed: int) -> dict[str, object]:
    """The norms of the bias gradients in the steps kept, the mean loss, and the test accuracy."""
    keras.utils.set_random_seed(seed)
    model = network(depth, slope)
    # His pixels are divided by 256.
    x = data.x_train[:IMAGES].reshape(IMAGES, 784) * np.float32(255 / 256)
    y = np.eye(10, dtype="float32")[data.y_train[:IMAGES]]
    logger = ks.callbacks.GradientNormLogger(per="variable")
    steps = tf.data.Dataset.from_tensors((x, y)).repeat(STEPS)
    history = model.fit(steps, epochs=1, shuffle=False, callbacks=[logger], verbose=0)
    biases = [place for place, name in enumerate(logger.layer_names) if name.endswith("bias")][
        :depth
    ]
    logits = model.predict(data.x_test.reshape(-1, 784) * np.float32(255 / 256), verbose=0)
    norms = logger.norms[KEPT, :][:, biases]
    return {
        "norms": [[float(f"{norm:.4g}") for norm in row] for row in norms],
        "mean_loss": history.history["loss"][0],
        "test": float(np.mean(logits.argmax(1) == data.y_test)),
    }


def predicted(data: datasets.Dataset, depth: int) -> np.ndarray:
    """The theory's norms over that of the last hidden layer, at the start and for width 30."""
    power = float(np.mean(np.square(data.x_train[:IMAGES] * 255 / 256)))
    found = theory.predict(
        SIGMOID, depth, 1.0, bias_variance=1.0, input_variance=power, width=WIDTH
    )
    return found.gradient_norm / found.gradient_norm[-1]


def draw(theirs: dict[int, np.ndarray], ours: dict[int, np.ndarray], ratios: dict) -> None:
    """His lines within the band of our starts, a panel for each depth."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), sharey=True, layout="constrained")
    for ax, depth in zip(axes, DEPTHS, strict=True):
        low, middle, high = np.quantile(ours[depth], [0.025, 0.5, 0.975], axis=0)
        for layer in range(depth):
            color = f"C{layer}"
            ax.fill_between(KEPT, low[:, layer], high[:, layer], color=color, alpha=0.2, lw=0)
            ax.plot(theirs[depth][:, layer], color=color, lw=1.4, label=f"layer {layer + 1}")
            start = ratios[depth][layer] * middle[0, -1]
            ax.plot([-12], [start], marker=">", color=color, ms=6, clip_on=False)
        ax.set(yscale="log", xlim=(-12, STEPS), xlabel="step", title=f"{depth} hidden layers")
        ax.grid(alpha=0.25)
    axes[0].set_ylabel("norm of the mean gradient of the biases")
    axes[0].plot([], [], color="0.3", label="Nielsen's start")
    axes[0].fill_between([], [], [], color="0.3", alpha=0.2, label="20 starts of ours, 95 %")
    axes[0].plot([], [], ">", color="0.3", label="theory, before training")
    for ax in axes:
        ax.legend(fontsize="small", frameon=False)
    figure.savefig(study.RESULTS / "nielsen.png", dpi=110)
    plt.close(figure)


def main(data_dir: str | None = None) -> None:
    """Train what is missing; write the tables and the picture."""
    data = datasets.load("mnist", data_dir)
    train_on = functools.partial(train, data)
    theirs = published()
    ours = {}
    ratios = {}
    lines = []
    for depth in DEPTHS:
        settings = [{"depth": depth, "slope": "true", "seed": seed} for seed in SEEDS]
        runs = study.run("nielsen", settings, train_on)
        ours[depth] = np.array([one["norms"] for one in runs])
        ratios[depth] = predicted(data, depth)
        for step in SHOWN:
            norms = ours[depth][:, KEPT.index(step)]
            low, middle, high = np.quantile(norms, [0.025, 0.5, 0.975], axis=0)
            for layer in range(depth):
                his = theirs[depth][step, layer]
                inside = low[layer] <= his <= high[layer]
                guess = f"{ratios[depth][layer] * middle[-1]:.3g}" if step == 0 else ""
                lines.append(
                    [
                        f"{depth} layers, step {step}, layer {layer + 1}",
                        f"{his:.3g}",
                        f"{middle[layer]:.3g} ({low[layer]:.2g} to {high[layer]:.2g})",
                        "yes" if inside else "no",
                        guess,
                    ]
                )
    draw(theirs, ours, ratios)
    heading = ["", "Nielsen", "ours, 20 starts", "within", "theory, from the last layer"]
    study.write("nielsen", study.markdown(heading, lines))

    lines = []
    for depth in DEPTHS:
        for slope in SLOPES:
            settings = [{"depth": depth, "slope": slope, "seed": seed} for seed in FEWER_SEEDS]
            runs = study.run("nielsen", settings, train_on)
            norms = np.array([one["norms"] for one in runs])
            first = np.median(norms[:, :, 0] / norms[:, :, -1], axis=0)
            lines.append(
                [
                    f"{depth} layers, {slope}",
                    *(f"{first[KEPT.index(step)]:.2g}" for step in SHOWN),
                    study.percent([one["test"] for one in runs], 1),
                ]
            )
    heading = [
        "slope",
        *(f"first over last layer, step {step}" for step in SHOWN),
        "test accuracy, %",
    ]
    study.write("nielsen_slopes", study.markdown(heading, lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder with the four idx files of MNIST")
    main(parser.parse_args().data_dir)
