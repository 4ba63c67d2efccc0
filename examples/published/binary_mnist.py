"""The binary network of larq's tutorial on MNIST, in Keras 3, with three slopes for the sign.

    python examples/published/binary_mnist.py [--data-dir FOLDER]

The tutorial (docs.larq.dev/larq/tutorials/mnist, one run) reports 97.62 % on the test images. Its
network: convolutions of 32, 64 and 64 channels and two Dense layers, all with binary weights and
all but the first with binary inputs; latent weights clipped to [-1, 1]; Adam, batches of 64, six
epochs, images in [-1, 1]. Each slope has the learning rate with the best validation accuracy of one
start after one epoch.
"""

from __future__ import annotations

import argparse
import functools

import keras
import study

import keras_surrogate as ks
from keras_surrogate import datasets

PUBLISHED = 97.62
SLOPES = ("ste_sign", "approx_sign", "swish_sign")
RATES = (0.0003, 0.001, 0.003, 0.01)
SEEDS = range(5)
EPOCHS = 6
VALIDATION = 5000


def binary(layer: keras.layers.Layer, sign: str) -> keras.layers.Layer:
    """A layer whose kernel is replaced by its signs."""
    layer.kernel_constraint = ks.constraints.WeightClip(1.0)
    return ks.layers.SurrogateWeights(layer, sign)


def network(sign: str) -> keras.Model:
    """The tutorial's network, with a preset for all signs."""
    convolution = functools.partial(keras.layers.Conv2D, kernel_size=3, use_bias=False)
    dense = functools.partial(keras.layers.Dense, use_bias=False)
    normalized = functools.partial(keras.layers.BatchNormalization, scale=False)
    activation = functools.partial(ks.layers.SurrogateActivation, sign)
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            binary(convolution(32), sign),
            keras.layers.MaxPooling2D(),
            normalized(),
            activation(),
            binary(convolution(64), sign),
            keras.layers.MaxPooling2D(),
            normalized(),
            activation(),
            binary(convolution(64), sign),
            normalized(),
            keras.layers.Flatten(),
            activation(),
            binary(dense(64), sign),
            normalized(),
            activation(),
            binary(dense(10), sign),
            normalized(),
        ]
    )


def train(
    data: datasets.Dataset, slope: str, rate: float, seed: int, epochs: int
) -> dict[str, float]:
    """Train one network; its validation and test accuracy."""
    keras.utils.set_random_seed(seed)
    x_train = 2 * data.x_train[..., None] - 1
    model = network(slope)
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=50,
    )
    model.fit(
        x_train[:-VALIDATION], data.y_train[:-VALIDATION], batch_size=64, epochs=epochs, verbose=0
    )
    validation = model.evaluate(
        x_train[-VALIDATION:], data.y_train[-VALIDATION:], verbose=0, return_dict=True
    )
    test = model.evaluate(2 * data.x_test[..., None] - 1, data.y_test, verbose=0, return_dict=True)
    return {"validation": validation["accuracy"], "test": test["accuracy"]}


def main(data_dir: str | None = None) -> None:
    """Train what is missing, and write the table."""
    data = datasets.load("mnist", data_dir)
    train_on = functools.partial(train, data)
    trials = [
        {"slope": slope, "rate": rate, "seed": 0, "epochs": 1} for slope in SLOPES for rate in RATES
    ]
    rates = study.best(study.run("binary_mnist", trials, train_on), "rate", "validation")
    lines = [["larq's tutorial, ste_sign", 0.001, f"{PUBLISHED}", "one run"]]
    for slope, rate in rates.items():
        settings = [
            {"slope": slope, "rate": rate, "seed": seed, "epochs": EPOCHS} for seed in SEEDS
        ]
        runs = study.run("binary_mnist", settings, train_on)
        accuracies = [one["test"] for one in runs]
        span = f"{100 * min(accuracies):.2f} to {100 * max(accuracies):.2f}"
        lines.append([f"ours, {slope}", rate, study.percent(accuracies), span])
    heading = ["network", "learning rate", "test accuracy, %", "five starts"]
    study.write("binary_mnist", study.markdown(heading, lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder with the four idx files of MNIST")
    main(parser.parse_args().data_dir)
