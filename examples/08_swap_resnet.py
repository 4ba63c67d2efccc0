"""Surrogates put into a trained ResNet, and removed again for serving.

A small residual network is trained for a short time; it stands for an existing model. One call
gives its ReLUs the slope of a leaky ReLU. The model is trained further with this slope and, for
comparison, with the true one. Then the surrogates are removed, which does not change the outputs.
A fresh process, which cannot import keras_surrogate, serves the file.

    python examples/08_swap_resnet.py                   handwritten digits, half a minute
    python examples/08_swap_resnet.py cifar10 FOLDER    CIFAR-10 from binary batches, minutes/epoch

Needs scikit-learn for the digits. The example shows how to convert a model, not that a surrogate
helps: with normalisation and residual connections no gradient vanishes here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np


def block(x: keras.KerasTensor, filters: int, stride: int) -> keras.KerasTensor:
    """A residual block; a convolution of size 1 on the shortcut where the stride is not 1."""
    shortcut = x
    if stride != 1:
        shortcut = keras.layers.Conv2D(filters, 1, stride)(x)
    x = keras.layers.Conv2D(filters, 3, stride, "same", use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Conv2D(filters, 3, 1, "same", use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    return keras.layers.ReLU()(keras.layers.Add()([x, shortcut]))


def with_colors(x: np.ndarray) -> np.ndarray:
    """Images with an axis of colours, of length 1 for grey images."""
    return x if x.ndim == 4 else x[..., np.newaxis]


def build(shape: tuple[int, ...], classes: int) -> keras.Model:
    inputs = keras.Input(shape)
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        x = block(x, filters, stride)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(classes)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return model


def serve(model_path: str, images_path: str) -> float:
    """Returns the accuracy of a saved model on saved images."""
    with np.load(images_path) as images:
        outputs = keras.saving.load_model(model_path).predict(images["x"], verbose=0)
        return float(np.mean(outputs.argmax(axis=1) == images["y"]))


def main(
    data: str = "digits", data_dir: str | None = None, epochs: int = 4, output: str | None = None
) -> dict[str, float]:
    """Trains, converts and serves the model.

    Returns:
        The test accuracies: before further training, after it with each slope, and as served.
    """
    from keras_surrogate import conversion, datasets

    folder = Path(output or tempfile.mkdtemp(prefix="swap-resnet-"))
    images = datasets.load(data, data_dir)
    x_train = with_colors(images.x_train)
    x_test = with_colors(images.x_test)
    keras.utils.set_random_seed(0)
    model = build(x_train.shape[1:], images.classes)
    model.fit(x_train, images.y_train, epochs=epochs, verbose=0)
    results = {}
    _, results["before"] = model.evaluate(x_test, images.y_test, verbose=0)
    swapped = conversion.swap(model, {"relu": "leaky_backward"})
    print(conversion.report(swapped))
    # `swapped` is a copy, so both continue from the same weights.
    for name, each in {"true slope": model, "leaky slope": swapped}.items():
        keras.utils.set_random_seed(1)
        each.fit(x_train, images.y_train, epochs=epochs, verbose=0)
        _, results[name] = each.evaluate(x_test, images.y_test, verbose=0)
    conversion.strip(swapped).save(folder / "served.keras")
    np.savez(folder / "images.npz", x=x_test, y=images.y_test)
    command = [sys.executable, __file__, "serve", folder / "served.keras", folder / "images.npz"]
    served = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    results["served"] = json.loads(served.stdout)
    print(", ".join(f"{name}: {accuracy:.1%}" for name, accuracy in results.items()))
    return results


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        # From here on `import keras_surrogate` is an error.
        sys.modules["keras_surrogate"] = None
        print(serve(*sys.argv[2:]))
    else:
        main(*sys.argv[1:3])
