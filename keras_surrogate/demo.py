"""The demo: a deep network, trained with its true derivative and with a surrogate.

Both trainings start from the same initial weights and see the data in the same order.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from keras_surrogate import callbacks, datasets, files, layers
from keras_surrogate.checks import integer
from keras_surrogate.reprs import Shown
from keras_surrogate.surrogate import Surrogate
from keras_surrogate.testing import roundtrip

if TYPE_CHECKING:
    from collections.abc import Sequence

# Smallest valid integers.
_LEAST = {"epochs": 1, "depth": 1, "width": 1, "batch_size": 1, "seed": 0}
# Steps at the start and at the end over which the table averages the gradient norms.
_AVERAGED = 20


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of the demo.

    The default is a textbook vanishing gradient: five sigmoid layers, trained by plain SGD.

    Args:
        data: a name that `datasets.load` takes; default "digits".
        data_dir: a folder that contains the data; default None, to find or download it.
        epochs: at least 1; default 40.
        depth: number of hidden layers, at least 1; default 5.
        width: units in each hidden layer, at least 1; default 64.
        forward, backward: functions as in `Surrogate`; default "sigmoid" and "tanh".
        scale: a factor of the backward's slope; default 1.
        learning_rate: learning rate of plain SGD; positive, default 0.1.
        batch_size: at least 1; default 32.
        seed: determines initial weights and data order of both trainings; at least 0, default 0.
        output: the folder for pictures and models; default "keras-surrogate-demo".

    Raises:
        ValueError: a number is out of range; a function is unknown; the output is a file or lies
            below one.
    """

    data: str = "digits"
    data_dir: str | None = None
    epochs: int = 40
    depth: int = 5
    width: int = 64
    forward: str = "sigmoid"
    backward: str = "tanh"
    scale: float = 1.0
    learning_rate: float = 0.1
    batch_size: int = 32
    seed: int = 0
    output: str = "keras-surrogate-demo"

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            integer(getattr(self, name), name, least)
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(
                f"learning_rate must be a positive number, but is {self.learning_rate}."
            )
        files.check_folder(self.output)
        # Raises an error for an unknown function, before the data is loaded.
        _ = self.surrogate

    @property
    def surrogate(self) -> Surrogate:
        """The surrogate of the hidden layers."""
        return Surrogate(self.forward, self.backward, self.scale)


@dataclasses.dataclass(frozen=True, repr=False)
class TrainedModel(Shown):
    """A trained model and its measurements.

    Attributes:
        title: the name in the table and on the picture.
        model: the model after training.
        record: the logger of the gradient norms.
        accuracy, loss: those on the test images.
        dead: the share of dead units in each hidden layer, shape (depth,); see `dead_units`.
        interrupted: True if Ctrl-C has ended the training early.
    """

    title: str
    model: keras.Model
    record: callbacks.GradientNormLogger
    accuracy: float
    loss: float
    dead: np.ndarray
    interrupted: bool

    _more = "run.model, run.record"

    def _facts(self) -> dict[str, object]:
        return {
            "": self.title,
            "test accuracy": self.accuracy,
            "test loss": self.loss,
            "dead units": self.dead,
            "interrupted": self.interrupted,
        }


def run(settings: Settings, console: Console | None = None) -> list[TrainedModel]:
    """Trains both networks, prints the table and writes the files.

    Args:
        settings: `Settings`.
        console: the rich `Console` to print on; default the terminal.

    Returns:
        The runs, that of the true derivative first. After Ctrl-C the last one is interrupted, and
        there may be only one.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: the data is not available.
    """
    console = console or Console()
    # On a terminal only, until the first result.
    with console.status(f"Loading {settings.data}"):
        # An ImportError is raised here and not after both trainings.
        importlib.import_module("keras_surrogate.plots")
        data = datasets.load(settings.data, settings.data_dir)
    surrogate = settings.surrogate
    activations = {"true derivative": surrogate.true(), "surrogate": surrogate}
    runs = []
    for title, activation in activations.items():
        console.print(f"\n{title}: {_described(activation)}", style="bold")
        runs.append(train(settings, data, title, activation))
        if runs[-1].interrupted:
            console.print("\nInterrupted: the results so far follow.")
            break
    console.print(table(runs, data), verdict(runs), sep="\n")
    _write(settings, runs, data, console)
    return runs


def _described(pair: Surrogate) -> str:
    factor = "" if pair.scale == 1 else f"{pair.scale:g} times the "
    return f"{pair.forward.title} forward, {factor}slope of {pair.backward.title} backward"


def build(settings: Settings, data: datasets.Dataset, activation: Surrogate) -> keras.Sequential:
    """A classifier of Dense layers with Keras's default weights, compiled with plain SGD."""
    keras.utils.set_random_seed(settings.seed)
    hidden = [
        keras.layers.Dense(
            settings.width,
            activation=layers.SurrogateActivation(activation),
            name=f"hidden_{number}",
        )
        for number in range(1, settings.depth + 1)
    ]
    model = keras.Sequential(
        [
            keras.Input(data.x_train.shape[1:]),
            keras.layers.Flatten(),
            *hidden,
            keras.layers.Dense(data.classes, name="output"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(settings.learning_rate), loss, metrics=["accuracy"])
    return model


def train(
    settings: Settings, data: datasets.Dataset, title: str, activation: Surrogate
) -> TrainedModel:
    """Trains one network and returns its `TrainedModel`."""
    model = build(settings, data, activation)
    record = callbacks.GradientNormLogger()
    interrupted = False
    try:
        # The progress bar is the first callback. After the logger it would show all norms.
        model.fit(
            data.x_train,
            data.y_train,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            callbacks=[keras.callbacks.ProgbarLogger(), record],
        )
    except KeyboardInterrupt:
        interrupted = True
    loss, accuracy = model.evaluate(data.x_test, data.y_test, batch_size=256, verbose=0)
    dead = dead_units(model, data.x_test)
    return TrainedModel(title, model, record, accuracy, loss, dead, interrupted)


def dead_units(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """The share of units in each hidden layer with the same output for all inputs in `x`."""
    hidden = [layer.output for layer in model.layers if layer.name.startswith("hidden")]
    outputs = keras.Model(model.inputs[0], hidden).predict(x, batch_size=256, verbose=0)
    if not isinstance(outputs, list):
        outputs = [outputs]
    return np.array([np.mean(np.ptp(output, axis=0) <= 1e-6) for output in outputs])


def table(runs: Sequence[TrainedModel], data: datasets.Dataset) -> Table:
    """A rich table with a column for each run.

    Its rows are accuracy, loss, gradient norms at the start and at the end, and dead units.
    """
    result = Table(
        title=f"{data.name}: {len(data.x_train)} training images, {len(data.x_test)} test images"
    )
    result.add_column("")
    for finished in runs:
        result.add_column(finished.title, justify="right")
    # The accuracy of always answering with the most frequent class.
    guessing = np.bincount(data.y_test).max() / len(data.y_test)
    for section in zip(*[_sections(finished, guessing) for finished in runs], strict=True):
        for row in zip(*section, strict=True):
            label, _ = row[0]
            result.add_row(label, *(text for _, text in row))
        result.add_section()
    return result


def _sections(finished: TrainedModel, guessing: float) -> list[list[tuple[str, str]]]:
    """The parts of a run's column, each a list of pairs of a label and a text."""
    first = slice(_AVERAGED)
    last = slice(-_AVERAGED, None)
    return [
        [
            (f"test accuracy (guessing: {guessing:.1%})", f"{finished.accuracy:.1%}"),
            ("test loss", f"{finished.loss:.3f}"),
        ],
        _norm_rows(f"gradient norm, first {_AVERAGED} steps", finished, first),
        _norm_rows(f"gradient norm, last {_AVERAGED} steps", finished, last),
        [("dead hidden units (constant output)", f"{finished.dead.mean():.1%}")],
    ]


def _norm_rows(heading: str, finished: TrainedModel, steps: slice) -> list[tuple[str, str]]:
    """The mean norm of each layer over some steps, and the ratio of the first to the last layer."""
    names = finished.record.layer_names
    norms = finished.record.norms[steps]
    means = np.full(len(names), np.nan)
    if len(norms):
        means = norms.mean(axis=0)
    rows = [(f"  {name}", f"{mean:.2e}") for name, mean in zip(names, means, strict=True)]
    if rows:
        rows.append(("  first / last layer", f"{means[0] / means[-1]:.2e}"))
    return [(heading, ""), *rows]


def verdict(runs: Sequence[TrainedModel]) -> str:
    """A sentence that says which run has the better test accuracy."""
    if len(runs) < 2:
        return "Only the network with the true derivative was trained."
    true, other = runs
    difference = 100 * (other.accuracy - true.accuracy)
    if abs(difference) < 1:
        return (
            f"The surrogate makes no relevant difference here: {difference:+.1f} points of test "
            "accuracy."
        )
    better = "gains" if difference > 0 else "LOSES"
    return (
        f"The surrogate {better} {abs(difference):.1f} points of test accuracy compared to the "
        "true derivative."
    )


def _write(
    settings: Settings, runs: Sequence[TrainedModel], data: datasets.Dataset, console: Console
) -> None:
    """Writes picture, norms, and the last model in two formats; reopens both and compares them."""
    with console.status("Writing"), files.replacing_folder(settings.output) as folder:
        _write_norms(runs, folder / "gradient_norms.csv")
        _write_picture(runs, folder / "gradient_norms.png")
        model = runs[-1].model
        model.save(folder / "model.keras")
        model.export(folder / "savedmodel", verbose=False)
    console.print(
        f"\nWritten to {settings.output}: gradient_norms.png, gradient_norms.csv, model.keras, "
        "savedmodel."
    )
    for name in ("model.keras", "savedmodel"):
        with console.status(f"Opening {name} in a fresh process"):
            change = roundtrip.difference(model, Path(settings.output, name), data.x_test[:32])
        state = "DIFFERS" if change else "the same"
        console.print(
            f"{name}, opened in a fresh process: {state} "
            f"(largest relative difference: outputs {change.output:.1e}, surrogate gradients "
            f"{change.gradient:.1e})."
        )


def _write_norms(runs: Sequence[TrainedModel], path: Path) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "step", "global", *runs[0].record.layer_names])
        for finished in runs:
            record = finished.record
            rows = zip(record.steps, record.global_norms, record.norms, strict=True)
            for step, total, norms in rows:
                writer.writerow([finished.title, step, total, *norms])


def _write_picture(runs: Sequence[TrainedModel], path: Path) -> None:
    from keras_surrogate import plots
    from keras_surrogate.plots.axes import plt

    size = (5.5 * len(runs), 4.2)
    figure = plt.figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for finished, ax in zip(runs, axes, strict=True):
        plots.gradient_norms(finished.record, ax)
        ax.set_title(f"{finished.title}: test accuracy {finished.accuracy:.1%}")
        ax.label_outer()
    # All panels have the same legend.
    for ax in axes[1:]:
        ax.get_legend().remove()
    plots.save(axes, path)
    plt.close(figure)
