"""The speed of keras_surrogate against its peers, in one run on one machine.

    python tests/benchmarks/peers.py                 everything; writes tests/benchmarks/peers.md
    python tests/benchmarks/peers.py activations     against native ones, the stop-gradient trick, and spiking libraries
    python tests/benchmarks/peers.py logger          the gradient logger against none, and against a probe batch
    python tests/benchmarks/peers.py theory          the prediction against measuring it on random networks
    python tests/benchmarks/peers.py --quick         tiny sizes and few rounds, to see that it works

Only the first writes; the others print. What is not installed is left out with a word: `pip install
".[benchmark]"` brings PyTorch, snntorch and spikingjelly, and `torch.compile` needs a C++ compiler
besides. It runs on Linux. Leave the machine alone meanwhile: other load slows PyTorch's threads,
which wait for each other, far more than TensorFlow's.
"""

import argparse
import dataclasses
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import peers_activations
import peers_logger
import peers_report
import peers_theory
from peers_pairs import PAIRS
from peers_worker import THREADS

from keras_surrogate.files import replacing_file

OUTPUT = pathlib.Path(__file__).with_suffix(".md")
PARTS = {
    "activations": ("Activations", peers_activations.tables),
    "logger": ("The gradient logger", peers_logger.tables),
    "theory": ("Predicting against measuring", peers_theory.tables),
}


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much is measured.

    pairs, size: which pairs are timed, at how many elements. size_pairs, sizes: the same of the
        tables by size.
    memory_pairs, memory_size: which pairs' memory is measured, at how many elements.
    seconds, rounds: rounds go on for so long at most, and are so many at most; three at least.
    layers, compiled_layers: from numbers of layers to steps of a `fit`, in graphs and under XLA.
    depths, draws: of the random networks.
    """

    pairs: tuple = tuple(PAIRS)
    size: int = 10**6
    sizes: tuple = tuple(10**power for power in range(3, 9))
    size_pairs: tuple = tuple(peers_activations.BY_SIZE)
    memory_pairs: tuple = (
        "ReLU, B-SiLU",
        "ReLU, softplus",
        "ReLU, leaky 0.1",
        "sigmoid, flat spot",
        "step, arc tangent",
    )
    memory_size: int = 10**7
    seconds: float = 2.0
    rounds: int = 31
    layers: tuple = ((10, 100), (30, 100), (100, 50), (300, 20), (1000, 10))
    compiled_layers: tuple = ((10, 100), (30, 100), (100, 50))
    depths: tuple = (10, 30, 100)
    draws: int = 200


QUICK = Effort(
    pairs=("step, arc tangent",),
    sizes=(10**3,),
    size_pairs=("step, arc tangent",),
    memory_pairs=("step, arc tangent",),
    memory_size=10**6,
    seconds=0.1,
    layers=((10, 10),),
    compiled_layers=((3, 10),),
    depths=(10,),
    draws=5,
)


def measured(names, effort):
    """Every part's tables, printed as soon as they are there."""
    report = [
        f"# Speed against peers\n\n`python tests/benchmarks/peers.py`\n\n{peers_report.machine(THREADS)}"
    ]
    print(report[0])
    for name in names:
        title, tables = PARTS[name]
        start = time.perf_counter()
        text = tables(effort)
        report.append(f"## {title}\n\n{text}\nMeasured in {time.perf_counter() - start:.0f} s.\n")
        print(report[-1], flush=True)
    return "\n".join(report)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "part", nargs="?", choices=list(PARTS), help="one part only, printed and not written"
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes and few rounds, printed and not written"
    )
    arguments = parser.parse_args()
    parts = [arguments.part] if arguments.part else list(PARTS)
    report = measured(parts, QUICK if arguments.quick else Effort())
    if not (arguments.part or arguments.quick):
        with replacing_file(OUTPUT) as unfinished:
            unfinished.write_text(report)
        print(f"Written to {OUTPUT}.")


if __name__ == "__main__":
    main()
