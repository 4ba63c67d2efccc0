"""What is recorded, for TensorBoard."""

import contextlib
import importlib.util
import os
import re

import numpy as np
import tensorflow as tf

from keras_surrogate.files import nearest_folder
from keras_surrogate.recording.quantities import GradientHistogram
from keras_surrogate.records import Record


def check_log_dir(log_dir):
    """Raises if nothing can be written for TensorBoard into a folder, which need not exist yet.

    Raises:
        ValueError: `log_dir` or what it lies in is a file, or cannot be written to.
        ImportError: the tensorboard package is missing.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError("log_dir needs TensorBoard: python -m pip install tensorboard.")
    # Folders elsewhere, "gs://bucket/logs", are TensorFlow's to find.
    existing = nearest_folder(log_dir)
    if "://" not in str(log_dir) and not (
        existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    ):
        what = "is a file" if not existing.is_dir() else "cannot be written to"
        raise ValueError(
            f"log_dir {log_dir} cannot be used: {existing} {what}. Name a folder, or one to be made."
        )


class SummaryWriter:
    """Writes rows as TensorBoard's scalars, tags "<layer>/<quantity>", and gradient histograms as histograms.

    A histogram shows log10(abs(gradient)), since that is what was counted, without elements that
    are 0 or not finite; of those below 1e-12 and from 1e3 on only the number is known, and they
    stand in a decade of their own at the ends.

    Args:
        log_dir: the folder, made if need be.

    Raises:
        ValueError: the folder cannot be made or written to.
        ImportError: the tensorboard package is missing.
    """

    def __init__(self, log_dir):
        check_log_dir(log_dir)
        try:
            self._writer = tf.summary.create_file_writer(str(log_dir))
        except tf.errors.OpError as error:
            raise ValueError(
                f"log_dir {log_dir} cannot be used: {_short(error.message)}."
            ) from error

    def write(self, columns, steps, epochs, rows):
        """Writes rows, one number a column, and flushes.

        Raises:
            OSError: they cannot be written.
        """
        columns = tuple(columns)
        histograms = Record(columns, steps, epochs, rows).histograms()
        scalars = [
            (_tag(column), number)
            for number, column in enumerate(columns)
            if "[" not in column.split("/")[0]
        ]
        with _as_os_error(), self._writer.as_default(), tf.summary.record_if(True):
            for number, (step, row) in enumerate(zip(steps, rows, strict=True)):
                values = [_Value(tag=tag, simple_value=row[column]) for tag, column in scalars]
                values += [_histogram(name, counts[number]) for name, counts in histograms.items()]
                # One write a step: `tf.summary.scalar` for each number takes a hundred times as
                # long.
                tf.summary.experimental.write_raw_pb(
                    _Summary(value=values).SerializeToString(), int(step)
                )
            self._writer.flush()


_Summary, _Value = tf.compat.v1.Summary, tf.compat.v1.Summary.Value

# The decades of the bins between the first ("0") and the last ("not finite").
_EDGES = np.arange(GradientHistogram.lowest - 1, GradientHistogram.highest + 2, dtype=float)


def _histogram(name, counts):
    counts = np.nan_to_num(counts[1:-1])
    histogram = tf.compat.v1.HistogramProto(
        min=_EDGES[0], max=_EDGES[-1], num=counts.sum(), bucket_limit=_EDGES[1:], bucket=counts
    )
    return _Value(tag=_tag(f"log10_gradient/{name}"), histo=histogram)


def _tag(column):
    """ "<layer>/<quantity>"; the layer without slashes, at the first of which TensorBoard would split its groups."""
    quantity, layer = column.split("/", 1)
    return f"{layer.replace('/', '.')}/{quantity}"


@contextlib.contextmanager
def _as_os_error():
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(f"TensorBoard's file cannot be written ({_short(error.message)})") from error


def _short(message):
    """The first line of TensorFlow's message, without its operations."""
    return re.sub(r"\{\{.*?\}\} | \[Op:.*", "", message.splitlines()[0])
