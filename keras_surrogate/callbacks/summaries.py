"""Recorded numbers for TensorBoard."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_surrogate.files import check_folder
from keras_surrogate.recording.quantities import GradientHistogram
from keras_surrogate.records import Record

if TYPE_CHECKING:
    from keras_surrogate._types import PathLike


def check_log_dir(log_dir: PathLike) -> None:
    """Check that TensorBoard's files can be written into a folder. It need not exist yet.

    Raises:
        ValueError: `log_dir` is a file, is below a file, or is not writable.
        ImportError: the tensorboard package is missing.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError("log_dir needs TensorBoard: python -m pip install tensorboard.")
    # TensorFlow itself resolves remote folders, such as "gs://bucket/logs".
    if "://" not in str(log_dir):
        check_folder(log_dir)


class SummaryWriter:
    """Writes rows as TensorBoard's scalars, and gradient histograms as its histograms.

    The tags are "<layer>/<quantity>". A histogram shows log10(abs(gradient)), because elements are
    counted by their power of ten. It leaves out elements that are 0 or not finite. Elements below
    1e-12, and those from 1e3 on, are counted together, in the first and in the last bin.

    Args:
        log_dir: the folder. It is created if it does not exist.

    Raises:
        ValueError: the folder cannot be created or written to.
        ImportError: the tensorboard package is missing.
    """

    def __init__(self, log_dir: PathLike) -> None:
        check_log_dir(log_dir)
        try:
            self._writer = tf.summary.create_file_writer(str(log_dir))
        except tf.errors.OpError as error:
            raise ValueError(
                f"log_dir {log_dir} cannot be used: {_short(error.message)}."
            ) from error

    def write(
        self, columns: Sequence[str], steps: np.ndarray, epochs: np.ndarray, rows: np.ndarray
    ) -> None:
        """Write rows, with one number a column, and flush the file.

        Raises:
            OSError: the file cannot be written.
        """
        columns = tuple(columns)
        histograms = Record(columns, steps, epochs, rows).histograms()
        # The columns of histograms are "<quantity>[<bin>]/<layer>".
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
                summary = _Summary(value=values).SerializeToString()
                tf.summary.experimental.write_raw_pb(summary, int(step))
            self._writer.flush()


_Summary = tf.compat.v1.Summary
_Value = tf.compat.v1.Summary.Value

# The limits of the bins between the first ("0") and the last ("not finite"), as powers of ten.
_EDGES = np.arange(GradientHistogram.lowest - 1, GradientHistogram.highest + 2, dtype=float)


def _histogram(name: str, counts: np.ndarray) -> tf.compat.v1.Summary.Value:
    counts = np.nan_to_num(counts[1:-1])
    histogram = tf.compat.v1.HistogramProto(
        min=_EDGES[0], max=_EDGES[-1], num=counts.sum(), bucket_limit=_EDGES[1:], bucket=counts
    )
    return _Value(tag=_tag(f"log10_gradient/{name}"), histo=histogram)


def _tag(column: str) -> str:
    """The tag "<layer>/<quantity>". TensorBoard groups tags by the text before the first slash.

    So slashes within the layer's name become points.
    """
    quantity, layer = column.split("/", 1)
    return f"{layer.replace('/', '.')}/{quantity}"


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(f"TensorBoard's file cannot be written ({_short(error.message)})") from error


def _short(message: str) -> str:
    """The first line of TensorFlow's message, without the names of operations."""
    return re.sub(r"\{\{.*?\}\} | \[Op:.*", "", message.splitlines()[0])
