"""A small CNN on Fashion-MNIST with weights of 8 to 1 bits: rounded after training, or trained.

    python examples/published/bits.py

A float network is trained from five starts. `conversion.quantize` rounds it, with activations of 8
bits and moving ranges calibrated on 512 images: that is post-training quantisation. Then it is
trained for three more epochs with the straight-through slope. The rival is the float network with
three more epochs. The rate of the second training is the one with the best validation accuracy of
one start. For 8 bits the LiteRT file is run as well.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import keras
import numpy as np
import study

from keras_surrogate import conversion, datasets

BITS = (8, 4, 2, 1)
RATES = (0.0001, 0.0003, 0.001, 0.003)
SEEDS = range(5)
VALIDATION = 5000
EPOCHS = 5
MORE_EPOCHS = 3


def network() -> keras.Model:
    """Two convolutions and two Dense layers, with batch normalisation."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(16, 3, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def fit(model: keras.Model, data: datasets.Dataset, rate: float, epochs: int) -> None:
    """Train on all but the last training images."""
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=50,
    )
    x = data.x_train[:-VALIDATION, ..., None]
    model.fit(x, data.y_train[:-VALIDATION], batch_size=128, epochs=epochs, verbose=0)


def accuracies(model: keras.Model, data: datasets.Dataset) -> tuple[float, float]:
    """The accuracy on the validation and the test images."""
    validation = model.predict(data.x_train[-VALIDATION:, ..., None], verbose=0)
    test = model.predict(data.x_test[..., None], verbose=0)
    return (
        float(np.mean(validation.argmax(1) == data.y_train[-VALIDATION:])),
        float(np.mean(test.argmax(1) == data.y_test)),
    )


@functools.lru_cache(maxsize=1)
def float_model(seed: int) -> keras.Model:
    """The float network of a start, after its first training."""
    keras.utils.set_random_seed(seed)
    model = network()
    fit(model, datasets.load("fashion-mnist"), 0.001, EPOCHS)
    return model


def train(bits: int, rate: float, seed: int) -> dict[str, float]:
    """Train a network on; accuracies before and after.

    Args:
        bits: those of the weights; 32 leaves the network in float.
        rate: the learning rate.
        seed: that of the start.
    """
    data = datasets.load("fashion-mnist")
    original = float_model(seed)
    keras.utils.set_random_seed(seed)
    if bits == 32:
        model = keras.models.clone_model(original)
        model.set_weights(original.get_weights())
    else:
        model = conversion.quantize(original, data.x_train[:512, ..., None], bits=bits)
    _, before = accuracies(model, data)
    fit(model, data, rate, MORE_EPOCHS)
    validation, after = accuracies(model, data)
    results = {"before": before, "validation": validation, "after": after}
    if bits == 8:
        results["litert"] = litert_accuracy(model, data)
    return results


def litert_accuracy(model: keras.Model, data: datasets.Dataset) -> float:
    """The accuracy of the LiteRT file of a quantised model on the test images."""
    from ai_edge_litert.interpreter import Interpreter

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        conversion.export_litert(model, path)
        interpreter = Interpreter(str(path))
        inputs = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(inputs, [100, 28, 28, 1])
        interpreter.allocate_tensors()
        outputs = interpreter.get_output_details()[0]["index"]
        right = 0
        for start in range(0, len(data.x_test), 100):
            interpreter.set_tensor(inputs, data.x_test[start : start + 100, ..., None])
            interpreter.invoke()
            classes = interpreter.get_tensor(outputs).argmax(1)
            right += int(np.sum(classes == data.y_test[start : start + 100]))
    return right / len(data.x_test)


def main() -> None:
    """Train what is missing, and write the table."""
    # Seed by seed, because runs of one seed share the float network.
    trials = [{"bits": bits, "rate": rate, "seed": 0} for bits in (32, *BITS) for rate in RATES]
    rates = study.best(study.run("bits", trials, train), "rate", "validation")
    settings = [
        {"bits": bits, "rate": rate, "seed": seed} for seed in SEEDS for bits, rate in rates.items()
    ]
    runs = study.run("bits", settings, train)
    lines = []
    for bits, rate in rates.items():
        mine = [one for one in runs if one["bits"] == bits]
        litert = [one["litert"] for one in mine if "litert" in one]
        lines.append(
            [
                {32: "float", 1: "1 bit"}.get(bits, f"{bits} bits"),
                study.percent([one["before"] for one in mine]),
                study.percent([one["after"] for one in mine]),
                rate,
                study.percent(litert) if litert else "",
            ]
        )
    heading = [
        "weights",
        "rounded after training, %",
        "trained with them, %",
        "learning rate",
        "LiteRT file, %",
    ]
    study.write("bits", study.markdown(heading, lines))


if __name__ == "__main__":
    main()
