"""Makes the golden folder of a format generation: `python savedmodels/make.py savedmodels/generation_2`.

For each preset a tiny model, `<preset>.keras` and the SavedModel `<preset>/`, and `<preset>.npz`
with inputs and what the model must give for them. Those numbers are an independent opinion, in
float64: the chain rule written out in NumPy, with differences of `Function.value` for slopes. No
automatic differentiation and no layer has a part in them.
"""

import json
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_surrogate
from keras_surrogate import presets
from keras_surrogate.layers import SurrogateActivation


def make(folder):
    """Writes a new generation into `folder`; a ValueError if it exists, because a golden file is never remade."""
    folder = Path(folder)
    if folder.exists():
        raise ValueError(
            f"{folder} exists already, and a golden file is never remade. Give a new generation's name."
        )
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        unfinished = Path(temporary, folder.name)
        unfinished.mkdir()
        for name in presets.names():
            _make_preset(unfinished, name)
        (unfinished / "versions.json").write_text(json.dumps(_versions(), indent=4) + "\n")
        (unfinished / "presets.json").write_text(json.dumps(presets.names(), indent=4) + "\n")
        unfinished.rename(folder)


def _versions():
    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "keras_surrogate": keras_surrogate.__version__,
    }


def _make_preset(folder, name):
    generator = np.random.default_rng(0)
    model = _model(name, generator)
    # An even number of points misses the kinks, which lie at round numbers.
    x = generator.permutation(np.linspace(-4, 4, 64)).reshape(16, 4).astype("float32")
    upstream = generator.normal(size=(16, 3)).astype("float32")
    model.save(folder / f"{name}.keras")
    model.export(folder / name, verbose=False)
    expected = _expected(presets.get(name), model.get_weights(), x, upstream)
    np.savez_compressed(folder / f"{name}.npz", x=x, upstream=upstream, **expected)


def _model(name, generator):
    """The preset both as a layer and as `activation=`, with weights that reach its flat, steep and linear parts."""
    layers = [
        keras.Input((4,)),
        SurrogateActivation(name),
        keras.layers.Dense(5, activation=presets.get(name)),
        keras.layers.Dense(3),
    ]
    model = keras.Sequential(layers, name=name)
    model.set_weights([generator.normal(size=weight.shape) for weight in model.weights])
    return model


def _expected(surrogate, weights, x, upstream):
    """Outputs, the gradient of sum(upstream * outputs), and the gradient of sum(gradient**2), by the chain rule."""
    kernel, bias, last_kernel, last_bias, x, upstream = (
        array.astype("float64") for array in (*weights, x, upstream)
    )
    value = _in_numpy(surrogate.forward)
    hidden = value(x) @ kernel + bias
    slope_x, curvature_x = _differences(surrogate, x)
    slope_hidden, curvature_hidden = _differences(surrogate, hidden)
    to_hidden = upstream @ last_kernel.T
    to_layer = (slope_hidden * to_hidden) @ kernel.T
    gradient = slope_x * to_layer
    through_slope_hidden = 2 * (gradient * slope_x) @ kernel * curvature_hidden * to_hidden
    return {
        "outputs": value(hidden) @ last_kernel + last_bias,
        "gradient": gradient,
        "second_gradient": 2 * gradient * curvature_x * to_layer
        + through_slope_hidden @ kernel.T * slope_x,
    }


def _differences(surrogate, x, step=2e-4):
    """Slope and its derivative, as central differences of fourth order of the backward's value."""
    value = _in_numpy(surrogate.backward)
    far_left, left, middle, right, far_right = (
        value(x + number * step) for number in (-2, -1, 0, 1, 2)
    )
    slope = (8 * (right - left) - (far_right - far_left)) / (12 * step)
    curvature = (16 * (right + left) - (far_right + far_left) - 30 * middle) / (12 * step**2)
    return surrogate.scale * slope, surrogate.scale * curvature


def _in_numpy(function):
    return lambda x: function.value(tf.constant(x)).numpy()


if __name__ == "__main__":
    make(*sys.argv[1:])
