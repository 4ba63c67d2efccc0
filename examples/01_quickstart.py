"""A classifier of handwritten digits whose ReLUs keep their value and learn through another slope.

SurrogateActivation("sugar_bsilu") computes plain ReLU; only the backward pass takes the slope of
B-SiLU, which is not zero where the unit is off. GradientNormLogger writes down how much gradient
reaches each layer during `fit`. At the end the model is written twice: as model.keras, to go on
with in Keras, and as a SavedModel for TensorFlow alone.

    python examples/01_quickstart.py

Needs scikit-learn for the digits.
"""

import tempfile
from pathlib import Path

import keras
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import datasets


def build(image_shape, classes):
    model = keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(64, name="hidden_1"),
            ks.layers.SurrogateActivation("sugar_bsilu"),
            keras.layers.Dense(64, name="hidden_2"),
            ks.layers.SurrogateActivation("sugar_bsilu"),
            keras.layers.Dense(classes, name="output"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    return model


def norms_table(norms):
    table = Table("layer", title="Gradient norm, mean over an epoch")
    table.add_column("first epoch", justify="right")
    table.add_column("last epoch", justify="right")
    for layer, by_epoch in norms.items():
        table.add_row(layer, f"{by_epoch[0]:.3f}", f"{by_epoch[-1]:.3f}")
    return table


def main(epochs=10, output=None):
    """Trains, prints and saves; returns the test accuracy and, for each layer, the gradient norm of every epoch."""
    folder = Path(output or tempfile.mkdtemp(prefix="quickstart-"))
    keras.utils.set_random_seed(0)
    data = datasets.load("digits")
    model = build(data.x_train.shape[1:], data.classes)

    logger = ks.callbacks.GradientNormLogger()
    history = model.fit(data.x_train, data.y_train, epochs=epochs, callbacks=[logger]).history
    _, accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)

    norms = {layer: history[f"gradient_norm/{layer}"] for layer in logger.layer_names}
    Console().print(
        norms_table(norms), f"Accuracy on {len(data.x_test)} test images: {accuracy:.1%}", sep="\n"
    )

    model.save(folder / "model.keras")
    model.export(folder / "savedmodel", verbose=False)
    print(f"Saved to {folder}: model.keras and savedmodel")
    return accuracy, norms


if __name__ == "__main__":
    main()
