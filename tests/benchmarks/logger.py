"""CPU time of training with the gradient logger over the same training without, interleaved in one run.

python tests/benchmarks/logger.py            a 30 x 256 MLP at batch 128, in graphs and under XLA; two minutes
"""

import sys
import time

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from keras_surrogate.callbacks import GradientNormLogger

STEPS, BATCH = 60, 128
X = np.random.default_rng(0).normal(size=(STEPS * BATCH, 256)).astype("float32")
Y = np.random.default_rng(1).integers(0, 10, STEPS * BATCH)
LOGGERS = {
    "none": lambda: [],
    "every step": lambda: [GradientNormLogger()],
    "every 10th": lambda: [GradientNormLogger(10)],
}


def build(jit_compile, depth=30, width=256):
    hidden = [keras.layers.Dense(width, activation="relu", kernel_initializer="he_normal") for _ in range(depth)]
    model = keras.Sequential([keras.Input((256,)), *hidden, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-4), loss, jit_compile=jit_compile)
    return model


def seconds(model, callbacks):
    start = time.process_time()
    model.fit(X, Y, batch_size=BATCH, verbose=0, callbacks=callbacks)
    return time.process_time() - start


def ratios(jit_compile, rounds):
    """Median over the rounds of each variant's CPU time over that of no logger in the same round."""
    variants = {name: (build(jit_compile), make()) for name, make in LOGGERS.items()}
    for model, callbacks in variants.values():
        seconds(model, callbacks)
    times = {name: [] for name in variants}
    for _ in range(rounds):
        for name, (model, callbacks) in variants.items():
            times[name].append(seconds(model, callbacks))
    return {name: np.median(np.divide(taken, times["none"])) for name, taken in times.items()}


def main(rounds=15):
    table = Table("logger", "graph", "XLA", title=f"CPU time over no logger, median of {rounds}")
    graph, xla = ratios(False, rounds), ratios(True, rounds)
    for name in LOGGERS:
        table.add_row(name, f"{graph[name]:.2f}", f"{xla[name]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
