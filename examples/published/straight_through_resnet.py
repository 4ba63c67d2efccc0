"""The slopes of straight_through.py in a residual network, where two of them collapse.

    python examples/published/straight_through_resnet.py [--data-dir FOLDER]

Table 1 of arXiv:1903.05662 has ResNet-20 on CIFAR-10 with quantised ReLUs of 2 bits: 46.52 % with
the identity's slope, 48.05 % with ReLU's and 88.39 % with clipped ReLU's. Here is the same depth in
small: half the channels (8, 16, 32), 10 000 images, a tenth of the epochs, and each slope with a
learning rate of its own. Batch normalisation without scale and shift stands before each activation,
in a block after the sum.

Before the training from the float network, one batch says what to expect: the cosine of the first
kernel's gradient with that of the smooth network, and with finite differences of the loss over all
its coordinates, which are the same for all slopes; and the largest decrease of the loss along the
negative gradient (`diagnosis.alignment`, `diagnosis.first_order`).
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from typing import Any

import keras
import numpy as np
import straight_through
import study

import keras_surrogate as ks
from keras_surrogate import datasets, diagnosis
from keras_surrogate.diagnosis import references

PUBLISHED = {"linear": 46.52, "relu": 48.05, "clipped": 88.39}
WIDTHS = (8, 16, 32)
BLOCKS = 3
IMAGES = 10_000
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
SEEDS = range(3)
FLOAT_EPOCHS = 10
TRIAL_EPOCHS = 3
EPOCHS = 10
BATCH = 500
# Of a finite difference, in root mean squares of the weights, as in examples/evidence.
STEP = 0.3


def convolution(channels: int, strides: int = 1, size: int = 3) -> keras.layers.Layer:
    """A convolution with He's weights and no bias, as batch normalisation follows."""
    return keras.layers.Conv2D(
        channels,
        size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )


def network(activation: ks.Surrogate | str) -> keras.Model:
    """ResNet-20 of few channels: one convolution, nine blocks of two, one Dense layer."""

    def activated(x: keras.KerasTensor) -> keras.KerasTensor:
        # Averages that follow within a few hundred steps.
        normalized = keras.layers.BatchNormalization(momentum=0.9, center=False, scale=False)(x)
        return ks.layers.SurrogateActivation(activation)(normalized)

    inputs = keras.Input((32, 32, 3))
    x = activated(convolution(WIDTHS[0])(inputs))
    for stage, channels in enumerate(WIDTHS):
        for block in range(BLOCKS):
            shrinks = stage > 0 and block == 0
            strides = 2 if shrinks else 1
            bypass = convolution(channels, strides, size=1)(x) if shrinks else x
            inner = convolution(channels)(activated(convolution(channels, strides)(x)))
            x = activated(keras.layers.Add()([bypass, inner]))
    logits = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, logits)


@functools.cache
def images(data_dir: str | None) -> datasets.Dataset:
    """CIFAR-10 with fewer training images."""
    data = datasets.load("cifar10", data_dir)
    kept = IMAGES + straight_through.VALIDATION
    return dataclasses.replace(data, x_train=data.x_train[:kept], y_train=data.y_train[:kept])


@functools.lru_cache(maxsize=len(SEEDS))
def float_weights(seed: int, data_dir: str | None) -> list[np.ndarray]:
    """The weights of the float network of a start."""
    keras.utils.set_random_seed(seed)
    model = network("relu")
    straight_through.fit(model, images(data_dir), 0.03, FLOAT_EPOCHS)
    return model.get_weights()


def quantized(slope_name: str, seed: int, data_dir: str | None) -> keras.Model:
    """The quantised network of a slope with the weights of the float network of a start."""
    weights = float_weights(seed, data_dir)
    keras.utils.set_random_seed(seed)
    model = network(straight_through.slope(slope_name))
    model.set_weights(weights)
    return model


def train(
    data_dir: str | None, slope_name: str, rate: float, seed: int, epochs: int
) -> dict[str, float]:
    """Train a quantised network."""
    model = quantized(slope_name, seed, data_dir)
    validation, test = straight_through.fit(model, images(data_dir), rate, epochs)
    return {"validation": validation, "test": test}


class FirstDifference(references.Difference):
    """Finite differences of the loss by the weights of the first layer only."""

    def compare(self, case: references.Case) -> dict[str, references.Products]:
        name, variables = next(iter(case.groups.items()))
        return super().compare(dataclasses.replace(case, groups={name: variables}))


def before_training(
    data_dir: str | None, slope_name: str, seed: int
) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A compiled network with the float weights, and a batch."""
    model = quantized(slope_name, seed, data_dir)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    data = images(data_dir)
    return model, data.x_train[:BATCH], data.y_train[:BATCH]


def expect(data_dir: str | None, slope_name: str, seed: int) -> dict[str, float]:
    """What one batch says: the cosine at the first kernel with the smooth network, and the drop."""
    case = before_training(data_dir, slope_name, seed)
    cosine = diagnosis.alignment(*case, reference="smooth").rows[0].cosine
    return {"cosine": cosine, "drop": diagnosis.first_order(*case).drop}


def differ(data_dir: str | None, slope_name: str, seed: int) -> dict[str, float]:
    """The cosine at the first kernel with what a change of each of its weights does to the loss."""
    case = before_training(data_dir, slope_name, seed)
    found = diagnosis.alignment(*case, reference=FirstDifference(directions=2048, step=STEP))
    return {"difference": found.rows[0].cosine}


def mean(runs: list[dict[str, Any]], slope: str, result: str) -> float:
    """The mean of a result over the starts of a slope."""
    return float(np.mean([one[result] for one in runs if one["slope_name"] == slope]))


def main(data_dir: str | None = None) -> None:
    """Train what is missing, and write the table."""
    train_on = functools.partial(train, data_dir)
    name = "straight_through_resnet"
    trials = [
        {"slope_name": slope, "rate": rate, "seed": 0, "epochs": TRIAL_EPOCHS}
        for slope in PUBLISHED
        for rate in RATES
    ]
    rates = study.best(study.run(name, trials, train_on), "rate", "validation")
    lines = []
    starts = [{"slope_name": slope, "seed": seed} for seed in SEEDS for slope in PUBLISHED]
    expected = study.run(f"{name}_before", starts, functools.partial(expect, data_dir))
    # From one start, because each takes a forward pass for both signs of each of 216 weights.
    first = starts[: len(PUBLISHED)]
    differences = study.run(f"{name}_differences", first, functools.partial(differ, data_dir))
    settings = [
        {"slope_name": slope, "rate": rate, "seed": seed, "epochs": EPOCHS}
        for seed in SEEDS
        for slope, rate in rates.items()
    ]
    runs = study.run(name, settings, train_on)
    for slope, rate in rates.items():
        mine = [one["test"] for one in runs if one["slope_name"] == slope]
        cosine = mean(expected, slope, "cosine")
        difference = mean(differences, slope, "difference")
        drop = mean(expected, slope, "drop")
        span = f"{100 * min(mine):.1f} to {100 * max(mine):.1f}"
        lines.append(
            [
                slope,
                PUBLISHED[slope],
                study.percent(mine, 1),
                span,
                rate,
                f"{cosine:.2f}",
                f"{difference:.2f}",
                f"{drop:.3f}",
            ]
        )
    heading = ["slope", "published, %", "ours, %", "three starts", "learning rate"]
    measured = ["cosine before, smooth", "cosine before, difference", "drop before"]
    study.write(name, study.markdown([*heading, *measured], lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder with the files of CIFAR-10")
    main(parser.parse_args().data_dir)
