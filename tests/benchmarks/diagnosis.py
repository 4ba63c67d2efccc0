"""What `diagnose` takes over one forward and backward pass of the same model, and what `swap` takes.

python tests/benchmarks/diagnosis.py                 ResNet50, a minute
python tests/benchmarks/diagnosis.py MobileNetV2     another model of keras.applications
"""

import sys
import time
from statistics import median

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from keras_surrogate import conversion, diagnosis

BATCH, SIZE = 32, 64
SLOPES = {"relu": "leaky_backward"}


def built(name, size):
    return getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))


def plain_pass(model, x):
    """One forward and backward pass in training mode."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(x, training=True)))
    return tape.gradient(loss, model.trainable_variables)


def seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def ratios(model, rounds):
    """Seconds of a pass, and the median over the rounds of diagnose's time over it."""
    x = tf.constant(np.random.default_rng(0).normal(size=(BATCH, SIZE, SIZE, 3)), tf.float32)
    # The first calls also load libraries.
    plain_pass(model, x)
    diagnosis.diagnose(model, x)
    pairs = [
        (seconds(plain_pass, model, x), seconds(diagnosis.diagnose, model, x))
        for _ in range(rounds)
    ]
    return median(plain for plain, _ in pairs), median(found / plain for plain, found in pairs)


def swaps(name, rounds):
    """Seconds to build a model of 224 x 224 pixels, and to swap its activations."""
    pairs = []
    for _ in range(rounds):
        start = time.perf_counter()
        model = built(name, 224)
        middle = time.perf_counter()
        conversion.swap(model, SLOPES)
        pairs.append((middle - start, time.perf_counter() - middle))
    return [median(column) for column in zip(*pairs, strict=True)]


def main(name="ResNet50", rounds=5):
    model = built(name, SIZE)
    models = {"no surrogates": model, "leaky_backward for relu": conversion.swap(model, SLOPES)}
    title = f"{name}, {BATCH} images of {SIZE} x {SIZE}, median of {rounds} rounds"
    table = Table("", "one pass, s", "diagnose over it", title=title)
    for words, one in models.items():
        plain, ratio = ratios(one, rounds)
        table.add_row(words, f"{plain:.2f}", f"{ratio:.2f}")
    Console().print(table)
    building, swapping = swaps(name, rounds)
    print(f"{name} of 224 x 224: building {building:.2f} s, swap {swapping:.2f} s")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:]))
