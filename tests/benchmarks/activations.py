"""What an activation costs: time against native ReLU, outside and inside XLA, and peak memory of a training step.

    python tests/benchmarks/activations.py                           every preset; memory of a chosen few
    python tests/benchmarks/activations.py flat_spot "relu|bsilu"    these, a preset or "forward|backward" each;
                                                                     "relu|bsilu|uint8" with a
                                                                     compressed residual,
                                                                     "relu|bsilu|jit" with a slope
                                                                     compiled by itself

Time is that of value and gradient with a given upstream gradient. All take turns in random order,
so that whatever else the machine does meets all of them alike; a ratio is the median over the
rounds. "Native" is the same value, differentiated by TensorFlow. Memory is that of a process of its
own, outside XLA.
"""

import argparse
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

from keras_surrogate import Surrogate, presets

tf.get_logger().setLevel("ERROR")

SHAPE, ROUNDS, WARM_UP = (1024, 4096), 31, 3
DEPTH, WIDTH, BATCH = 30, 512, 8192
MEMORY = [
    "leaky_backward",
    "flat_spot",
    "artificial_relu",
    "relu|softplus|bfloat16",
    "relu|softplus|uint8",
]


def surrogate_of(name):
    """A preset by its name, or a pair as "forward|backward" or "forward|backward|residual"; "relu|" is plain ReLU."""
    forward, backward, residual = (*name.split("|"), None, None)[:3]
    if backward is None:
        return presets.get(name)
    if residual == "jit":
        return Surrogate(forward, backward, jit_compile=True)
    return Surrogate(forward, backward or None, residual=residual)


def native(surrogate):
    """The same value, differentiated by TensorFlow."""
    return surrogate.forward.value


def value_and_gradient(activation, jit_compile):
    @tf.function(jit_compile=jit_compile)
    def step(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = activation(x)
        return y, tape.gradient(y, x, upstream)

    return step


def seconds(step, *arguments):
    start = time.perf_counter()
    step(*arguments)
    tf.test.experimental.sync_devices()
    return time.perf_counter() - start


def times(activations, jit_compile):
    """For every round after the warm-up, the seconds of every activation."""
    steps = {
        name: value_and_gradient(activation, jit_compile)
        for name, activation in activations.items()
    }
    arguments = tf.random.normal(SHAPE, stddev=2.0, seed=0), tf.random.normal(SHAPE, seed=1)
    orders = [random.sample(list(steps), len(steps)) for _ in range(WARM_UP + ROUNDS)]
    return [{name: seconds(steps[name], *arguments) for name in order} for order in orders][
        WARM_UP:
    ]


def ratio(rounds, name, reference):
    return statistics.median(seconds[name] / seconds[reference] for seconds in rounds)


def time_table(names):
    surrogates = {name: surrogate_of(name) for name in names}
    natives = {surrogate.forward: native(surrogate) for surrogate in surrogates.values()}
    measured = [
        times({"ReLU": tf.nn.relu, **natives, **surrogates}, jit_compile)
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
    arguments = parser.parse_args()
    if arguments.peak:
        return print(peak_of_this_process(arguments.names[0], arguments.peak == "native"))
    console = Console()
    console.print(time_table(arguments.names or presets.names()))
    console.print(memory_table(arguments.names or MEMORY))


if __name__ == "__main__":
    main()
