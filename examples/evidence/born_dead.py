"""Networks that are born dead: how many there are, and which slopes let them learn |x|.

    python examples/evidence/born_dead.py            computes what the results lack, then reports
    python examples/evidence/born_dead.py --report   tables and picture of the finished runs

A network is born dead if a whole layer is 0 for all inputs at the start: its output is constant.
For one input, zero biases and symmetric weights this has the probability

    1 - (1 - 2**-width)**depth

because each unit of a layer that is alive is 0 with probability 1/2. For many inputs it is sampled.
Then 300 networks of ten layers at a time learn |x| from 24 points, each with Adam or SGD of its own.
The learning rate of each method is the one with which most of the first 100 of them learn; the
other 200 are reported. Writes results/born_dead.jsonl, born_dead.md, born_dead_shares.md and
born_dead.png.

Source: Lu et al. 2019, arXiv:1903.06733, for the question, the networks and |x|.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import plots, simulation
from keras_surrogate.plots.axes import panels

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
sys.path.append(str(FOLDER.parent / "published"))
import study  # noqa: E402

NAME = "born_dead"
# Networks of a share, and the inputs on which "many" means all: the training points.
SAMPLED = 20_000
WIDTHS = (2, 3, 5, 10)
DEPTHS = (2, 5, 10, 20)
POINTS = np.linspace(-(3**0.5), 3**0.5, 24, dtype="float32")
# The trainings.
DEPTH = 10
TRAINED = (2, 3, 5)
NETWORKS = 300
CHOOSING = 100
STEPS = 1500
RATES = {"adam": (0.003, 0.01, 0.03), "sgd": (0.03, 0.1, 0.3)}
# Errors over the variance of |x|: below the first it is learned, above the second the network is
# constant, or has diverged.
LEARNED = 0.05
CONSTANT = 0.99

METHODS = {
    "true slope": ks.Surrogate("relu"),
    "slope leaky 0.1": ks.Surrogate("relu", ks.functions.get("leaky_relu", negative_slope=0.1)),
    "slope leaky 0.3": ks.Surrogate("relu", ks.functions.get("leaky_relu", negative_slope=0.3)),
    "slope softplus": ks.Surrogate("relu", "softplus"),
    "slope nelu": ks.Surrogate("relu", "nelu"),
    "leaky forward 0.1": ks.Surrogate(ks.functions.get("leaky_relu", negative_slope=0.1)),
    "asymmetric start": ks.Surrogate("relu"),
}
ASYMMETRIC = "asymmetric start"


def closed_form(width: int, depth: int) -> float:
    """The probability that a ReLU network without biases is born dead for one input."""
    return 1 - (1 - 2.0**-width) ** depth


@dataclasses.dataclass
class Networks:
    """Many networks from one number to one number.

    Attributes:
        weights: one tensor a layer, shape (networks, units, inputs), the readout last.
        biases: one tensor a layer, shape (networks, units, 1).
    """

    weights: list[tf.Tensor]
    biases: list[tf.Tensor]

    @classmethod
    def draw(cls, networks: int, width: int, depth: int, seed: int, asymmetric: bool = False):
        """Hidden layers with He's weights and no biases, or asymmetric ones; a normal readout."""
        weights = []
        biases = []
        random = np.random.default_rng([seed, width, depth])
        for layer in range(depth):
            fan_in = width if layer else 1
            if asymmetric:
                own = int(random.integers(2**31))
                # The units of all networks are drawn as those of one layer.
                kernel = ks.initializers.RandomizedAsymmetric(own)((fan_in, networks * width))
                bias = ks.initializers.RandomizedAsymmetric(own, fan_in)((networks * width,))
                kernel = np.array(kernel).reshape(fan_in, networks, width).transpose(1, 2, 0)
                bias = np.array(bias).reshape(networks, width, 1)
            else:
                kernel = random.normal(0, (2 / fan_in) ** 0.5, (networks, width, fan_in))
                bias = np.zeros((networks, width, 1))
            weights.append(tf.constant(kernel, tf.float32))
            biases.append(tf.constant(bias, tf.float32))
        weights.append(tf.constant(random.normal(0, width**-0.5, (networks, 1, width)), tf.float32))
        biases.append(tf.zeros((networks, 1, 1)))
        return cls(weights, biases)

    def hidden(self, surrogate: ks.Surrogate, points: np.ndarray) -> list[tf.Tensor]:
        """The outputs of the hidden layers, each of shape (networks, width, points)."""
        x = tf.broadcast_to(tf.constant(points), (len(self.weights[0]), 1, len(points)))
        outputs = []
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = surrogate(tf.linalg.matmul(weight, x) + bias)
            outputs.append(x)
        return outputs

    def output(self, surrogate: ks.Surrogate, points: np.ndarray) -> tf.Tensor:
        """Shape (networks, points)."""
        last = self.hidden(surrogate, points)[-1]
        return (tf.linalg.matmul(self.weights[-1], last) + self.biases[-1])[:, 0]

    def born_dead(self, points: np.ndarray = POINTS) -> np.ndarray:
        """True for each ReLU network with a layer that is 0 at all points."""
        layers = self.hidden(METHODS["true slope"], points)
        silent = [np.max(np.abs(layer.numpy()), axis=(1, 2)) == 0 for layer in layers]
        return np.any(silent, axis=0)


def share(kind: str, width: int, depth: int) -> dict[str, float]:
    """The share of networks born dead: for one input, for all points, or with asymmetric weights."""
    if kind == "one input":
        sample = simulation.gradient_sample(
            "relu", depth, SAMPLED, width, weight_variance=2.0, seed=width
        )
        # Without a living unit in each layer no gradient arrives.
        return {"dead": float(np.mean(sample.log10_norm == -np.inf))}
    drawn = Networks.draw(SAMPLED, width, depth, seed=0, asymmetric=kind == ASYMMETRIC)
    return {"dead": float(np.mean(drawn.born_dead()))}


def shares() -> list[dict[str, object]]:
    kinds = ("one input", "all points", ASYMMETRIC)
    return [
        {"kind": kind, "width": width, "depth": depth}
        for kind in kinds
        for width in WIDTHS
        for depth in DEPTHS
    ]


def trainings() -> list[dict[str, object]]:
    return [
        {"method": method, "optimizer": optimizer, "width": width}
        for width in TRAINED
        for optimizer in RATES
        for method in METHODS
    ]


def train(method: str, optimizer: str, width: int) -> dict[str, object]:
    """Train 300 networks with each of the rates; the counts of what became of them.

    Adam and SGD act on each number by itself, so that networks of different rates are one batch.
    """
    rates = RATES[optimizer]
    start = Networks.draw(NETWORKS, width, DEPTH, seed=1, asymmetric=method == ASYMMETRIC)
    dead = start.born_dead()
    copies = [tf.tile(one, (len(rates), 1, 1)) for one in (*start.weights, *start.biases)]
    errors = _trained(copies, METHODS[method], optimizer, np.repeat(rates, NETWORKS))
    found = {}
    for rate, part in zip(rates, np.split(errors, len(rates)), strict=True):
        for half, places in (("choosing", slice(CHOOSING)), ("reported", slice(CHOOSING, None))):
            found[f"{half} at {rate:g}"] = _counts(part[places], dead[places])
    return found


def _counts(errors: np.ndarray, dead: np.ndarray) -> dict[str, int]:
    learned = errors < LEARNED
    constant = ~(errors < CONSTANT)
    return {
        "networks": len(errors),
        "born dead": int(dead.sum()),
        "learned": int(learned.sum()),
        "learned, born dead": int((learned & dead).sum()),
        "constant": int(constant.sum()),
        "constant, born dead": int((constant & dead).sum()),
    }


def _trained(
    start: list[tf.Tensor], surrogate: ks.Surrogate, optimizer: str, rates: np.ndarray
) -> np.ndarray:
    """The mean squared error of each network after training, over the variance of |x|."""
    variables = [tf.Variable(one) for one in start]
    layers = len(variables) // 2
    networks = Networks(variables[:layers], variables[layers:])
    rates = tf.constant(rates.reshape(-1, 1, 1), tf.float32)
    targets = np.abs(POINTS)
    moments = [(tf.Variable(tf.zeros_like(one)), tf.Variable(tf.zeros_like(one))) for one in start]

    def error() -> tf.Tensor:
        return tf.reduce_mean(tf.square(networks.output(surrogate, POINTS) - targets), axis=1)

    @tf.function(jit_compile=True)
    def run() -> tf.Tensor:
        for step in tf.range(1, STEPS + 1):
            with tf.GradientTape() as tape:
                # A sum, so that no network has a part in the gradient of another.
                loss = tf.reduce_sum(error())
            gradients = tape.gradient(loss, variables)
            number = tf.cast(step, tf.float32)
            for variable, gradient, (first, second) in zip(
                variables, gradients, moments, strict=True
            ):
                if optimizer == "sgd":
                    variable.assign_sub(rates * gradient)
                    continue
                # Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.
                first.assign(0.9 * first + 0.1 * gradient)
                second.assign(0.999 * second + 0.001 * tf.square(gradient))
                size = tf.sqrt(second / (1 - tf.pow(0.999, number))) + 1e-7
                variable.assign_sub(rates * first / (1 - tf.pow(0.9, number)) / size)
        return error()

    return run().numpy() / np.var(targets)


def table_of_shares(runs: list[dict[str, object]]) -> str:
    """Markdown: the shares of networks born dead, beside the closed form."""
    dead = {(one["kind"], one["width"], one["depth"]): one["dead"] for one in runs}
    lines = []
    for width in WIDTHS:
        for depth in DEPTHS:
            found = [dead[kind, width, depth] for kind in ("one input", "all points", ASYMMETRIC)]
            numbers = [closed_form(width, depth), *found]
            lines.append([width, depth, *(f"{100 * number:.1f}" for number in numbers)])
    heading = ["width", "depth", "one input: closed form, %", "sampled", "24 points", "asymmetric"]
    return study.markdown(heading, lines)


def chosen(run: dict[str, object]) -> float:
    """The rate with which most of the networks that choose it learn."""
    return max(RATES[run["optimizer"]], key=lambda rate: run[f"choosing at {rate:g}"]["learned"])


def reported(run: dict[str, object]) -> dict[str, int]:
    """The counts of the networks that are reported, at the chosen rate."""
    return run[f"reported at {chosen(run):g}"]


def table_of_trainings(runs: list[dict[str, object]]) -> str:
    """Markdown: how many networks learn, of those born dead and of the others."""
    cells = {(one["method"], one["width"], one["optimizer"]): _cell(one) for one in runs}
    columns = [(width, optimizer) for optimizer in RATES for width in TRAINED]
    heading = [f"width {width}, {optimizer}" for width, optimizer in columns]
    lines = [
        [method, *(cells[method, width, optimizer] for width, optimizer in columns)]
        for method in METHODS
    ]
    return study.markdown(["learn, of those born dead; of the others", *heading], lines)


def _cell(run: dict[str, object]) -> str:
    counts = reported(run)
    dead = counts["born dead"]
    of_dead = counts["learned, born dead"]
    alive = counts["networks"] - dead
    of_alive = counts["learned"] - of_dead
    rates = RATES[run["optimizer"]]
    beyond = " or beyond" if chosen(run) in (rates[0], rates[-1]) else ""
    return f"{of_dead} of {dead}; {of_alive} of {alive} at {chosen(run):g}{beyond}"


def draw(sampled: list[dict[str, object]], trained: list[dict[str, object]], path: Path) -> None:
    """The shares of networks born dead over the depth, and those that learn by method."""
    axes = panels(1 + len(RATES), columns=1 + len(RATES))
    depths = np.arange(1, max(DEPTHS) + 1)
    for number, width in enumerate(WIDTHS):
        color = f"C{number}"
        axes[0].plot(depths, [100 * closed_form(width, depth) for depth in depths], color=color)
        for kind, marker in (("one input", "o"), ("all points", "x"), (ASYMMETRIC, "^")):
            found = [one for one in sampled if (one["kind"], one["width"]) == (kind, width)]
            label = f"width {width}" if kind == "one input" else None
            numbers = [100 * one["dead"] for one in found]
            axes[0].plot([one["depth"] for one in found], numbers, marker, color=color, label=label)
    axes[0].set(xlabel="depth", ylabel="born dead in %", xticks=DEPTHS)
    axes[0].set_title("one input: line, o; 24 points: x; asymmetric: ^", fontsize="small")
    axes[0].legend(fontsize="small", frameon=False)
    for ax, optimizer in zip(axes[1:], RATES, strict=True):
        for number, width in enumerate(TRAINED):
            found = [
                one for one in trained if (one["optimizer"], one["width"]) == (optimizer, width)
            ]
            counts = [reported(one) for one in found]
            part = [100 * one["learned"] / one["networks"] for one in counts]
            places = np.arange(len(found)) + 0.27 * (number - 1)
            ax.barh(places, part, 0.25, label=f"width {width}", color=f"C{number}")
        ax.set_yticks(range(len(METHODS)), METHODS, fontsize="small")
        ax.invert_yaxis()
        ax.set(xlabel=f"learn |x| under {optimizer}, % of all networks", xlim=(0, 100))
    axes[-1].legend(fontsize="small", frameon=False)
    plots.save(axes, path, dpi=100)


def finished(wanted: list[dict[str, object]]) -> list[dict[str, object]]:
    """The finished runs with these settings."""
    runs = study.read(NAME, RESULTS)
    return [one for settings in wanted for one in runs if settings.items() <= one.items()]


def report() -> None:
    """Write the tables and the picture."""
    sampled = finished(shares())
    trained = finished(trainings())
    study.write(f"{NAME}_shares", table_of_shares(sampled), RESULTS)
    study.write(NAME, table_of_trainings(trained), RESULTS)
    draw(sampled, trained, RESULTS / f"{NAME}.png")


def main(only_report: bool = False) -> None:
    if not only_report:
        study.run(NAME, shares(), share, RESULTS)
        study.run(NAME, trainings(), train, RESULTS)
    report()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", action="store_true", help="from the finished runs only")
    main(parser.parse_args().report)
