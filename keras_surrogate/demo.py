"""The demo: one deep network trained twice from the same start, with the true derivative and with a surrogate."""

import csv
import dataclasses
import importlib
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from keras_surrogate import callbacks, datasets, files, layers
from keras_surrogate.surrogate import Surrogate
from keras_surrogate.testing import roundtrip


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the demo trains. Defaults: the textbook vanishing gradient, five sigmoid layers under plain SGD.

    Args:
        data: a name that `datasets.load` takes; default "digits".
        data_dir: a folder with the data; default: found or downloaded.
        epochs: at least 1; default 40.
        depth: hidden layers, at least 1; default 5.
        width: units in each, at least 1; default 64.
        forward, backward: functions as in `Surrogate`; default "sigmoid" and "tanh".
        scale: multiplies the backward's slope; default 1.
        learning_rate: of plain SGD; positive, default 0.1.
        batch_size: at least 1; default 32.
        seed: fixes initial weights and data order of both runs; at least 0, default 0.
        output: the folder for pictures and models; default "keras-surrogate-demo".

    Raises:
        ValueError: a number out of range, an unknown function, an output that is a file or lies
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

    def __post_init__(self):
        for name, least in {
            "epochs": 1,
            "depth": 1,
            "width": 1,
            "batch_size": 1,
            "seed": 0,
        }.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name} must be an integer of at least {least}, but is {getattr(self, name)}."
                )
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(
                f"learning_rate must be a positive number, but is {self.learning_rate}."
            )
        files.check_folder(self.output)
        self.surrogate  # noqa: B018  an unknown function is an error now, not after loading the data

    @property
    def surrogate(self):
        return Surrogate(self.forward, self.backward, self.scale)


@dataclasses.dataclass(frozen=True)
class Run:
    """One trained model and what was measured on it; accuracy, loss and dead units on the test images."""

    title: str
    model: keras.Model
    record: callbacks.GradientNormLogger
    accuracy: float
    loss: float
    dead: np.ndarray
    interrupted: bool


def run(settings, console=None):
    """Trains both networks, prints the table and writes the files.

    Args:
        settings: `Settings`.
        console: where to print, a rich `Console`; default the terminal.

    Returns:
        The finished runs, the true derivative's first; fewer than two, or an interrupted last one,
        after Ctrl-C.

    Raises:
        ImportError: matplotlib, which draws the picture, is missing.
        ValueError: the data cannot be had.
    """
    # Now rather than after both trainings.
    importlib.import_module("keras_surrogate.plots")
    console = console or Console()
    data = datasets.load(settings.data, settings.data_dir)
    surrogate = settings.surrogate
    runs = []
    for title, activation in {"true derivative": surrogate.true(), "surrogate": surrogate}.items():
        console.print(f"\n{title}: {_described(activation)}", style="bold")
        runs.append(train(settings, data, title, activation))
        if runs[-1].interrupted:
            console.print("\nInterrupted: what follows is what was recorded so far.")
            break
    console.print(table(runs, data), verdict(runs), sep="\n")
    _write(settings, runs, data, console)
    return runs


def _described(pair):
    scale = "" if pair.scale == 1 else f"{pair.scale:g} times the "
    return f"{pair.forward.title} forward, {scale}slope of {pair.backward.title} backward"


def build(settings, data, activation):
    """A plain Sequential classifier with Glorot-uniform Dense layers, compiled with plain SGD."""
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


def train(settings, data, title, activation):
    """Trains one network and returns its `Run`."""
    model, record = build(settings, data, activation), callbacks.GradientNormLogger()
    interrupted = False
    try:
        # The progress bar goes first, else it would also show every layer's norm.
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
    return Run(title, model, record, accuracy, loss, dead_units(model, data.x_test), interrupted)


def dead_units(model, x):
    """The share of units in each hidden layer whose output is the same for every input in `x`."""
    hidden = [layer.output for layer in model.layers if layer.name.startswith("hidden")]
    outputs = keras.Model(model.inputs[0], hidden).predict(x, batch_size=256, verbose=0)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return np.array([np.mean(np.ptp(output, axis=0) <= 1e-6) for output in outputs])


# Steps over which the table's gradient norms are averaged.
_AVERAGED = 20


def table(runs, data):
    """A rich table: one column a run; accuracy, loss, gradient norms at start and end, dead units."""
    result = Table(
        title=f"{data.name}: {len(data.x_train)} images to train, {len(data.x_test)} to test"
    )
    result.add_column("")
    for finished in runs:
        result.add_column(finished.title, justify="right")
    for section in _sections(data):
        for row in zip(*[section(finished) for finished in runs], strict=True):
            result.add_row(row[0][0], *(text for _, text in row))
        result.add_section()
    return result


def _sections(data):
    """Functions of a run that give the (label, text) pairs of one part of the table."""
    chance = np.bincount(data.y_test).max() / len(data.y_test)
    yield lambda finished: [
        (f"test accuracy (guessing: {chance:.1%})", f"{finished.accuracy:.1%}"),
        ("test loss", f"{finished.loss:.3f}"),
    ]
    yield lambda finished: _norm_rows(
        f"gradient norm, first {_AVERAGED} steps", finished, slice(_AVERAGED)
    )
    yield lambda finished: _norm_rows(
        f"gradient norm, last {_AVERAGED} steps", finished, slice(-_AVERAGED, None)
    )
    yield lambda finished: [("dead hidden units (constant output)", f"{finished.dead.mean():.1%}")]


def _norm_rows(heading, finished, steps):
    """Mean norms over `steps`, a row a layer, and the ratio of the first to the last."""
    yield heading, ""
    norms = finished.record.norms[steps]
    means = norms.mean(axis=0) if len(norms) else np.full(len(finished.record.layer_names), np.nan)
    for name, mean in zip(finished.record.layer_names, means, strict=True):
        yield f"  {name}", f"{mean:.2e}"
    if len(means):
        yield "  first / last layer", f"{means[0] / means[-1]:.2e}"


def verdict(runs):
    """One sentence on which run is better, whichever it is."""
    if len(runs) < 2:
        return "Only the run with the true derivative was made."
    true, other = runs
    difference = 100 * (other.accuracy - true.accuracy)
    if abs(difference) < 1:
        return f"The surrogate makes no difference worth naming here: {difference:+.1f} points of test accuracy."
    better = "gains" if difference > 0 else "LOSES"
    return f"The surrogate {better} {abs(difference):.1f} points of test accuracy against the true derivative."


def _write(settings, runs, data, console):
    """The picture, the norms as CSV, and both forms of the last model, reopened and compared."""
    with files.replacing_folder(settings.output) as folder:
        _write_norms(runs, folder / "gradient_norms.csv")
        _write_picture(runs, folder / "gradient_norms.png")
        model = runs[-1].model
        model.save(folder / "model.keras")
        model.export(folder / "savedmodel", verbose=False)
    console.print(
        f"\nWritten to {settings.output}: gradient_norms.png, gradient_norms.csv, model.keras, savedmodel."
    )
    for name in ("model.keras", "savedmodel"):
        change = roundtrip.difference(model, Path(settings.output, name), data.x_test[:32])
        state = "DIFFERS" if change else "the same"
        console.print(
            f"{name}, opened in a fresh process: {state} "
            f"(largest relative difference: outputs {change.output:.1e}, surrogate gradients {change.gradient:.1e})."
        )


def _write_norms(runs, path):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", "step", "global", *runs[0].record.layer_names])
        for finished in runs:
            record = finished.record
            for step, total, norms in zip(
                record.steps, record.global_norms, record.norms, strict=True
            ):
                writer.writerow([finished.title, step, total, *norms])


def _write_picture(runs, path):
    from keras_surrogate import plots
    from keras_surrogate.plots.axes import plt

    figure, axes = plt.subplots(
        1, len(runs), figsize=(5.5 * len(runs), 4.2), sharey=True, layout="constrained"
    )
    for finished, ax in zip(runs, np.atleast_1d(axes), strict=True):
        plots.gradient_norms(finished.record, ax)
        ax.set_title(f"{finished.title}: test accuracy {finished.accuracy:.1%}")
        ax.label_outer()
        if ax is not np.atleast_1d(axes)[0]:
            ax.get_legend().remove()
    plots.save(axes, path)
    plt.close(figure)
