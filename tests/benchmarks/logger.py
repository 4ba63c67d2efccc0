"""What the gradient logger costs: CPU time of training with it over the same training without, interleaved in one run.

python tests/benchmarks/logger.py cost        an MLP and a CNN, in graphs and under XLA; five minutes
python tests/benchmarks/logger.py also        the optional quantities, on the MLP
python tests/benchmarks/logger.py first       the first fit, which traces the step, of an MLP in graphs and under XLA
python tests/benchmarks/logger.py layers      10 to 1000 layers: what a step and what the first fit take
python tests/benchmarks/logger.py memory      what each of thirty fits with thirty new loggers leaves in memory
"""

import gc
import sys
import time
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from keras_surrogate.callbacks import GradientNormLogger
from keras_surrogate.recording import quantities

STEPS, BATCH = 60, 128
LOGGERS = {
    "every step": GradientNormLogger,
    "every 10th": lambda: GradientNormLogger(10),
    'kind="applied"': lambda: GradientNormLogger(kind="applied"),
}
QUANTITIES = {name: lambda name=name: GradientNormLogger(also=name) for name in quantities.names()}


def mlp(depth=30, width=256):
    hidden = [
        keras.layers.Dense(width, activation="relu", kernel_initializer="he_normal")
        for _ in range(depth)
    ]
    return keras.Sequential([keras.Input((width,)), *hidden, keras.layers.Dense(10)])


def cnn():
    layers = [
        layer
        for filters in (16, 32, 64)
        for layer in (convolution(filters), convolution(filters, strides=2))
    ]
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            *layers,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10),
        ]
    )


def convolution(filters, **arguments):
    return keras.layers.Conv2D(filters, 3, padding="same", activation="relu", **arguments)


class Run:
    """A compiled model with its data, to be fitted again and again with one logger or none."""

    def __init__(self, model, jit_compile, logger=None, steps=STEPS, batch=BATCH):
        random = np.random.default_rng(0)
        self.model, self.batch, self.callbacks = model, batch, [logger] if logger else []
        self.x = random.normal(size=(steps * batch, *model.input_shape[1:])).astype("float32")
        self.y = random.integers(0, 10, steps * batch)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1e-4), loss, jit_compile=jit_compile)

    def seconds(self, clock=time.process_time):
        start = clock()
        self.model.fit(
            self.x,
            self.y,
            batch_size=self.batch,
            verbose=0,
            shuffle=False,
            callbacks=self.callbacks,
        )
        return clock() - start


def ratios(build, jit_compile, loggers, rounds, steps):
    """Median over the rounds of each logger's CPU time over that of none in the same round."""
    runs = {"none": Run(build(), jit_compile, steps=steps)}
    runs |= {name: Run(build(), jit_compile, make(), steps=steps) for name, make in loggers.items()}
    times = {name: [] for name in runs}
    for run in runs.values():
        run.seconds()
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(run.seconds())
    return {name: np.median(np.divide(taken, times["none"])) for name, taken in times.items()}


def table_of(loggers, models, rounds):
    """A table, one row a logger, one column for each model in graphs and under XLA."""
    columns = [(name, jit_compile) for name in models for jit_compile in (False, True)]
    titles = [f"{name}, {'XLA' if jit_compile else 'graph'}" for name, jit_compile in columns]
    results = [
        ratios(models[name][0], jit_compile, loggers, rounds, models[name][1])
        for name, jit_compile in columns
    ]
    table = Table("", *titles, title=f"CPU time over no logger, median of {rounds} rounds")
    for name in loggers:
        table.add_row(name, *(f"{result[name]:.2f}" for result in results))
    return table


def by_layers(rounds, counts=(10, 100, 1000)):
    """Small models of many layers in ten-step fits: what a layer costs in a step, and in the first fit."""
    sys.setrecursionlimit(10_000)  # Keras walks through a model recursively
    # The first fit of a process also loads libraries.
    Run(mlp(2, 16), False, GradientNormLogger(), steps=1, batch=32).seconds()
    headers = (
        "layers",
        "us a step and layer",
        "ten steps over no logger",
        "first fit over no logger",
    )
    table = Table(*headers, title="width 16, batch 32, graphs, CPU time")
    for count in counts:
        plain = Run(mlp(count, 16), False, steps=10, batch=32)
        logged = Run(mlp(count, 16), False, GradientNormLogger(), steps=10, batch=32)
        first = logged.seconds() / plain.seconds()
        # The second call of a graph optimizes it once more.
        logged.seconds()
        plain.seconds()
        times = np.array([[logged.seconds(), plain.seconds()] for _ in range(rounds)])
        with_logger, without = np.median(times, axis=0)
        table.add_row(
            str(count),
            f"{(with_logger - without) / 10 / count * 1e6:.1f}",
            f"{with_logger / without:.2f}",
            f"{first:.2f}",
        )
    return table


def first_fits(rounds):
    """The first fit of a new model, which traces the step, over that without a logger."""
    table = Table(
        "", "graph", "XLA", title=f"MLP 30 x 256, first fit of one step, median of {rounds}"
    )
    cells = []
    for jit_compile in (False, True):
        pairs = []
        for _ in range(rounds + 1):
            logged = Run(mlp(), jit_compile, GradientNormLogger(), steps=1).seconds()
            pairs.append((logged, Run(mlp(), jit_compile, steps=1).seconds()))
        # The first pair loads libraries.
        logged, plain = np.median(pairs[1:], axis=0)
        cells.append(f"{logged / plain:.2f} ({logged:.2f} s)")
    table.add_row("CPU time over no logger", *cells)
    return table


def memory(fits=30):
    """Kilobytes that a fit leaves in memory, with a new logger each and without; Linux only."""
    table = Table("", "kB a fit", title=f"MLP 10 x 64, growth of the process over {fits} fits")
    for name in ("none", "a new logger each"):
        run = Run(mlp(10, 64), False, steps=5)
        sizes = []
        for number in range(10 + fits):
            run.callbacks = [GradientNormLogger()] if name != "none" else []
            run.seconds()
            gc.collect()
            if number in (9, 9 + fits):
                sizes.append(resident())
        table.add_row(name, f"{(sizes[1] - sizes[0]) / fits:.0f}")
    return table


def resident():
    """The resident memory of this process, in kB."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def main(which="cost", rounds=15):
    models = {"MLP 30 x 256": (mlp, STEPS), "CNN": (cnn, 12)}
    tables = {
        "cost": lambda: table_of(LOGGERS, models, rounds),
        "also": lambda: table_of(QUANTITIES, {"MLP 30 x 256": (mlp, STEPS)}, rounds),
        "first": lambda: first_fits(rounds),
        "layers": lambda: by_layers(rounds),
        "memory": memory,
    }
    Console().print(tables[which]())


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:]))
