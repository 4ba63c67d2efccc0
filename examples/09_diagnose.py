"""What one batch says of eight models, and whether following the advice helps.

Seven of them have a fault that was planted, the eighth is sound. None is trained for the diagnosis.
Then the network whose gradient vanishes is trained as it is, and with the first change that is
advised: initial weights by the theory.

    python examples/09_diagnose.py

Needs scikit-learn for the digits and matplotlib for the picture.
"""

import tempfile
from pathlib import Path

import keras
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import datasets, diagnosis, plots

LARGE = keras.initializers.RandomNormal(stddev=1.0)


def build(activation, depth, initializer="he_normal"):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,))])
    for number in range(1, depth + 1):
        weights = keras.initializers.get(
            initializer
        ).clone()  # one object would give layers of one shape equal weights
        model.add(
            keras.layers.Dense(64, activation, kernel_initializer=weights, name=f"hidden_{number}")
        )
    model.add(keras.layers.Dense(10, name="output"))
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(True),
        metrics=["accuracy"],
    )
    return model


def patients(x):
    """A model and its batch by what is wrong with it."""
    dead = build("relu", 4)
    dead.get_layer("hidden_3").bias.assign([-100.0] * 64)
    return {
        "nothing": (build("relu", 6), x),
        "a dead layer": (dead, x),
        "saturated": (build("tanh", 5, LARGE), x),
        "exploding weights": (build("relu", 5, LARGE), x),
        "inputs not centred": (build("relu", 3), x + 5),
        "vanishing gradient": (build("sigmoid", 5, "glorot_uniform"), x),
        "collapsed signal": (build("sigmoid", 20, "glorot_uniform"), x),
        "surrogate far from the slope": (build(ks.get("sugar_bsilu"), 30), x),
    }


def accuracy(initializer, data, epochs):
    model = build("sigmoid", 5, initializer)
    model.fit(data.x_train.reshape(-1, 64), data.y_train, epochs=epochs, verbose=0)
    return model.evaluate(data.x_test.reshape(-1, 64), data.y_test, verbose=0)[1]


def main(epochs=15, output=None):
    """Prints and draws; returns the findings of each model, their numbers by kind, and the two accuracies."""
    data, console = datasets.load("digits"), Console()
    x, y = data.x_train[:256].reshape(-1, 64), data.y_train[:256]
    results = {fault: diagnosis.diagnose(model, x, y) for fault, (model, x) in patients(x).items()}
    table = Table("planted", "found", "layer", "number", title="One batch, no training")
    for fault, finding in [
        (fault, finding) for fault, result in results.items() for finding in result.findings
    ]:
        table.add_row(fault, finding.kind, finding.layer, f"{finding.value:.2g}")
    console.print(table)
    results["vanishing gradient"].print(console)
    folder = Path(output or tempfile.mkdtemp(prefix="diagnose-"))
    plots.save(plots.diagnosis(results["collapsed signal"]), folder / "diagnosis.png")
    advised = ks.initializers.CriticalNormal("sigmoid")
    before, after = (accuracy(weights, data, epochs) for weights in ("glorot_uniform", advised))
    console.print(
        f"\nTrained, {epochs} epochs: {before:.1%}; with the weights advised: {after:.1%}. Picture: {folder}."
    )
    found = {
        fault: {finding.kind: finding.value for finding in each.findings}
        for fault, each in results.items()
    }
    return {"found": found, "accuracy": [before, after]}


if __name__ == "__main__":
    main()
