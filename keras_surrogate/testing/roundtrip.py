"""A saved model, opened in a fresh process: are its outputs and its gradients still the same?"""

import dataclasses
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

# Run by a fresh interpreter. A SavedModel is opened with keras_surrogate made unimportable: it must
# hold its gradients.
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
    """The largest differences of a reloaded model from the original, relative to the largest absolute value of each."""

    output: float
    gradient: float

    def __bool__(self):
        """Whether there is any beyond rounding in float32."""
        return not (self.output < 1e-5 and self.gradient < 1e-4)


def difference(model, path, x):
    """Opens a saved model in a fresh process and compares outputs and input gradients with `model`'s.

    Args:
        model: the Keras model that was saved, with one input and one output.
        path: a `.keras` file, or the folder of a SavedModel made by `model.export`, which is opened
            where `keras_surrogate` cannot be imported.
        x: inputs, an array of shape (n, ...).

    Returns:
        A `Difference`, which is false when there is none beyond rounding.

    Raises:
        ValueError: the file is missing or damaged, or cannot be opened.
    """
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    upstream = tf.reshape(tf.cos(tf.cast(tf.range(tf.size(y)), y.dtype)), tf.shape(y))
    reloaded = _reload(path, x, upstream)
    expected = {"y": y, "gradient": tape.gradient(y, x, upstream)}
    return Difference(
        *(_relative(reloaded[name], np.asarray(expected[name])) for name in ("y", "gradient"))
    )


def _relative(got, expected):
    return float(
        np.max(np.abs(got - expected))
        / max(np.max(np.abs(expected)), np.finfo(expected.dtype).tiny)
    )


def _reload(path, x, upstream):
    """What the script computes, as a dictionary of arrays."""
    if not Path(path).exists():
        raise ValueError(f"There is no saved model at {path}.")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.npz"), Path(folder, "target.npz")
        np.savez(source, x=x, upstream=upstream)
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
        command = [sys.executable, "-c", _SCRIPT, str(path), str(source), str(target)]
        finished = subprocess.run(command, capture_output=True, text=True, env=environment)
        if finished.returncode:
            reason = (finished.stderr.strip().splitlines() or ["no message"])[-1]
            raise ValueError(
                f"{path} cannot be opened in a fresh process, it may be damaged: {reason}"
            )
        with np.load(target) as arrays:
            return dict(arrays)
