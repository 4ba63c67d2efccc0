"""Recommendations for four networks before training, and trainings that show if they were right.

`diagnosis.recommend` measures slopes on one batch of a network that is not trained yet: does the
gradient keep its size, does it keep its direction, what does one step gain? It ranks them beside
the true slope, other initial weights and normalisation. Then the first and the last of the ranking
are trained, from the same seed and with the same learning rate.

    python examples/13_recommend.py
    python examples/13_recommend.py --all       trains every slope, with two seeds (long)
    python examples/13_recommend.py --others    the same for eight other networks, with one seed

With these it counts how often the option that is ranked first is within two points of the best one.
Needs scikit-learn for the digits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import keras
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import datasets, diagnosis

# A slope within so many points of the best one is as good.
CLOSE = 0.02


class Network(NamedTuple):
    """A stack of layers of 64 units.

    Attributes:
        forward: the activation; "step" for spiking neurons.
        depth: the number of hidden layers.
        weights: the initial weights: a name, or the variance of the weights times fan_in.
        optimizer: a function that makes the optimizer.
        epochs: how long to train it.
    """

    forward: str
    depth: int
    weights: str | float
    optimizer: Callable[[], keras.optimizers.Optimizer]
    epochs: int

    def build(
        self, slope: ks.Surrogate | None = None, seed: int = 0, critical: bool = False
    ) -> keras.Sequential:
        """The network with a slope; None for the true one."""
        keras.utils.set_random_seed(seed)
        pair = slope or ks.Surrogate(self.forward)
        layers = [keras.Input((64,))]
        for number in range(self.depth):
            layers.append(keras.layers.Dense(64, kernel_initializer=self._initializer(critical)))
            if self.forward != "step":
                layers.append(ks.layers.SurrogateActivation(pair))
                continue
            if number == 0:
                layers.append(ks.layers.ConstantCurrent(12))
            layers.append(ks.layers.LIF(surrogate=pair))
        if self.forward == "step":
            layers.append(ks.layers.SpikeCount(average=True))
        model = keras.Sequential([*layers, keras.layers.Dense(10)])
        model.compile(
            self.optimizer(),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            steps_per_execution=20,
        )
        return model

    def _initializer(self, critical: bool) -> keras.initializers.Initializer:
        if critical:
            return ks.initializers.CriticalNormal(self.forward)
        if isinstance(self.weights, str):
            return keras.initializers.get(self.weights).clone()
        return keras.initializers.VarianceScaling(self.weights, "fan_in", "untruncated_normal")


NETWORKS = {
    "20 ReLU layers, He's weights": Network(
        "relu", 20, "he_normal", lambda: keras.optimizers.Adam(0.001), 8
    ),
    "5 sigmoid layers, Glorot's weights": Network(
        "sigmoid", 5, "glorot_uniform", lambda: keras.optimizers.SGD(0.1), 20
    ),
    "8 layers of signs": Network("sign", 8, 1.0, lambda: keras.optimizers.Adam(0.003), 12),
    "4 spiking layers": Network("step", 4, 3.0, lambda: keras.optimizers.Adam(0.002), 8),
}

OTHERS = {
    "5 layers of signs": Network("sign", 5, 1.0, lambda: keras.optimizers.Adam(0.001), 12),
    "12 layers of signs": Network("sign", 12, 1.0, lambda: keras.optimizers.Adam(0.003), 12),
    "10 ReLU layers, SGD": Network("relu", 10, "he_normal", lambda: keras.optimizers.SGD(0.1), 10),
    "4 sigmoid layers, SGD": Network(
        "sigmoid", 4, "glorot_uniform", lambda: keras.optimizers.SGD(0.3), 20
    ),
    "10 tanh layers": Network(
        "tanh", 10, "glorot_uniform", lambda: keras.optimizers.Adam(0.001), 8
    ),
    "5 layers of signs, SGD": Network("sign", 5, 1.0, lambda: keras.optimizers.SGD(0.1), 12),
    "8 layers of signs, SGD": Network("sign", 8, 1.0, lambda: keras.optimizers.SGD(0.03), 12),
    "20 ReLU layers, Glorot's weights": Network(
        "relu", 20, "glorot_uniform", lambda: keras.optimizers.Adam(0.001), 8
    ),
}


def recommended(network: Network, data: datasets.Dataset, seed: int = 0) -> diagnosis.Recommended:
    """The recommendation for the network with its true slope, on 256 images."""
    images = data.x_train[:256].reshape(-1, 64)
    return diagnosis.recommend(network.build(seed=seed), images, data.y_train[:256])


def accuracy(
    network: Network, option: diagnosis.Option, data: datasets.Dataset, epochs: int, seed: int = 0
) -> float:
    """The test accuracy after training with an option: a slope, or critical weights."""
    model = network.build(option.surrogate, seed, critical=option.kind == "weights")
    model.fit(data.x_train.reshape(-1, 64), data.y_train, epochs=epochs, verbose=0)
    _, found = model.evaluate(data.x_test.reshape(-1, 64), data.y_test, verbose=0)
    return found


def chosen(result: diagnosis.Recommended, everything: bool) -> Iterator[diagnosis.Option]:
    """The options to train: the first one, the true slope, the first and the last slope, or all."""
    options = [one for one in result.options if one.kind in ("true", "slope", "weights")]
    options = [one for one in options if one.reason is None]
    slopes = [one for one in options if one.kind == "slope"]
    for one in options:
        is_wanted = one is options[0] or one.kind == "true" or one in (slopes[0], slopes[-1])
        # Weights are worth a training where they are recommended.
        if one.kind == "weights" and one is not result.best:
            continue
        if is_wanted or everything:
            yield one


def measure(
    network: Network, data: datasets.Dataset, epochs: int, everything: bool, seed: int
) -> tuple[diagnosis.Recommended, dict[str, float]]:
    """The recommendation, and the test accuracy of the options that were trained, best first."""
    result = recommended(network, data, seed)
    found = {
        one.name: accuracy(network, one, data, epochs, seed) for one in chosen(result, everything)
    }
    return result, found


def behind(found: dict[str, float]) -> float:
    """How far the option ranked first is behind the best one that was trained."""
    return max(found.values()) - next(iter(found.values()))


def main(
    epochs: int | None = None,
    everything: bool = False,
    seeds: Sequence[int] = (0,),
    others: bool = False,
) -> dict[str, dict[str, float]]:
    """Prints the verdicts and a table; returns the accuracies for each network and first seed.

    Args:
        epochs: default None, those of each network.
        everything: True trains every slope.
        seeds: those of weights and batches; the table shows the first one.
        others: True takes eight other networks.
    """
    data = datasets.load("digits")
    console = Console()
    table = Table("network", "option, best first", title="Recommended before training, and trained")
    for heading in ("ratio", "least\ncosine", "effect", "test\naccuracy"):
        table.add_column(heading, justify="right")
    accuracies = {}
    distances = []
    for name, network in (OTHERS if others else NETWORKS).items():
        for seed in seeds:
            result, found = measure(network, data, epochs or network.epochs, everything, seed)
            distances.append(behind(found))
            if seed != seeds[0]:
                continue
            accuracies[name] = found
            console.print(f"\n{name}: {result.verdict}", highlight=False)
            for number, (option, score) in enumerate(found.items()):
                one = result[option]
                cosine = "" if one.least_cosine is None else f"{one.least_cosine:.2f}"
                cells = (f"{one.ratio:.2g}", cosine, one.effect or "", f"{score:.1%}")
                table.add_row("" if number else name, option, *cells)
    console.print("", table)
    console.print(
        f"Of {len(distances)} rankings {sum(one <= CLOSE for one in distances)} have an option "
        f"first that is within {100 * CLOSE:.0f} points of the best of those that were trained. "
        f"Points behind: {', '.join(f'{100 * one:.1f}' for one in distances)}."
    )
    return accuracies


if __name__ == "__main__":
    if "--all" in sys.argv:
        main(everything=True, seeds=(0, 1))
    elif "--others" in sys.argv:
        main(everything=True, seeds=(3,), others=True)
    else:
        main()
