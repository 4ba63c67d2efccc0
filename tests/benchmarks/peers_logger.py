"""Training with the gradient logger, and with norms recomputed on a probe batch, over training with neither.

The probe is what a tool does that cannot see the training step's own gradients: after every step a
second backward pass, compiled as the model is, on a fixed batch of the same size, and its norms
fetched.
"""

import random
import sys
import time

import keras
import numpy as np
import tensorflow as tf
from logger import BATCH, Run, mlp
from peers_report import table

from keras_surrogate.callbacks import GradientNormLogger
from keras_surrogate.recording import names

WIDTH = 64
HEADERS = [
    "layers",
    "none, ms a step",
    "logger, time",
    "CPU time",
    "first fit",
    "us a step and layer",
    "probe, time",
    "CPU time",
    "first fit",
    "us a step and layer",
]
EXPLANATION = f"""\
`fit` of Dense layers of width {WIDTH}, the last of 10, at batch {BATCH}, one epoch: with the gradient logger at every
step, and with a probe, which recomputes the norms per layer on a fixed batch after every step. Ratios are over `fit`
with neither, medians of interleaved rounds; the first fit, which traces and compiles, is one measurement of its time.
Microseconds are what is added to the time of a step, for each layer.
"""


class Probe(keras.callbacks.Callback):
    """The gradient norm of every layer on a fixed batch, recomputed after each step."""

    def __init__(self, x, y, jit_compile):
        super().__init__()
        self.x, self.y, self.rows = tf.constant(x), tf.constant(y), []
        self._norms = tf.function(self._layer_norms, jit_compile=jit_compile)

    def _layer_norms(self, x, y):
        groups = names.layer_variables(self.model)
        with tf.GradientTape() as tape:
            loss = self.model.compute_loss(x, y, self.model(x, training=False))
        by_layer = tape.gradient(
            loss, [[variable.value for variable in group] for group in groups.values()]
        )
        return tf.stack([tf.linalg.global_norm(layer) for layer in by_layer])

    def on_train_batch_end(self, batch, logs=None):
        self.rows.append(self._norms(self.x, self.y).numpy())


def tables(effort):
    sys.setrecursionlimit(10_000)  # Keras walks through a model recursively
    _clocks(Run(mlp(2, WIDTH), False, steps=2))  # what only the first model of a process pays
    modes = {"in graphs": (effort.layers, False), "under XLA": (effort.compiled_layers, True)}
    parts = [
        table(f"Training {mode}", HEADERS, [_row(*size, jit_compile, effort) for size in sizes])
        for mode, (sizes, jit_compile) in modes.items()
    ]
    return "\n".join([EXPLANATION, *parts])


def _row(layers, steps, jit_compile, effort):
    keras.backend.clear_session()
    runs = {name: _run(name, layers, steps, jit_compile) for name in ("none", "logger", "probe")}
    first = {name: _clocks(run)[0] for name, run in runs.items()}
    taken = _rounds(runs, effort)
    base = taken["none"]
    cells = [str(layers), f"{1e3 * np.median(base[:, 0]) / steps:.2f}"]
    for name in ("logger", "probe"):
        seconds, processor = np.median(taken[name] / base, axis=0)
        added = np.median(taken[name][:, 0] - base[:, 0]) / steps / layers
        ratios = [f"{ratio:.2f}" for ratio in (seconds, processor, first[name] / first["none"])]
        cells += [*ratios, f"{1e6 * added:.1f}"]
    return cells


def _run(name, layers, steps, jit_compile):
    run = Run(mlp(layers - 1, WIDTH), jit_compile, steps=steps, batch=BATCH)
    if name == "logger":
        run.callbacks = [GradientNormLogger()]
    if name == "probe":
        run.callbacks = [Probe(run.x[:BATCH], run.y[:BATCH], jit_compile)]
    return run


def _rounds(runs, effort):
    """From name to an array (rounds, 2) of time and CPU time, taken in turns in random order."""
    taken, end = {name: [] for name in runs}, time.perf_counter() + 3 * effort.seconds
    for run in runs.values():
        _clocks(run)
    while len(taken["none"]) < 5 or (
        len(taken["none"]) < effort.rounds and time.perf_counter() < end
    ):
        for name in random.sample(list(runs), len(runs)):
            taken[name].append(_clocks(runs[name]))
    return {name: np.array(rounds) for name, rounds in taken.items()}


def _clocks(run):
    """Time and CPU time of one `fit`."""
    return run.seconds(lambda: np.array([time.perf_counter(), time.process_time()]))
