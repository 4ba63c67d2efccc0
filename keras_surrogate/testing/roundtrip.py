"""Comparison of a saved model, opened in a fresh process, with the original."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from keras_surrogate._types import PathLike

# Run by a fresh interpreter. keras_surrogate cannot be imported there while a SavedModel is opened:
# the file must contain its gradients.
_SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
path, source, target = sys.argv[1:]
if path.endswith(".keras"):
    import keras
    import keras_surrogate
    model = keras.saving.load_model(path)
else:
    sys.modules["keras_surrogate"] = None
    loaded = tf.saved_model.load(path)  # serve alone would not keep the variables alive
    model = loaded.serve
with np.load(source) as arrays:
    x, upstream = tf.constant(arrays["x"]), tf.constant(arrays["upstream"])
with tf.GradientTape() as tape:
    tape.watch(x)
    y = model(x)
np.savez(target, y=y, gradient=tape.gradient(y, x, upstream))
"""


@dataclasses.dataclass(frozen=True)
class Difference:
    """The largest differences of a reloaded model from the original.

    It is false if there is none beyond rounding in float32.

    Attributes:
        output: of the outputs, relative to the largest absolute output.
        gradient: of the input gradients, relative to the largest absolute one.
    """

    output: float
    gradient: float

    def __bool__(self) -> bool:
        # `not`, so that NaN is a difference.
        return not (self.output < 1e-5 and self.gradient < 1e-4)


def difference(model: keras.Model, path: PathLike, x: Any) -> Difference:
    """Compare outputs and input gradients of a saved model, opened in a fresh process.

    Args:
        model: the Keras model that was saved, with one input and one output.
        path: a `.keras` file, or the folder of a SavedModel made by `model.export`. The latter is
            opened in a process that cannot import `keras_surrogate`.
        x: inputs, an array of shape (n, ...).

    Returns:
        A `Difference`, which is false if there is none beyond rounding.

    Raises:
        ValueError: the file is missing or damaged, or cannot be opened.
    """
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    upstream = tf.reshape(tf.cos(tf.cast(tf.range(tf.size(y)), y.dtype)), tf.shape(y))
    reloaded = _reload(path, x, upstream)
    gradient = tape.gradient(y, x, upstream)
    return Difference(
        output=_relative(reloaded["y"], np.asarray(y)),
        gradient=_relative(reloaded["gradient"], np.asarray(gradient)),
    )


def _relative(got: np.ndarray, expected: np.ndarray) -> float:
    # The smallest normal number avoids a division by 0.
    size = max(np.max(np.abs(expected)), np.finfo(expected.dtype).tiny)
    return float(np.max(np.abs(got - expected)) / size)


def _reload(path: PathLike, x: tf.Tensor, upstream: tf.Tensor) -> dict[str, np.ndarray]:
    """The results of the script, as a dictionary of arrays."""
    if not Path(path).exists():
        raise ValueError(f"There is no saved model at {path}.")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source.npz")
        target = Path(folder, "target.npz")
        np.savez(source, x=x, upstream=upstream)
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
        command = [sys.executable, "-c", _SCRIPT, str(path), str(source), str(target)]
        finished = subprocess.run(command, capture_output=True, text=True, env=environment)
        if finished.returncode:
            reason = (finished.stderr.strip().splitlines() or ["no message"])[-1]
            raise ValueError(
                f"{path} cannot be opened in a fresh process; it may be damaged: {reason}"
            )
        with np.load(target) as arrays:
            return dict(arrays)
