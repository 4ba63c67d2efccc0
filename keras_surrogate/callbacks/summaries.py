"""What is recorded, for TensorBoard."""

import numpy as np
import tensorflow as tf

from keras_surrogate.quantities import GradientHistogram
from keras_surrogate.records import Record


class SummaryWriter:
    """Writes rows as TensorBoard's scalars, tags "<layer>/<quantity>", and gradient histograms as histograms.

    A histogram shows log10(abs(gradient)), since that is what was counted, without elements that are 0 or not finite.

    Args:
        log_dir: the folder, made if need be.
    """

    def __init__(self, log_dir):
        self._writer = tf.summary.create_file_writer(str(log_dir))

    def write(self, columns, steps, epochs, rows):
        """Writes rows, one number a column, and flushes."""
        record = Record(tuple(columns), steps, epochs, rows)
        with self._writer.as_default():
            for column, values in zip(columns, rows.T, strict=True):
                if "[" not in column:
                    self._scalars(*column.split("/", 1), steps, values)
            for name, counts in record.histograms().items():
                self._histograms(name, steps, counts)
        self._writer.flush()

    def _scalars(self, quantity, name, steps, values):
        for step, value in zip(steps, values, strict=True):
            tf.summary.scalar(f"{_group(name)}/{quantity}", value, step)

    def _histograms(self, name, steps, counts):
        for step, count in zip(steps, counts, strict=True):
            exponents = np.repeat(_EXPONENTS, np.ceil(_RESOLUTION * count / max(1, count.sum())).astype(int)[1:-1])
            tf.summary.histogram(f"{_group(name)}/log10 of gradient", exponents, step)


# The middle of each decade, of the bins between the first ("0") and the last ("not finite").
_EXPONENTS = np.arange(GradientHistogram.lowest - 1, GradientHistogram.highest + 1) + 0.5
_RESOLUTION = 1000


def _group(name):
    """A layer's name without slashes, at the first of which TensorBoard would split its groups."""
    return name.replace("/", ".")
