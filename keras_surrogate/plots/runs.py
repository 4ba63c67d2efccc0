"""What the pictures of a training run show, as arrays. Nothing is drawn here."""

import os
import warnings

import numpy as np

from keras_surrogate import records
from keras_surrogate.recording.quantities import GradientHistogram


def recorded(source):
    """The `Record` behind a logger, `gradients.GradientNorms`, a CSV or NPZ file, or a `Record` itself.

    Raises:
        TypeError: `source` is something else.
        ValueError: the file is missing or holds something else; nothing was recorded.
    """
    record = _record_of(source)
    if record is None:
        raise TypeError(
            "A training run is a records.Record, a GradientNormLogger, a GradientNorms, or the path of a CSV or NPZ "
            f"file, but not {source!r}."
        )
    if not len(record.steps):
        raise ValueError("There is nothing to draw: the record has no steps.")
    return record


def with_norms(source):
    """The `Record` of a training run, or what has `layer_names`, `steps` and `norms` as it is, which may be empty."""
    record = _record_of(source)
    if record is None and all(hasattr(source, name) for name in ("layer_names", "steps", "norms")):
        return source
    return recorded(source) if record is None else record


def _record_of(source):
    """The `Record`, which loggers have as `record` and `GradientNorms` as `recorded`; None where there is none."""
    if isinstance(source, str | os.PathLike):
        return records.load(source)
    candidates = (source, getattr(source, "record", None), getattr(source, "recorded", None))
    return next((one for one in candidates if isinstance(one, records.Record)), None)


def nonfinite_steps(run):
    """The steps whose gradient is NaN or infinite, other than those in which an applied gradient updates nothing."""
    if isinstance(run, records.Record):
        return list(run.nonfinite)
    return np.asarray(run.steps)[~np.isfinite(run.norms).all(axis=1)]


def medians(values):
    """The median down each column over its finite numbers; NaN where there are none."""
    return _over_finite(np.nanmedian, values)


def means(values):
    """The mean down each column over its finite numbers; NaN where there are none."""
    return _over_finite(np.nanmean, values)


def _over_finite(statistic, values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of columns without a finite number
        return statistic(np.where(np.isfinite(values), values, np.nan), axis=0)


def spans(steps, values, points, statistic=medians):
    """At most so many points: the mean step, and the statistic of the values, of equal spans of the recorded steps."""
    if len(steps) <= points:
        return steps, values
    parts = np.array_split(np.arange(len(steps)), points)
    return np.array([steps[part].mean() for part in parts]), np.stack(
        [statistic(values[part]) for part in parts]
    )


def stretches(record):
    """The rows of each epoch, a list of slices. Where a second fit counts from 0 again, its epochs are others."""
    borders = np.flatnonzero(np.diff(record.epochs)) + 1
    ends = [*borders, len(record.epochs)]
    return [slice(start, end) for start, end in zip([0, *borders], ends, strict=True)]


def epochs_of(record):
    """The number of each stretch's epoch; after a second fit numbers may come again."""
    return np.array([record.epochs[rows.start] for rows in stretches(record)])


def epoch_medians(record, quantity):
    """The epochs' numbers, and for each epoch the median of its finite steps, shape (epochs, layers)."""
    values = record[quantity]
    return epochs_of(record), np.stack([medians(values[rows]) for rows in stretches(record)])


def epoch_ends(record, quantity):
    """The epochs' numbers, and the values at the last recorded step of each epoch, shape (epochs, layers)."""
    last = [rows.stop - 1 for rows in stretches(record)]
    return epochs_of(record), record[quantity][last]


def first_over_last(norms):
    """The norm of the first layer over that of the last, shape (steps,); NaN where one is not finite, or both are 0."""
    first, last = norms[:, 0], norms[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isfinite(first) & np.isfinite(last), first / last, np.nan)


def log10(norms):
    """The decimal logarithm; -inf for 0, NaN for what is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isfinite(norms), np.log10(norms), np.nan)


def measured(names, values):
    """The names and columns without those that are NaN throughout, as of layers that are not called; never none."""
    kept = (
        ~np.isnan(values).all(axis=0) if not np.isnan(values).all() else np.ones(len(names), bool)
    )
    return [name for name, keep in zip(names, kept, strict=True) if keep], values[:, kept]


def edges(centres):
    """The borders of cells around increasing centres: the middles between them, and as far beyond at either end."""
    if len(centres) == 1:
        return centres[0] + np.array([-0.5, 0.5])
    middles = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middles[0]], middles, [2 * centres[-1] - middles[-1]]])


def histogram_rows(record, layer=None, epoch=None):
    """The rows to draw: a list of layers' names or epochs' numbers, and counts of shape (rows, bins).

    Args:
        record: a `Record` with gradient histograms.
        layer: a layer's name, for one row an epoch; default None, for one row a layer.
        epoch: the epoch's number, where the rows are the layers; default None, the last. Of epochs
            of the same number, after a second fit, the last.

    Raises:
        ValueError: no histograms were recorded; no such layer or epoch; both are given.
    """
    histograms = record.histograms()
    if not histograms:
        raise ValueError(
            'No gradient histograms were recorded. Record them with GradientNormLogger(also="histogram").'
        )
    if layer is not None and epoch is not None:
        raise ValueError(
            "Give a layer, for one row an epoch, or an epoch, for one row a layer, but not both."
        )
    epochs = epochs_of(record).tolist()
    if layer is not None:
        _check("layer", layer, histograms)
        return epochs, np.stack(
            [np.nansum(histograms[layer][rows], axis=0) for rows in stretches(record)]
        )
    epoch = epochs[-1] if epoch is None else epoch
    _check("epoch", epoch, list(dict.fromkeys(epochs)))
    rows = stretches(record)[_last_index(epochs, epoch)]
    names = [name for name in histograms if name != "global"]
    return names, np.stack([np.nansum(histograms[name][rows], axis=0) for name in names])


def _last_index(values, value):
    return len(values) - 1 - values[::-1].index(value)


def _check(what, value, known):
    if value not in known:
        raise ValueError(
            f"No {what} {value!r} was recorded. There are: {', '.join(map(str, known))}."
        )


def decades(counts):
    """The borders of the histograms' decades as exponents, and each decade's share of all elements that are not 0.

    What is below the lowest or above the highest power of ten is in the first or the last of them.
    """
    borders = np.arange(GradientHistogram.lowest - 1, GradientHistogram.highest + 2)
    inside = counts[..., 1:-1]
    total = inside.sum(axis=-1, keepdims=True)
    return borders, np.divide(inside, total, out=np.zeros_like(inside), where=total > 0)


def occupied(density, least=1e-3):
    """The first and last border between which all decades lie that have at least this share in any row."""
    filled = np.flatnonzero((density >= least).any(axis=0))
    return (filled[0], filled[-1] + 1) if len(filled) else (0, density.shape[-1])


def share_note(counts):
    """What a histogram leaves out, in words: the shares that are 0 and that are not finite; "" where there are none."""
    total = counts.sum()
    left_out = {"0": counts[0], "not finite": counts[-1]}
    return ", ".join(f"{name}: {number / total:.1%}" for name, number in left_out.items() if number)
