"""Export of a surrogate: a SavedModel is trained further without keras_surrogate.

A network of sign units is trained for a short time and exported by `model.export`. A fresh process,
which cannot import keras_surrogate, loads it and trains it on other images, with a GradientTape and
plain SGD. The true slope of the sign is 0 everywhere. A gradient in the first layer can come only
from the surrogate in the file.

    python examples/04_export_and_fine_tune.py

Needs scikit-learn for the digits. `serve` runs the model in inference mode: dropout is off, and
normalisation statistics do not change.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

# Images of the first training; the others are for fine-tuning.
KNOWN = 200


def train_and_export(folder: Path, epochs: int) -> None:
    # Imported here, because the fresh process runs this script too, and must not import it.
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


def loss_and_gradients(
    loaded: tf.Module, x: tf.Tensor, y: tf.Tensor
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, loaded.serve(x)))
    return loss, tape.gradient(loss, loaded.trainable_variables)


def fine_tune(folder: Path, epochs: int) -> dict[str, float]:
    """Trains the SavedModel.

    Returns:
        The loss on the test images before and after, and the gradient norm of the first layer's
        kernel before.
    """
    # A reference to `loaded.serve` alone would not keep the variables alive.
    loaded = tf.saved_model.load(folder / "savedmodel")
    with np.load(folder / "images.npz") as images:
        new = tf.data.Dataset.from_tensor_slices((images["x_train"], images["y_train"]))
        test = images["x_test"], images["y_test"]
    before, gradients = loss_and_gradients(loaded, *test)
    optimizer = keras.optimizers.SGD(0.05)
    for x, y in new.shuffle(len(new), seed=0).batch(32).repeat(epochs):
        _, step_gradients = loss_and_gradients(loaded, x, y)
        optimizer.apply(step_gradients, loaded.trainable_variables)
    after, _ = loss_and_gradients(loaded, *test)
    return {
        "before": float(before),
        "after": float(after),
        "first_layer_gradient": float(tf.norm(gradients[0])),
    }


def main(epochs: int = 10, output: str | None = None) -> dict[str, float]:
    """Trains and exports, and runs `fine_tune` in a fresh process; returns its result."""
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
        # From here on `import keras_surrogate` is an error.
        sys.modules["keras_surrogate"] = None
        print(json.dumps(fine_tune(Path(sys.argv[1]), int(sys.argv[2]))))
    else:
        main()
