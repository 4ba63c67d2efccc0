"""Three straight-through slopes for activations of two bits, as in Yin et al. 2019, on MNIST.

    python examples/published/straight_through.py [--data-dir FOLDER]

Table 1 of arXiv:1903.05662 has the validation accuracy of LeNet-5 with float weights and quantised
ReLUs of 2 bits for the slopes of the identity, ReLU and clipped ReLU: 98.49, 99.24 and 99.23 %.
The quantised ReLU of resolution a has the values 0, a, 2 a, 3 a:

    y = a * clip(ceil(x / a), 0, 3)

Batch normalisation without scale and shift stands before each, so that one resolution suits all
layers: the best for half-Gaussian inputs. Training starts from the float network, with SGD and
momentum 0.9. Theirs is 50 epochs at rates that the paper does not give; ours is fewer epochs, and
each slope has the rate with the best validation accuracy of one start.
"""

from __future__ import annotations

import argparse
import functools

import keras
import numpy as np
import study
import tensorflow as tf
from scipy import integrate, optimize, stats

import keras_surrogate as ks
from keras_surrogate import datasets

PUBLISHED = {"linear": 98.49, "relu": 99.24, "clipped": 99.23}
LEVELS = 3
RATES = (0.003, 0.01, 0.03, 0.1)
SEEDS = range(3)
FLOAT_EPOCHS = 5
TRIAL_EPOCHS = 3
EPOCHS = 15
VALIDATION = 5000


@functools.cache
def resolution() -> float:
    """The a with the least mean square error of the quantised ReLU for positive Gaussian inputs."""

    def error(a: float) -> float:
        ends = [0, *(a * np.arange(1, LEVELS)), 12]
        values = a * np.arange(1, LEVELS + 1)
        parts = [
            integrate.quad(lambda x, y=y: (x - y) ** 2 * stats.norm.pdf(x), low, high)[0]
            for low, high, y in zip(ends[:-1], ends[1:], values, strict=True)
        ]
        return sum(parts)

    return float(optimize.minimize_scalar(error, bounds=(0.1, 2), method="bounded").x)


def quantized_relu(x: tf.Tensor) -> tf.Tensor:
    """The quantised ReLU."""
    a = tf.cast(resolution(), x.dtype)
    return a * tf.clip_by_value(tf.math.ceil(x / a), 0, LEVELS)


def slope(name: str) -> ks.Surrogate:
    """The quantised ReLU with a slope of the table."""
    if name == "clipped":
        clipped = ks.functions.get("clipped_relu", max_value=LEVELS * resolution())
        return ks.Surrogate(quantized_relu, clipped)
    return ks.Surrogate(quantized_relu, name)


def network(activation: ks.Surrogate | str) -> keras.Model:
    """LeNet-5 with batch normalisation before each activation."""

    def activated(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
        normalized = keras.layers.BatchNormalization(center=False, scale=False)
        return [layer, normalized, ks.layers.SurrogateActivation(activation)]

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *activated(keras.layers.Conv2D(6, 5, padding="same", use_bias=False)),
            keras.layers.MaxPooling2D(),
            *activated(keras.layers.Conv2D(16, 5, use_bias=False)),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            *activated(keras.layers.Dense(120, use_bias=False)),
            *activated(keras.layers.Dense(84, use_bias=False)),
            keras.layers.Dense(10),
        ]
    )


def with_channels(x: np.ndarray) -> np.ndarray:
    """Grey images with one channel, coloured ones as they are."""
    return x[..., None] if x.ndim == 3 else x


def fit(
    model: keras.Model, data: datasets.Dataset, rate: float, epochs: int
) -> tuple[float, float]:
    """Train with a rate that falls to zero by a cosine; validation and test accuracy."""
    x = with_channels(data.x_train)
    steps = epochs * (-(-(len(x) - VALIDATION) // 128))
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=43,
    )
    model.fit(x[:-VALIDATION], data.y_train[:-VALIDATION], batch_size=128, epochs=epochs, verbose=0)
    validation = model.evaluate(
        x[-VALIDATION:], data.y_train[-VALIDATION:], verbose=0, return_dict=True
    )
    test = model.evaluate(with_channels(data.x_test), data.y_test, verbose=0, return_dict=True)
    return validation["accuracy"], test["accuracy"]


@functools.lru_cache(maxsize=1)
def float_weights(seed: int, data_dir: str | None) -> list[np.ndarray]:
    """The weights of the float network of a start."""
    keras.utils.set_random_seed(seed)
    model = network("relu")
    fit(model, datasets.load("mnist", data_dir), 0.03, FLOAT_EPOCHS)
    return model.get_weights()


def train(
    data_dir: str | None, slope_name: str, rate: float, seed: int, epochs: int
) -> dict[str, float]:
    """Train the quantised network of a slope from the float network of a start."""
    weights = float_weights(seed, data_dir)
    keras.utils.set_random_seed(seed)
    model = network(slope(slope_name))
    model.set_weights(weights)
    validation, test = fit(model, datasets.load("mnist", data_dir), rate, epochs)
    return {"validation": validation, "test": test}


def main(data_dir: str | None = None) -> None:
    """Train what is missing, and write the table."""
    train_on = functools.partial(train, data_dir)
    trials = [
        {"slope_name": name, "rate": rate, "seed": 0, "epochs": TRIAL_EPOCHS}
        for name in PUBLISHED
        for rate in RATES
    ]
    found = study.run("straight_through", trials, train_on)
    rates = study.best(found, "rate", "validation")
    settings = [
        {"slope_name": name, "rate": rate, "seed": seed, "epochs": EPOCHS}
        for seed in SEEDS
        for name, rate in rates.items()
    ]
    runs = study.run("straight_through", settings, train_on)
    lines = []
    for name, rate in rates.items():
        mine = [one["test"] for one in runs if one["slope_name"] == name]
        span = f"{100 * min(mine):.2f} to {100 * max(mine):.2f}"
        lines.append([name, PUBLISHED[name], study.percent(mine), span, rate])
    heading = ["slope", "published, %", "ours, %", "three starts", "learning rate"]
    study.write("straight_through", study.markdown(heading, lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder with the four idx files of MNIST")
    main(parser.parse_args().data_dir)
