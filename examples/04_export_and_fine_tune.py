"""A surrogate survives export: a SavedModel is trained further where keras_surrogate cannot be imported.

A network of sign units is trained a little and exported by `model.export`. A fresh process, in
which importing keras_surrogate is made impossible, opens it and goes on training on other images by
a GradientTape and plain SGD. The true slope of the sign is 0 everywhere, so that any gradient of
the first layer comes from the surrogate in the file.

    python examples/04_export_and_fine_tune.py

Needs scikit-learn for the digits. `serve` runs the model as for prediction: dropout is off,
statistics are frozen.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

KNOWN = 200


def train_and_export(folder, epochs):
    # Not imported at the top, because the fresh process runs this very script.
    import keras_surrogate as ks
    from keras_surrogate import datasets

    keras.utils.set_random_seed(0)
    data = datasets.load("digits")
    hidden = [keras.layers.Dense(64, activation=ks.get("ste_sign")) for _ in range(2)]
    model = keras.Sequential(
        [keras.Input((8, 8)), keras.layers.Flatten(), *hidden, keras.layers.Dense(10)]
    )
    model.compile(
        keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(data.x_train[:KNOWN], data.y_train[:KNOWN], epochs=epochs, verbose=0)
    model.export(folder / "savedmodel", verbose=False)
    new = {"x_train": data.x_train[KNOWN:], "y_train": data.y_train[KNOWN:]}
    np.savez(folder / "images.npz", x_test=data.x_test, y_test=data.y_test, **new)


def loss_and_gradients(loaded, x, y):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, loaded.serve(x)))
    return loss, tape.gradient(loss, loaded.trainable_variables)


def fine_tune(folder, epochs):
    """Loss on the test images before and after, and the gradient norm of the first layer's kernel before."""
    # Held to the end: `loaded.serve` alone would not keep the variables alive.
    loaded = tf.saved_model.load(folder / "savedmodel")
    with np.load(folder / "images.npz") as images:
        new = tf.data.Dataset.from_tensor_slices((images["x_train"], images["y_train"]))
        test = images["x_test"], images["y_test"]
    before, gradients = loss_and_gradients(loaded, *test)
    optimizer = keras.optimizers.SGD(0.05)
    for x, y in new.shuffle(len(new), seed=0).batch(32).repeat(epochs):
        optimizer.apply(loss_and_gradients(loaded, x, y)[1], loaded.trainable_variables)
    after, _ = loss_and_gradients(loaded, *test)
    return {
        "before": float(before),
        "after": float(after),
        "first_layer_gradient": float(tf.norm(gradients[0])),
    }


def main(epochs=10, output=None):
    """Trains, exports, and has a fresh process train further; returns what `fine_tune` measured there."""
    folder = Path(output or tempfile.mkdtemp(prefix="fine-tune-"))
    train_and_export(folder, epochs)
    command = [sys.executable, __file__, str(folder), str(epochs)]
    result = json.loads(
        subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    )
    print(f"Exported to {folder / 'savedmodel'}, trained further without keras_surrogate:")
    print(f"  test loss {result['before']:.3f} before, {result['after']:.3f} after")
    print(
        f"  gradient norm of the first layer's kernel before: {result['first_layer_gradient']:.2e}"
    )
    return result


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.modules["keras_surrogate"] = None
        print(json.dumps(fine_tune(Path(sys.argv[1]), int(sys.argv[2]))))
    else:
        main()
