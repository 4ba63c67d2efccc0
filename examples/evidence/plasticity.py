"""Loss of plasticity: ten tasks one after the other, with slopes, and with their rivals.

    python examples/evidence/plasticity.py                trains what the results lack, then reports
    python examples/evidence/plasticity.py --optimizers   tables and picture of the finished runs

A ReLU network of three layers of 64 units learns ten tasks of Fashion-MNIST, each from where the
last one ended, weights and momenta included. A new way to train is one line of `METHODS`, a new
sequence of tasks one class of `Tasks`. The learning rate of each method is the one with the best
mean accuracy over the tasks on the seeds 100 and 101; the seeds 0 to 4 are trained with it.
Writes results/plasticity.jsonl, plasticity.md, plasticity_fixed.md and plasticity.png.
"""

from __future__ import annotations

import abc
import argparse
import dataclasses
import functools
import itertools
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_surrogate as ks
from keras_surrogate import comparison, datasets, plots, thresholds
from keras_surrogate.plots.axes import panels

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
sys.path.append(str(FOLDER.parent / "published"))
import study  # noqa: E402

NAME = "plasticity"
COUNT = 10
DEPTH = 3
WIDTH = 64
BATCH = 32
SEEDS = range(5)
TUNING_SEEDS = (100, 101)
RATES = {"adam": (0.0003, 0.001, 0.003), "sgd": (0.01, 0.03, 0.1)}
# Steps between two calibrations.
CALIBRATED = 100
# Images for ReDo, calibration, dead and dormant units.
PROBED = 256
# A unit whose output varies by no more than this is dead, as in `comparison`.
CONSTANT = 1e-6


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to train.

    Args:
        forward: the function of the values.
        backward: that of the slope; None for the forward's own.
        leak: the negative slope of "leaky_relu".
        calibrated: `callbacks.Calibration`, before each task and then every 100 of its steps.
        annealed: the slope goes over to the true one in the first half of each task.
        recycled: the steps, over all tasks, between two calls of `callbacks.RecycleUnits` (ReDo,
            threshold 0.025), at the end of an epoch; 0 for none.
        asymmetric: `initializers.RandomizedAsymmetric` instead of He's weights.
        decay: the loss has decay / 2 * sum(kernel**2) besides.
        normalized: LayerNormalization before each activation.
        restarted: each task begins with new weights. It is no rival but the reference.
    """

    forward: str = "relu"
    backward: str | None = None
    leak: float = 0.3
    calibrated: bool = False
    annealed: bool = False
    recycled: int = 0
    asymmetric: bool = False
    decay: float = 0.0
    normalized: bool = False
    restarted: bool = False

    @property
    def surrogate(self) -> ks.Surrogate:
        """The pair of all hidden layers."""
        forward = self._function(self.forward)
        backward = None if self.backward is None else self._function(self.backward)
        return ks.Surrogate(forward, backward)

    def _function(self, name: str) -> object:
        if name == "leaky_relu":
            return ks.functions.get(name, negative_slope=self.leak)
        return ks.functions.get(name)


METHODS = {
    "true slope": Method(),
    "slope leaky 0.1": Method(backward="leaky_relu", leak=0.1),
    "slope leaky 0.3": Method(backward="leaky_relu"),
    "slope leaky 0.3, calibrated": Method(backward="leaky_relu", calibrated=True),
    "slope leaky 0.3, annealed": Method(backward="leaky_relu", annealed=True),
    "slope softplus": Method(backward="softplus"),
    "slope softplus, calibrated": Method(backward="softplus", calibrated=True),
    "slope softplus, annealed": Method(backward="softplus", annealed=True),
    "leaky forward 0.1": Method(forward="leaky_relu", leak=0.1),
    "ReDo every 100": Method(recycled=100),
    "ReDo every 500": Method(recycled=500),
    "asymmetric start": Method(asymmetric=True),
    "L2 1e-4": Method(decay=1e-4),
    "L2 1e-3": Method(decay=1e-3),
    "layer norm": Method(normalized=True),
    "restart": Method(restarted=True),
}
TRUE = "true slope"
RESTART = "restart"


class Tasks(abc.ABC):
    """A sequence of tasks. Subclasses are found by being defined.

    Attributes:
        name: how a run names it.
        measured: what the accuracy of a task is measured on.
        images: the number of training images.
        epochs: those of each task.
    """

    known: dict[str, type[Tasks]] = {}  # noqa: RUF012
    name: str
    measured: str
    images: int
    epochs: int

    def __init_subclass__(cls) -> None:
        Tasks.known[cls.name] = cls

    def __init__(self, data: datasets.Dataset, seed: int) -> None:
        self.seed = seed
        chosen = np.random.default_rng([seed, 0]).permutation(len(data.x_train))[: self.images]
        self.x = data.x_train[chosen].reshape(self.images, -1)
        self.y = data.y_train[chosen]
        self.x_test = data.x_test[:2000].reshape(2000, -1)
        self.y_test = data.y_test[:2000]
        self.classes = data.classes

    def random(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 1, number])

    @abc.abstractmethod
    def arrays(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Images and labels to train with, and those to measure the accuracy with."""


class Permuted(Tasks):
    """The same images with their pixels in another order in each task."""

    name = "permuted"
    measured = "2000 test images"
    images = 3000
    epochs = 5

    def arrays(self, number):
        order = self.random(number).permutation(self.x.shape[1])
        return self.x[:, order], self.y, self.x_test[:, order], self.y_test


class Relabelled(Tasks):
    """The same images with new random labels in each task, which the network has to memorise."""

    name = "relabelled"
    measured = "its training images"
    images = 1000
    epochs = 20

    def arrays(self, number):
        labels = self.random(number).integers(0, self.classes, self.images)
        return self.x, labels, self.x, labels


class Learner:
    """A network and its optimizer, compiled once for all rates, seeds and tasks of a method."""

    def __init__(self, method: Method, optimizer: str) -> None:
        self.method = method
        surrogate = method.surrogate
        inputs = keras.Input((784,))
        x = inputs
        self._dense = []
        hidden = []
        for _ in range(DEPTH):
            layer = keras.layers.Dense(WIDTH, kernel_initializer="he_normal")
            self._dense.append(layer)
            x = layer(x)
            if method.normalized:
                x = keras.layers.LayerNormalization()(x)
            x = ks.layers.SurrogateActivation(surrogate)(x)
            hidden.append(x)
        last = keras.layers.Dense(10)
        self._dense.append(last)
        self.model = keras.Model(inputs, last(x))
        self._hidden = keras.Model(inputs, hidden)
        self._loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._optimizer = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}[optimizer]()
        self._optimizer.build(self.model.trainable_variables)
        self.model.compile(self._optimizer, self._loss)
        self._variables = [*self.model.variables, *self._optimizer.variables]
        self._initial = [np.array(one) for one in self._variables]
        activations = [layer for layer in self.model.layers if hasattr(layer, "hold_blend")]
        self._blends = [layer.hold_blend() for layer in activations] if method.annealed else []
        self._calibration = None
        if method.calibrated:
            # Their contents are those of the present task.
            self._batch = np.zeros((PROBED, 784), "float32"), np.zeros(PROBED, "int64")
            self._calibration = ks.callbacks.Calibration(*self._batch)
            self._calibration.set_model(self.model)
        self._train = tf.function(self._steps, jit_compile=True)
        self._logits = tf.function(self.model, reduce_retracing=True)

    def train(self, tasks: Tasks, rate: float) -> dict[str, object]:
        """Accuracy, dead and dormant units at the end of each task."""
        self._reset(tasks.seed)
        self._optimizer.learning_rate = rate
        found = {"accuracy": [], "dead": [], "dormant": [], "recycled": 0}
        for number in range(COUNT):
            if self.method.restarted and number:
                self._reset(tasks.seed + 1000 * number)
            x, y, x_test, y_test = tasks.arrays(number)
            found["recycled"] += self._learn(x, y, tasks, number)
            guesses = np.argmax(self._logits(tf.constant(x_test)).numpy(), axis=1)
            found["accuracy"].append(round(float(np.mean(guesses == y_test)), 4))
            for name, share in self._units(x_test[:PROBED]).items():
                found[name].append(share)
        return found

    def _reset(self, seed: int) -> None:
        """Give all variables but the rate their initial values, and the kernels those of a seed."""
        rate = np.array(self._optimizer.learning_rate)
        for variable, value in zip(self._variables, self._initial, strict=True):
            variable.assign(value)
        self._optimizer.learning_rate = rate
        for number, layer in enumerate(self._dense):
            own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)
            is_hidden = number < DEPTH
            if self.method.asymmetric and is_hidden:
                fan_in = layer.kernel.shape[0]
                kernel = ks.initializers.RandomizedAsymmetric(own)
                bias = ks.initializers.RandomizedAsymmetric(own, fan_in=fan_in)
                layer.bias.assign(bias(layer.bias.shape))
            elif is_hidden:
                kernel = keras.initializers.HeNormal(own)
            else:
                kernel = keras.initializers.GlorotUniform(own)
            layer.kernel.assign(kernel(layer.kernel.shape))

    def _learn(self, x: np.ndarray, y: np.ndarray, tasks: Tasks, number: int) -> int:
        """Train one task; returns the number of units that began anew."""
        redo = None
        if self.method.recycled:
            redo = ks.callbacks.RecycleUnits(x[:PROBED], seed=tasks.seed)
            redo.set_model(self.model)
            redo.on_train_begin()
        if self._calibration is not None:
            self._batch[0][:] = x[:PROBED]
            self._batch[1][:] = y[:PROBED]
            self._calibration.on_train_begin()
            self._calibration.calibrate()
        random = np.random.default_rng([tasks.seed, 2, number])
        steps = len(x) // BATCH
        x = tf.constant(x)
        y = tf.constant(y)
        for epoch in range(tasks.epochs):
            places = random.permutation(len(x))[: steps * BATCH].reshape(steps, BATCH)
            passed = (epoch * steps + np.arange(steps)) / (steps * tasks.epochs)
            blends = np.maximum(0, 1 - 2 * passed).astype("float32")
            loss = self._train(tf.constant(places), x, y, tf.constant(blends))
            if not np.isfinite(loss):
                break
            done = (number * tasks.epochs + epoch) * steps
            if redo is not None and _is_due(self.method.recycled, done, steps):
                redo.recycle()
            if self._calibration is not None and _is_due(CALIBRATED, epoch * steps, steps):
                self._calibration.calibrate()
        return 0 if redo is None else sum(len(one.units) for one in redo.recycled)

    def _steps(self, places: tf.Tensor, x: tf.Tensor, y: tf.Tensor, blends: tf.Tensor) -> tf.Tensor:
        """One step for each row of places; returns the sum of the losses."""
        total = tf.zeros([])
        for step in tf.range(len(places)):
            for blend in self._blends:
                blend.assign(blends[step])
            batch = places[step]
            with tf.GradientTape() as tape:
                loss = self._loss(tf.gather(y, batch), self.model(tf.gather(x, batch)))
                if self.method.decay:
                    for layer in self._dense:
                        loss += self.method.decay / 2 * tf.reduce_sum(tf.square(layer.kernel))
            variables = self.model.trainable_variables
            self._optimizer.apply(tape.gradient(loss, variables), variables)
            total += loss
        return total

    def _units(self, x: np.ndarray) -> dict[str, float | None]:
        """The shares of dead and dormant hidden units, means over the layers."""
        dead = []
        dormant = []
        for output in self._hidden(x):
            output = output.numpy()
            size = np.abs(output).mean(axis=0)
            dead.append(np.mean(np.ptp(output, axis=0) <= CONSTANT))
            dormant.append(np.mean(size <= thresholds.DORMANT * size.mean()))
        if not np.isfinite(output).all():
            return {"dead": None, "dormant": None}
        return {
            "dead": round(float(np.mean(dead)), 4),
            "dormant": round(float(np.mean(dormant)), 4),
        }


def _is_due(every: int, done: int, steps: int) -> bool:
    """True if another `every` steps are full after an epoch of `steps`, with `done` before it."""
    return done // every < (done + steps) // every


@functools.lru_cache(maxsize=1)
def _learner(method: str, optimizer: str) -> Learner:
    return Learner(METHODS[method], optimizer)


@functools.lru_cache(maxsize=1)
def _data() -> datasets.Dataset:
    return datasets.load("fashion-mnist")


def train(method: str, optimizer: str, tasks: str, rate: float, seed: int) -> dict[str, object]:
    """One run: the accuracy and the dead and dormant units of each task."""
    return _learner(method, optimizer).train(Tasks.known[tasks](_data(), seed), rate)


def tuning(method: str, optimizer: str, tasks: str) -> list[dict[str, object]]:
    """The settings of the runs that choose a learning rate."""
    return [
        {"method": method, "optimizer": optimizer, "tasks": tasks, "rate": rate, "seed": seed}
        for rate in RATES[optimizer]
        for seed in TUNING_SEEDS
    ]


def chosen(runs: list[dict[str, object]]) -> float:
    """The rate with the best mean accuracy over all tasks and seeds."""
    rates = dict.fromkeys(one["rate"] for one in runs)
    return max(
        rates,
        key=lambda rate: np.mean([one["accuracy"] for one in runs if one["rate"] == rate]),
    )


def final(settings: dict[str, object], rate: float) -> list[dict[str, object]]:
    """The settings of the runs that are reported."""
    return [{**settings, "rate": rate, "seed": seed} for seed in SEEDS]


@dataclasses.dataclass(frozen=True)
class Row:
    """The finished runs of one method with its best rate.

    Attributes:
        method, optimizer, tasks, rate: their settings.
        runs: one for each seed.
        tuned: the runs that chose the rate.
    """

    method: str
    optimizer: str
    tasks: str
    rate: float
    runs: list[dict[str, object]]
    tuned: list[dict[str, object]]

    @property
    def accuracy(self) -> np.ndarray:
        """Shape (seeds, tasks)."""
        return np.array([one["accuracy"] for one in self.runs])

    def share(self, name: str) -> np.ndarray:
        """The shares of "dead" or "dormant" units, shape (seeds, tasks), NaN where unknown."""
        return np.array([one[name] for one in self.runs], float)


def rows(runs: list[dict[str, object]]) -> list[Row]:
    """A row for each method, optimizer and sequence of tasks whose runs are all finished."""
    by_settings = {
        (one["method"], one["optimizer"], one["tasks"], one["rate"], one["seed"]): one
        for one in runs
    }

    def known(wanted: list[dict[str, object]]) -> list[dict[str, object]]:
        keys = [tuple(one.values()) for one in wanted]
        return [by_settings[key] for key in keys if key in by_settings]

    found = []
    for tasks, optimizer, method in itertools.product(Tasks.known, RATES, METHODS):
        wanted = tuning(method, optimizer, tasks)
        tuned = known(wanted)
        if len(tuned) < len(wanted):
            continue
        rate = chosen(tuned)
        settings = {"method": method, "optimizer": optimizer, "tasks": tasks}
        last = known(final(settings, rate))
        if len(last) == len(SEEDS):
            found.append(Row(method, optimizer, tasks, rate, last, tuned))
    return found


def groups(found: list[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each sequence of tasks and optimizer."""
    result = {}
    for row in found:
        result.setdefault((row.tasks, row.optimizer), []).append(row)
    return result


def table(found: list[Row]) -> str:
    """Markdown: a table for each sequence of tasks and optimizer, each method with its best rate."""
    heading = ["rate", "mean %", "less true slope", "task 1", f"task {COUNT}", "less restart"]
    heading += ["dead %", "dormant %"]
    parts = []
    for (tasks, optimizer), group in groups(found).items():
        by_method = {row.method: row for row in group}
        lines = [_line(row, by_method.get(TRUE), by_method.get(RESTART)) for row in group]
        parts.append(study.markdown([f"{tasks}, {optimizer}", *heading], lines))
    return "\n".join(parts)


def _line(row: Row, true: Row | None, restart: Row | None) -> list[object]:
    mean = row.accuracy.mean(axis=1)
    last = row.accuracy[:, -1]
    edge = " \\*" if row.rate in (min(RATES[row.optimizer]), max(RATES[row.optimizer])) else ""
    return [
        row.method,
        f"{row.rate:g}{edge}",
        f"{100 * mean.mean():.1f}",
        "" if true in (None, row) else _difference(mean - true.accuracy.mean(axis=1)),
        f"{100 * row.accuracy[:, 0].mean():.1f}",
        f"{100 * last.mean():.1f}",
        "" if restart in (None, row) else _difference(last - restart.accuracy[:, -1]),
        _percent(row.share("dead")[:, -1]),
        _percent(row.share("dormant")[:, -1]),
    ]


def _difference(differences: np.ndarray) -> str:
    """The mean difference in points with its 95 % interval; bold if that leaves out 0 by a point."""
    found = comparison.interval(differences)
    text = f"{100 * found.mean:+.1f}"
    if abs(found.mean) >= 0.01 and not found.low <= 0 <= found.high:
        text = f"**{text}**"
    return f"{text} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def _percent(shares: np.ndarray) -> str:
    known = shares[np.isfinite(shares)]
    return f"{100 * known.mean():.0f}" if len(known) else "-"


def table_at_largest_rate(found: list[Row]) -> str:
    """Markdown: all methods at the largest rate, on the seeds that chose: task 1, task 10, dead, dormant."""
    cells = {}
    for row in found:
        rate = max(RATES[row.optimizer])
        runs = [one for one in row.tuned if one["rate"] == rate]
        cells[row.method, row.tasks, row.optimizer] = _at_rate(row, runs)
    columns = list(groups(found))
    heading = [f"{tasks}, {optimizer} at {max(RATES[optimizer]):g}" for tasks, optimizer in columns]
    lines = [
        [method, *(cells.get((method, *column), "") for column in columns)] for method in METHODS
    ]
    return study.markdown([f"% in task 1; in task {COUNT}; dead; dormant", *heading], lines)


def _at_rate(row: Row, runs: list[dict[str, object]]) -> str:
    part = dataclasses.replace(row, runs=runs)
    accuracy = 100 * part.accuracy.mean(axis=0)
    shares = [_percent(part.share(name)[:, -1]) for name in ("dead", "dormant")]
    return "; ".join([f"{accuracy[0]:.0f}", f"{accuracy[-1]:.0f}", *shares])


def draw(found: list[Row], path: Path) -> None:
    """A panel for each sequence of tasks and optimizer: accuracy over the tasks, a line a method."""
    parts = groups(found)
    # The last panel has the legend of all.
    axes = panels(len(parts) + 1, columns=3)
    for ax, ((tasks, optimizer), group) in zip(axes[:-1], parts.items(), strict=True):
        for row in group:
            number = list(METHODS).index(row.method)
            style = {"color": f"C{number % 10}", "ls": "-" if number < 10 else "--"}
            if row.method in (TRUE, RESTART):
                style = {"color": "black", "lw": 2.5, "ls": "-" if row.method == TRUE else ":"}
            accuracy = 100 * row.accuracy.mean(axis=0)
            ax.plot(range(1, COUNT + 1), accuracy, label=row.method, **style)
        ax.set(title=f"{tasks}, {optimizer}", xlabel="task")
        ax.set(ylabel=f"accuracy in %, {Tasks.known[tasks].measured}")
        ax.grid(alpha=0.25)
    axes[-1].axis("off")
    axes[-1].legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="center left")
    plots.save(axes, path, dpi=100)


def report() -> None:
    """Write the tables and the picture."""
    found = rows(study.read(NAME, RESULTS))
    study.write(NAME, table(found), RESULTS)
    study.write(f"{NAME}_fixed", table_at_largest_rate(found), RESULTS)
    draw(found, RESULTS / f"{NAME}.png")


def main(optimizers: list[str]) -> None:
    # The optimizer outermost: each method is compiled once for all its runs.
    for optimizer, method, tasks in itertools.product(optimizers, METHODS, Tasks.known):
        tuned = study.run(NAME, tuning(method, optimizer, tasks), train, RESULTS)
        settings = {"method": method, "optimizer": optimizer, "tasks": tasks}
        study.run(NAME, final(settings, chosen(tuned)), train, RESULTS)
    report()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--optimizers", nargs="*", choices=RATES, default=list(RATES), help="default: all"
    )
    main(parser.parse_args().optimizers)
