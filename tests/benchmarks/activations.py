"""The cost of activations: time against native ReLU, outside and inside XLA, and peak memory.

    python tests/benchmarks/activations.py                  every preset; memory of a chosen few
    python tests/benchmarks/activations.py flat_spot "relu|bsilu"       these only
    python tests/benchmarks/activations.py --time           without memory
    python tests/benchmarks/activations.py --sizes          from which size compiling by itself pays
    python tests/benchmarks/activations.py --step           a training step of a CNN in a graph
    python tests/benchmarks/activations.py --eager "step|linear"        in eager mode

`--elements 1000000` is the size for the first table, `--uncompiled` sets `jit_compile=False`.

A name is a preset or "forward|backward". With a third part it is "relu|bsilu|uint8", a compressed
residual, "relu|bsilu|jit", a slope that is always compiled by itself, or "relu|bsilu|off", one that
never is.

Time is that of value and gradient with a given upstream gradient. All take turns in random order,
so that whatever else the machine does meets all of them alike; a ratio is the median over the
rounds. "Native" is the same value, differentiated by TensorFlow. Memory is that of a process of its
own, outside XLA.
"""

import argparse
import dataclasses
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from keras_surrogate import Surrogate, compiling, presets

tf.get_logger().setLevel("ERROR")

SHAPE, ROUNDS, WARM_UP = (1024, 4096), 31, 3
DEPTH, WIDTH, BATCH = 30, 512, 8192
UNCOMPILED = False
SIZES = [10**3, 10**4, 3 * 10**4, 10**5, 3 * 10**5, 10**6, 10**7]
IMAGES = (128, 32, 32, 3)
MEMORY = [
    "leaky_backward",
    "flat_spot",
    "artificial_relu",
    "relu|softplus|bfloat16",
    "relu|softplus|uint8",
]


def surrogate_of(name):
    """A preset or a pair by its name; uncompiled if this script was told so."""
    surrogate = named(name)
    return dataclasses.replace(surrogate, jit_compile=False) if UNCOMPILED else surrogate


def named(name):
    """A preset by its name, or a pair as "forward|backward" or "forward|backward|residual"; "relu|" is plain ReLU."""
    forward, backward, residual = (*name.split("|"), None, None)[:3]
    if backward is None:
        return presets.get(name)
    if residual in ("jit", "off"):
        return Surrogate(forward, backward, jit_compile=residual == "jit")
    return Surrogate(forward, backward or None, residual=residual)


def native(surrogate):
    """The same value, differentiated by TensorFlow."""
    return surrogate.forward.value


def value_and_gradient(activation, jit_compile):
    """A step in a graph (False), under XLA (True), or in eager mode (None)."""

    def step(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = activation(x)
        return y, tape.gradient(y, x, upstream)

    if jit_compile is None:
        return step
    return tf.function(step, jit_compile=jit_compile)


def seconds(step, *arguments, times=1):
    start = time.perf_counter()
    for _ in range(times):
        step(*arguments)
    tf.test.experimental.sync_devices()
    return (time.perf_counter() - start) / times


def times(activations, jit_compile, shape):
    """For every round after the warm-up, the seconds of every activation."""
    steps = {
        name: value_and_gradient(activation, jit_compile)
        for name, activation in activations.items()
    }
    x = tf.random.normal(shape, stddev=2.0, seed=0)
    upstream = tf.random.normal(shape, seed=1)
    # The mean of several calls, where one is too short for the clock.
    calls = max(1, 10**5 // x.shape.num_elements())
    return taking_turns({name: [step, x, upstream] for name, step in steps.items()}, calls)


def taking_turns(calls_by_name, times=1):
    """For every round after the warm-up, the seconds of a call of each, in random order."""
    rounds = []
    for _ in range(WARM_UP + ROUNDS):
        order = random.sample(list(calls_by_name), len(calls_by_name))
        rounds.append({name: seconds(*calls_by_name[name], times=times) for name in order})
    return rounds[WARM_UP:]


def ratio(rounds, name, reference):
    return statistics.median(seconds[name] / seconds[reference] for seconds in rounds)


def time_table(names):
    surrogates = {name: surrogate_of(name) for name in names}
    natives = {surrogate.forward: native(surrogate) for surrogate in surrogates.values()}
    measured = [
        times({"ReLU": tf.nn.relu, **natives, **surrogates}, jit_compile, SHAPE)
        for jit_compile in (False, True)
    ]
    table = Table(
        "", "/ ReLU", "/ native", "XLA / ReLU", "XLA / native", title="Time of value and gradient"
    )
    for name, surrogate in surrogates.items():
        ratios = [
            ratio(rounds, name, reference)
            for rounds in measured
            for reference in ("ReLU", surrogate.forward)
        ]
        table.add_row(name, *(f"{ratio:.2f}" for ratio in ratios))
    return table


def size_table(names):
    """Time compiled by itself over time uncompiled, in graphs, for every number of elements."""
    compiling.LEAST_ELEMENTS = 1
    compiling.MOST_SHAPES = 10**6
    columns = [f"{size:.0e}".replace("e+0", "e") for size in SIZES]
    table = Table("", *columns, title="Time compiled by itself over time uncompiled")
    rounds_by_size = []
    for size in SIZES:
        activations = {}
        for name in names:
            surrogate = surrogate_of(name)
            activations[name] = surrogate
            activations[f"{name}, off"] = dataclasses.replace(surrogate, jit_compile=False)
        rounds_by_size.append(times(activations, jit_compile=False, shape=(size // 100, 100)))
    for name in names:
        ratios = [ratio(rounds, name, f"{name}, off") for rounds in rounds_by_size]
        table.add_row(name, *(f"{ratio:.2f}" for ratio in ratios))
    return table


def convolutional_step(activation):
    """The training step of a CNN with BatchNormalization, in a graph."""
    layers = [keras.Input(IMAGES[1:])]
    for filters in (32, 64):
        for _ in range(2):
            layers += [
                keras.layers.Conv2D(filters, 3, padding="same", use_bias=False),
                keras.layers.BatchNormalization(),
                keras.layers.Activation(activation),
            ]
        layers.append(keras.layers.MaxPooling2D())
    model = keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile("sgd", "mse", jit_compile=False)
    return model.train_on_batch


def step_table(names):
    activations = {"ReLU": tf.nn.relu, "silu": keras.activations.silu}
    activations |= {name: surrogate_of(name) for name in names}
    images = tf.random.normal(IMAGES, seed=0)
    targets = tf.random.normal([IMAGES[0], 10], seed=1)
    steps = {}
    for name, activation in activations.items():
        steps[name] = [convolutional_step(activation), images, targets]
    rounds = taking_turns(steps)
    table = Table("", "/ ReLU", title="Training step of a CNN with BatchNormalization, in a graph")
    for name in activations:
        table.add_row(name, f"{ratio(rounds, name, 'ReLU'):.3f}")
    return table


def eager_table(names):
    activations = {"ReLU": tf.nn.relu, "trick of step|linear": straight_through_trick}
    activations |= {name: surrogate_of(name) for name in names}
    rounds = times(activations, jit_compile=None, shape=(1000, 1000))
    table = Table("", "ms", "/ ReLU", title="Time of value and gradient, eager, 1e6 elements")
    for name in activations:
        milliseconds = 1e3 * statistics.median(seconds[name] for seconds in rounds)
        table.add_row(name, f"{milliseconds:.2f}", f"{ratio(rounds, name, 'ReLU'):.2f}")
    return table


def straight_through_trick(x):
    return x - tf.stop_gradient(x) + tf.stop_gradient(tf.where(x >= 0, 1.0, 0.0))


def training_step(activation):
    hidden = [keras.layers.Dense(WIDTH, activation) for _ in range(DEPTH)]
    model = keras.Sequential([keras.Input([WIDTH]), *hidden])
    model.compile("sgd", "mse", jit_compile=False)
    return model.train_on_batch


def peak_of_this_process(name, is_native):
    """MiB that a training step takes at most, beyond what this process holds before."""
    activation = native(surrogate_of(name)) if is_native else surrogate_of(name)
    step = training_step(activation)
    few, many = tf.random.normal([2, WIDTH]), tf.random.normal([BATCH, WIDTH])
    step(few, few)
    before = memory("VmRSS")
    step(many, many)
    return memory("VmHWM") - before


def memory(entry):
    """MiB that Linux accounts to this process: now (VmRSS), or at most so far (VmHWM)."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(entry))


def peak(name, is_native):
    """The same, of a fresh process whose freed tensors return to the system at once."""
    command = [sys.executable, __file__, name, "--peak", "native" if is_native else "surrogate"]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    return float(
        subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    )


def memory_table(names):
    forwards = {surrogate_of(name).forward: name for name in ["relu|", *names]}
    natives = {forward: peak(name, is_native=True) for forward, name in forwards.items()}
    table = Table(
        "",
        "MiB",
        "/ ReLU",
        "/ native",
        title=f"Peak memory of a step, {DEPTH} x {WIDTH}, batch {BATCH}",
    )
    for name in names:
        ours = peak(name, is_native=False)
        ratios = (ours / natives[surrogate_of(reference).forward] for reference in ("relu|", name))
        table.add_row(name, f"{ours:.0f}", *(f"{ratio:.2f}" for ratio in ratios))
    return table


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", help='presets or pairs such as "relu|bsilu"; default: every preset'
    )
    parser.add_argument(
        "--peak",
        choices=["native", "surrogate"],
        help="print the peak memory of one and nothing else",
    )
    tables = {"time": time_table, "sizes": size_table, "step": step_table, "eager": eager_table}
    for name in tables:
        parser.add_argument(f"--{name}", action="store_true", help="this table only")
    parser.add_argument("--uncompiled", action="store_true", help="with jit_compile=False")
    parser.add_argument("--elements", type=int, help="default: 1024 * 4096")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    arguments = parser.parse_args()
    globals()["ROUNDS"] = arguments.rounds
    globals()["UNCOMPILED"] = arguments.uncompiled
    if arguments.elements:
        globals()["SHAPE"] = (arguments.elements // 100, 100)
    if arguments.peak:
        return print(peak_of_this_process(arguments.names[0], arguments.peak == "native"))
    console = Console()
    chosen = [table for name, table in tables.items() if getattr(arguments, name)]
    if chosen:
        return console.print(*(table(arguments.names or presets.names()) for table in chosen))
    console.print(time_table(arguments.names or presets.names()))
    console.print(memory_table(arguments.names or MEMORY))


if __name__ == "__main__":
    main()
