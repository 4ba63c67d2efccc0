"""The time and the memory of predictions for deep networks.

python tests/benchmarks/theory_speed.py
"""

import os
import resource
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

START = time.perf_counter()
from keras_surrogate import theory  # noqa: E402
from keras_surrogate.cli import main  # noqa: E402

COMMAND = "predict --forward relu --backward bsilu --depth 1000"
CASES = {
    "recommend relu, depth 3000": lambda: theory.recommend("relu", 3000, "he_normal"),
    "recommend tanh, depth 3000": lambda: theory.recommend("tanh", 3000, 1.0),
    "predict relu, depth 100 000": lambda: theory.predict(
        "relu", 100_000, 2.0, input_correlation=0.5
    ),
    "predict bsilu, depth 1000, width 128": lambda: theory.predict(
        "sugar_bsilu", 1000, 2.0, width=128
    ),
    COMMAND: lambda: main(COMMAND.split()),
}


def report(name, seconds):
    # The high-water mark of the process, which imports TensorFlow first.
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:60s} {seconds:6.2f} s, process {memory:.0f} MiB", flush=True)


report("imports", time.perf_counter() - START)
for name, case in CASES.items():
    start = time.perf_counter()
    case()
    report(name, time.perf_counter() - start)
