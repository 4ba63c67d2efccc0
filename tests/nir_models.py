"""Small spiking models, which tests/reference keeps as NIR files for the programs of others.

python tests/nir_models.py        writes tests/reference/nir_<name>.nir
"""

from pathlib import Path

import keras
import numpy as np

from keras_surrogate import conversion, layers

FOLDER = Path(__file__).parent / "reference"
NAMES = ("dense", "synaptic", "convolution", "recurrent")
STEPS = 20


def model(name):
    """A model of a name, with a reset to zero, so that others have its neurons."""
    generator = np.random.default_rng(NAMES.index(name))
    made = keras.Sequential(_layers(name))
    for weight in made.weights:
        # Small sums of large weights, so that no spike depends on rounding.
        values = 0.4 * generator.normal(0.15, 1.0, weight.shape)
        weight.assign(values.astype("float32"))
    return made


def currents(name):
    """The inputs of a model, (batch, steps, ...)."""
    generator = np.random.default_rng(10 + NAMES.index(name))
    shape = (3, STEPS, *model(name).inputs[0].shape[2:])
    return generator.normal(0.2, 1.0, shape).astype("float32")


def _layers(name):
    if name == "dense":
        return [
            keras.Input((STEPS, 6), name="currents"),
            keras.layers.Dense(20, name="first"),
            layers.LIF(0.9, reset="zero", name="hidden"),
            keras.layers.Dense(5, use_bias=False, name="second"),
            layers.LIF(0.75, threshold=0.7, reset="zero", name="last"),
        ]
    if name == "synaptic":
        return [
            keras.Input((STEPS, 6), name="currents"),
            keras.layers.Dense(20, name="first"),
            layers.SynapticLIF(0.6, 0.9, reset="zero", name="hidden"),
            keras.layers.Dense(5, name="second"),
            layers.SynapticLIF(0.5, 0.8, reset="zero", name="last"),
        ]
    if name == "convolution":
        return [
            keras.Input((STEPS, 8, 6, 2), name="currents"),
            layers.OverTime(keras.layers.Conv2D(3, 3, padding="same"), name="first"),
            layers.LIF(0.9, reset="zero", name="hidden"),
            layers.OverTime(keras.layers.AveragePooling2D(2), name="pool"),
            layers.OverTime(keras.layers.Flatten(), name="flat"),
            keras.layers.Dense(5, name="second"),
            layers.LIF(0.8, reset="zero", name="last"),
        ]
    return [
        keras.Input((STEPS, 6), name="currents"),
        keras.layers.Dense(12, name="first"),
        keras.layers.RNN(
            layers.SpikingCell(12, layers.neurons.LIFNeuron(leak=0.9, reset="zero"), name="cell"),
            return_sequences=True,
            name="hidden",
        ),
        keras.layers.Dense(5, name="second"),
        layers.LIF(0.8, reset="zero", name="last"),
    ]


if __name__ == "__main__":
    for each in NAMES:
        conversion.to_nir(model(each), path=FOLDER / f"nir_{each}.nir")
        np.save(FOLDER / f"nir_{each}.npy", currents(each))
