"""What surrogates on weights cost: a training step of a small CNN, beside larq and qkeras.

    python tests/benchmarks/weights.py                                    ours over plain Keras
    python tests/benchmarks/weights.py --larq PYTHON --qkeras PYTHON      beside these, too

PYTHON is the interpreter of an environment with larq (TensorFlow 2.19, tf_keras) or qkeras-v3. All
kernels are signs with the clipped straight-through slope; the network, batch and optimizer are the
same. Each variant has a process of its own, and all take turns, so that other load on the machine
meets all of them alike. Time is that of `fit`, by step; memory is the growth of the process in
training, as Linux counts it.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

STEPS, BATCH, ROUNDS = 20, 64, 11
VARIANTS = {
    "plain": "keras",
    "SurrogateWeights": "keras",
    'SurrogateWeights, scale="mean_abs"': "keras",
    'SurrogateWeights, scale="learned"': "keras",
    "plain, legacy Keras": "larq",
    "larq": "larq",
    "plain, Keras of qkeras": "qkeras",
    "qkeras": "qkeras",
}


def layers_of(variant):
    """Functions that make a convolution and a dense layer of a variant."""
    if variant.startswith("SurrogateWeights"):
        import keras

        from keras_surrogate.layers import SurrogateWeights

        scale = variant.split('"')[1] if '"' in variant else None
        return (
            lambda *args: SurrogateWeights(keras.layers.Conv2D(*args), "ste_sign", scale=scale),
            lambda *args: SurrogateWeights(keras.layers.Dense(*args), "ste_sign", scale=scale),
        )
    if variant == "larq":
        import larq

        return (
            lambda *args: larq.layers.QuantConv2D(*args, kernel_quantizer="ste_sign"),
            lambda *args: larq.layers.QuantDense(*args, kernel_quantizer="ste_sign"),
        )
    if variant == "qkeras":
        import qkeras

        return (
            lambda *args: qkeras.QConv2D(*args, kernel_quantizer=qkeras.binary(alpha=1.0)),
            lambda *args: qkeras.QDense(*args, kernel_quantizer=qkeras.binary(alpha=1.0)),
        )
    keras = keras_of(variant)
    return keras.layers.Conv2D, keras.layers.Dense


def keras_of(variant):
    if VARIANTS[variant] == "larq":
        import tensorflow as tf

        return tf.keras
    import keras

    return keras


def model_of(variant):
    keras = keras_of(variant)
    conv, dense = layers_of(variant)
    layers = [keras.Input((28, 28, 1))]
    for filters, pools in ((32, True), (64, True), (64, False)):
        layers += [conv(filters, 3), keras.layers.BatchNormalization(), keras.layers.ReLU()]
        if pools:
            layers.append(keras.layers.MaxPooling2D())
    layers += [keras.layers.Flatten(), dense(64), keras.layers.BatchNormalization()]
    layers += [keras.layers.ReLU(), dense(10)]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Not the automatic choice, so that all run graphs without XLA.
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    return model


def memory(entry):
    """MiB that Linux accounts to this process: now (VmRSS), or at most so far (VmHWM)."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(entry))


def work(variant):
    """Train `STEPS` steps for each line that comes in, and write the seconds and MiB."""
    import numpy as np

    model = model_of(variant)
    x = np.random.default_rng(0).normal(size=(STEPS * BATCH, 28, 28, 1)).astype("float32")
    y = np.arange(len(x)) % 10
    before = memory("VmRSS")
    model.fit(x, y, batch_size=BATCH, verbose=0)
    for _ in sys.stdin:
        start = time.perf_counter()
        model.fit(x, y, batch_size=BATCH, verbose=0)
        seconds = time.perf_counter() - start
        print("seconds", seconds, memory("VmHWM") - before, flush=True)


def start(variant, python):
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_USE_LEGACY_KERAS": "1" if VARIANTS[variant] == "larq" else "0",
        # Freed memory returns to the system at once.
        "MALLOC_MMAP_THRESHOLD_": "65536",
    }
    return subprocess.Popen(
        [python, __file__, "--worker", variant],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def turn(worker):
    """Seconds and MiB of one round of a worker."""
    worker.stdin.write("\n")
    worker.stdin.flush()
    for line in worker.stdout:
        if line.startswith("seconds"):
            return [float(number) for number in line.split()[1:]]
    raise SystemExit(f"A worker ended early: {worker.args}. Run it alone to see why.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--larq", help="the interpreter of an environment with larq")
    parser.add_argument("--qkeras", help="the interpreter of an environment with qkeras-v3")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(arguments.worker)
    pythons = {"keras": sys.executable, "larq": arguments.larq, "qkeras": arguments.qkeras}
    workers = {
        variant: start(variant, pythons[environment])
        for variant, environment in VARIANTS.items()
        if pythons[environment]
    }
    rounds = [{variant: turn(worker) for variant, worker in workers.items()} for _ in range(ROUNDS)]
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    print(f"{'':36} ms a step  least  / its plain  MiB  / its plain")
    for variant, environment in VARIANTS.items():
        if variant not in workers:
            continue
        plain = next(one for one, other in VARIANTS.items() if other == environment)
        seconds = [one[variant][0] / STEPS * 1e3 for one in rounds[1:]]
        ratio = statistics.median(one[variant][0] / one[plain][0] for one in rounds[1:])
        peak = rounds[-1][variant][1]
        print(
            f"{variant:36} {statistics.median(seconds):9.1f} {min(seconds):6.1f} {ratio:12.2f} "
            f"{peak:4.0f} {peak / rounds[-1][plain][1]:12.2f}"
        )


if __name__ == "__main__":
    main()
