"""A classifier of handwritten digits whose ReLUs have another slope in the backward pass.

SurrogateActivation("sugar_bsilu") computes the value of ReLU. Only the backward pass uses the slope
of B-SiLU, which is not zero for inactive units. GradientNormLogger records the gradient norm of
each layer during `fit`. At the end the model is saved twice: as model.keras, for Keras, and as a
SavedModel, for TensorFlow alone.

    python examples/01_quickstart.py

Needs scikit-learn for the digits.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
from rich.console import Console
from rich.table import Table

import keras_surrogate as ks
from keras_surrogate import datasets


def build(image_shape: tuple[int, ...], classes: int) -> keras.Sequential:
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


def norms_table(norms: dict[str, list[float]]) -> Table:
    table = Table("layer", title="Gradient norm, mean over an epoch")
    table.add_column("first epoch", justify="right")
    table.add_column("last epoch", justify="right")
    for layer, by_epoch in norms.items():
        table.add_row(layer, f"{by_epoch[0]:.3f}", f"{by_epoch[-1]:.3f}")
    return table


def main(epochs: int = 10, output: str | None = None) -> tuple[float, dict[str, list[float]]]:
    """Trains, prints and saves.

    Returns:
        The test accuracy, and the gradient norms of each layer, one for each epoch.
    """
    folder = Path(output or tempfile.mkdtemp(prefix="quickstart-"))
    keras.utils.set_random_seed(0)
    data = datasets.load("digits")
    model = build(data.x_train.shape[1:], data.classes)

    logger = ks.callbacks.GradientNormLogger()
    history = model.fit(data.x_train, data.y_train, epochs=epochs, callbacks=[logger]).history
    _, accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)

    norms = {layer: history[f"gradient_norm/{layer}"] for layer in logger.layer_names}
    Console().print(norms_table(norms))
    print(f"Accuracy on {len(data.x_test)} test images: {accuracy:.1%}")

    model.save(folder / "model.keras")
    model.export(folder / "savedmodel", verbose=False)
    print(f"Saved to {folder}: model.keras and savedmodel")
    return accuracy, norms


if __name__ == "__main__":
    main()
