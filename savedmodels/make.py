"""Makes the golden folder of a generation of the file format.

    python savedmodels/make.py savedmodels/generation_2

For each preset it writes a small model, `<preset>.keras` and the SavedModel `<preset>/`, and
`<preset>.npz` with inputs and the expected results. These are computed independently, in float64:
by the chain rule in NumPy, with differences of `Function.value` as slopes, without automatic
differentiation and without layers.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

import keras_surrogate
from keras_surrogate import presets
from keras_surrogate.layers import SurrogateActivation

if TYPE_CHECKING:
    from collections.abc import Callable

    from keras_surrogate import Surrogate


def make(folder: str | Path) -> None:
    """Writes a new generation into `folder`.

    Raises:
        ValueError: the folder exists. A golden file is never remade.
    """
    folder = Path(folder)
    if folder.exists():
        raise ValueError(
            f"{folder} exists already, and a golden file is never remade. Give the name of a new "
            "generation."
        )
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        unfinished = Path(temporary, folder.name)
        unfinished.mkdir()
        for name in presets.names():
            _make_preset(unfinished, name)
        (unfinished / "versions.json").write_text(json.dumps(_versions(), indent=4) + "\n")
        (unfinished / "presets.json").write_text(json.dumps(presets.names(), indent=4) + "\n")
        unfinished.rename(folder)


def _versions() -> dict[str, str]:
    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "keras_surrogate": keras_surrogate.__version__,
    }


def _make_preset(folder: Path, name: str) -> None:
    for seed in itertools.count():
        generator = np.random.default_rng(seed)
        model = _model(name, generator)
        # With an even number of points, none is a kink of a function: kinks lie at round numbers.
        x = generator.permutation(np.linspace(-4, 4, 64)).reshape(16, 4).astype("float32")
        upstream = generator.normal(size=(16, 3)).astype("float32")
        arguments = presets.get(name), model.get_weights(), x, upstream
        expected = _expected(*arguments)
        # A kink between the points of a difference would spoil it: then other weights are drawn.
        if _agree(expected, _expected(*arguments, step=1e-4)):
            break
    model.save(folder / f"{name}.keras")
    model.export(folder / name, verbose=False)
    np.savez_compressed(folder / f"{name}.npz", x=x, upstream=upstream, **expected)


def _agree(results: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> bool:
    """Tell if two results are alike to a part in 300 000 of their largest number, or of 1."""
    return all(
        np.abs(results[key] - others[key]).max() <= 3e-6 * max(1, np.abs(results[key]).max())
        for key in results
    )


def _model(name: str, generator: np.random.Generator) -> keras.Sequential:
    """A model with the preset as a layer and as an `activation`.

    The weights are so large that the flat, steep and linear parts of the functions are used.
    """
    layers = [
        keras.Input((4,)),
        SurrogateActivation(name),
        keras.layers.Dense(5, activation=presets.get(name)),
        keras.layers.Dense(3),
    ]
    model = keras.Sequential(layers, name=name)
    model.set_weights([generator.normal(size=weight.shape) for weight in model.weights])
    return model


def _expected(
    surrogate: Surrogate,
    weights: list[np.ndarray],
    x: np.ndarray,
    upstream: np.ndarray,
    step: float = 2e-4,
) -> dict[str, np.ndarray]:
    """The results of the model by the chain rule, with differences of that step for slopes.

    Returns:
        outputs; gradient, of sum(upstream * outputs); second_gradient, of sum(gradient**2); both
        with respect to x.
    """
    kernel, bias, last_kernel, last_bias, x, upstream = (
        array.astype("float64") for array in (*weights, x, upstream)
    )
    value = _in_numpy(surrogate.forward)

    # outputs = value(hidden) W2 + b2, with hidden = value(x) W1 + b1.
    hidden = value(x) @ kernel + bias
    outputs = value(hidden) @ last_kernel + last_bias

    # Backward, with slopes s: gradient = s(x) * (s(hidden) * (upstream W2')) W1'.
    slope_x, curvature_x = _differences(surrogate, x, step)
    slope_hidden, curvature_hidden = _differences(surrogate, hidden, step)
    to_hidden = upstream @ last_kernel.T
    to_layer = (slope_hidden * to_hidden) @ kernel.T
    gradient = slope_x * to_layer

    # x moves `gradient` by s'(x), and by s'(hidden), where hidden moves with the slope s(x) of the
    # backward pass.
    through_slope_x = 2 * gradient * curvature_x * to_layer
    through_slope_hidden = 2 * (gradient * slope_x) @ kernel * curvature_hidden * to_hidden
    second_gradient = through_slope_x + through_slope_hidden @ kernel.T * slope_x
    return {"outputs": outputs, "gradient": gradient, "second_gradient": second_gradient}


def _differences(surrogate: Surrogate, x: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Slope and curvature: fourth-order central differences of the backward's value, scaled."""
    value = _in_numpy(surrogate.backward)
    far_left, left, middle, right, far_right = (
        value(x + number * step) for number in (-2, -1, 0, 1, 2)
    )
    slope = (8 * (right - left) - (far_right - far_left)) / (12 * step)
    curvature = (16 * (right + left) - (far_right + far_left) - 30 * middle) / (12 * step**2)
    return surrogate.scale * slope, surrogate.scale * curvature


def _in_numpy(function: keras_surrogate.functions.Function) -> Callable[..., np.ndarray]:
    return lambda x: function.value(tf.constant(x)).numpy()


if __name__ == "__main__":
    make(*sys.argv[1:])
