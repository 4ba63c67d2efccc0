"""Surrogates into a trained ResNet, and out again for serving.

A small residual network is trained a little: the existing model. One call gives its ReLUs the slope
of a leaky ReLU. It is trained further with it and, for comparison, without. Then the surrogates are
taken out, which changes no output, and a fresh process, in which importing keras_surrogate is made
impossible, serves the file.

    python examples/08_swap_resnet.py                     handwritten digits, half a minute
    python examples/08_swap_resnet.py cifar10 FOLDER      CIFAR-10 from its binary batches; minutes for each epoch

Needs scikit-learn for the digits. It shows how, and not that a surrogate helps: with normalisation
and residual connections no gradient vanishes here that would want a cure.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np


def block(x, filters, stride):
    around = x if stride == 1 else keras.layers.Conv2D(filters, 1, stride)(x)
    for step, rectified in ((stride, True), (1, False)):
        x = keras.layers.Conv2D(filters, 3, step, "same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x) if rectified else x
    return keras.layers.ReLU()(keras.layers.Add()([x, around]))


def build(shape, classes):
    inputs = keras.Input(shape)
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        x = block(x, filters, stride)
    model = keras.Model(
        inputs, keras.layers.Dense(classes)(keras.layers.GlobalAveragePooling2D()(x))
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return model


def serve(model_path, images_path):
    with np.load(images_path) as images:
        outputs = keras.saving.load_model(model_path).predict(images["x"], verbose=0)
        return float(np.mean(outputs.argmax(axis=1) == images["y"]))


def main(data="digits", data_dir=None, epochs=4, output=None):
    """Returns the test accuracies: before, after further training with either slope, and as served."""
    from keras_surrogate import conversion, datasets

    folder = Path(output or tempfile.mkdtemp(prefix="swap-resnet-"))
    data = datasets.load(data, data_dir)
    x_train, x_test = (
        x if x.ndim == 4 else x[..., np.newaxis] for x in (data.x_train, data.x_test)
    )
    keras.utils.set_random_seed(0)
    model = build(x_train.shape[1:], data.classes)
    model.fit(x_train, data.y_train, epochs=epochs, verbose=0)
    results = {"before": model.evaluate(x_test, data.y_test, verbose=0)[1]}
    swapped = conversion.swap(model, {"relu": "leaky_backward"})
    print(conversion.report(swapped))
    for name, each in {"true slope": model, "leaky slope": swapped}.items():
        keras.utils.set_random_seed(1)
        each.fit(x_train, data.y_train, epochs=epochs, verbose=0)
        results[name] = each.evaluate(x_test, data.y_test, verbose=0)[1]
    conversion.strip(swapped).save(folder / "served.keras")
    np.savez(folder / "images.npz", x=x_test, y=data.y_test)
    command = [sys.executable, __file__, "serve", folder / "served.keras", folder / "images.npz"]
    results["served"] = json.loads(
        subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    )
    print(", ".join(f"{name}: {accuracy:.1%}" for name, accuracy in results.items()))
    return results


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        sys.modules["keras_surrogate"] = None
        print(serve(*sys.argv[2:]))
    else:
        main(*sys.argv[1:3])
