"""The numbers in the pictures of a training run, as arrays. Nothing is drawn here."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from keras_surrogate import records
from keras_surrogate.recording.quantities import GradientHistogram
from keras_surrogate.recording.unit_quantities import UnitScores

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from keras_surrogate._types import PathLike
    from keras_surrogate.callbacks import GradientNormLogger
    from keras_surrogate.gradients import GradientNorms

# A training run: a record, an object that has one, or the path of a CSV or NPZ file.
RunLike: TypeAlias = "records.Record | GradientNormLogger | GradientNorms | PathLike"


class HasNorms(Protocol):
    """An object with the gradient norms of some steps, shape (steps, layers)."""

    @property
    def layer_names(self) -> Sequence[str]: ...

    @property
    def steps(self) -> Sequence[int] | np.ndarray: ...

    @property
    def norms(self) -> np.ndarray: ...


def recorded(source: RunLike) -> records.Record:
    """The `Record` of a training run.

    Args:
        source: a `Record`, a logger, a `gradients.GradientNorms`, or the path of a CSV or NPZ file.

    Raises:
        TypeError: `source` is something else.
        ValueError: the file is missing or holds something else; nothing was recorded.
    """
    record = _record_of(source)
    if record is None:
        raise TypeError(
            "A training run is a records.Record, a GradientNormLogger, a GradientNorms, or the "
            f"path of a CSV or NPZ file, but not {source!r}."
        )
    if not len(record.steps):
        raise ValueError("There is nothing to draw: the record has no steps.")
    return record


def with_norms(source: RunLike | HasNorms) -> records.Record | HasNorms:
    """The `Record` of a training run; or `source` itself if it has norms but no record."""
    record = _record_of(source)
    if record is not None:
        return record
    if all(hasattr(source, name) for name in ("layer_names", "steps", "norms")):
        return source
    return recorded(source)  # raises the TypeError


def _record_of(source: object) -> records.Record | None:
    if isinstance(source, str | os.PathLike):
        return records.load(source)
    # Loggers have the record as `record`, `GradientNorms` as `recorded`.
    candidates = (source, getattr(source, "record", None), getattr(source, "recorded", None))
    return next((one for one in candidates if isinstance(one, records.Record)), None)


def nonfinite_steps(run: records.Record | HasNorms) -> np.ndarray:
    """The steps with a NaN or infinite gradient.

    Steps without an update, whose applied gradient is NaN for all layers, are left out.
    """
    if isinstance(run, records.Record):
        return np.array(list(run.nonfinite), int)
    return np.asarray(run.steps)[~np.isfinite(run.norms).all(axis=1)]


def medians(values: np.ndarray) -> np.ndarray:
    """The median of the finite numbers of each column; NaN for a column without any."""
    return _over_finite(np.nanmedian, values)


def means(values: np.ndarray) -> np.ndarray:
    """The mean of the finite numbers of each column; NaN for a column without any."""
    return _over_finite(np.nanmean, values)


def _over_finite(statistic: Callable[..., np.ndarray], values: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        # NumPy warns about columns without a finite number.
        warnings.simplefilter("ignore", RuntimeWarning)
        return statistic(np.where(np.isfinite(values), values, np.nan), axis=0)


def spans(
    steps: np.ndarray,
    values: np.ndarray,
    points: int,
    statistic: Callable[[np.ndarray], np.ndarray] = medians,
) -> tuple[np.ndarray, np.ndarray]:
    """Divides the recorded steps into at most `points` equal spans.

    Returns:
        The mean step of each span, and the statistic of its values, shape (spans, layers).
    """
    if len(steps) <= points:
        return steps, values
    parts = np.array_split(np.arange(len(steps)), points)
    centres = np.array([steps[part].mean() for part in parts])
    return centres, np.stack([statistic(values[part]) for part in parts])


def stretches(record: records.Record) -> list[slice]:
    """The rows of each epoch. A second fit, which counts from 0 again, has epochs of its own."""
    borders = np.flatnonzero(np.diff(record.epochs)) + 1
    starts = [0, *borders]
    ends = [*borders, len(record.epochs)]
    return [slice(start, end) for start, end in zip(starts, ends, strict=True)]


def epochs_of(record: records.Record) -> np.ndarray:
    """The number of each stretch's epoch. After a second fit a number can occur twice."""
    return np.array([record.epochs[rows.start] for rows in stretches(record)])


def epoch_medians(record: records.Record, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the epochs, and the medians of their finite steps, shape (epochs, layers)."""
    values = record[quantity]
    return epochs_of(record), np.stack([medians(values[rows]) for rows in stretches(record)])


def epoch_means(record: records.Record, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the epochs, and the means of their finite steps, shape (epochs, layers)."""
    values = record[quantity]
    return epochs_of(record), np.stack([means(values[rows]) for rows in stretches(record)])


def check_alignment(record: records.Record) -> None:
    """Raise a ValueError if no alignment was recorded."""
    if "alignment" not in record.quantities:
        raise ValueError(
            'No alignment was recorded. Record it with GradientNormLogger(also="alignment").'
        )


def sampled(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The steps in which some value is not NaN, and their values; all steps if there are none."""
    kept = ~np.isnan(values).all(axis=1)
    if not kept.any():
        return steps, values
    return steps[kept], values[kept]


def epoch_ends(record: records.Record, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the epochs, and the values at their last steps, shape (epochs, layers)."""
    last = [rows.stop - 1 for rows in stretches(record)]
    return epochs_of(record), record[quantity][last]


def first_over_last(norms: np.ndarray) -> np.ndarray:
    """The norm of the first layer over that of the last, shape (steps,).

    NaN where one of them is not finite, or both are 0.
    """
    first = norms[:, 0]
    last = norms[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isfinite(first) & np.isfinite(last), first / last, np.nan)


def log10(norms: np.ndarray) -> np.ndarray:
    """The decimal logarithm; -inf for 0, NaN for what is not finite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isfinite(norms), np.log10(norms), np.nan)


def measured(names: Sequence[str], values: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Leaves out the columns that are NaN in all rows, as for layers that are not called.

    Where all columns are NaN, all are kept.
    """
    kept = ~np.isnan(values).all(axis=0)
    if not kept.any():
        kept = np.ones(len(names), bool)
    return [name for name, keep in zip(names, kept, strict=True) if keep], values[:, kept]


def edges(centres: np.ndarray) -> np.ndarray:
    """The borders of cells around increasing centres: the midpoints, and one more at each end."""
    if len(centres) == 1:
        return centres[0] + np.array([-0.5, 0.5])
    middles = (centres[1:] + centres[:-1]) / 2
    # The outer cells are symmetric about their centres.
    return np.concatenate([[2 * centres[0] - middles[0]], middles, [2 * centres[-1] - middles[-1]]])


def histogram_rows(
    record: records.Record, layer: str | None = None, epoch: int | None = None
) -> tuple[list[str] | list[int], np.ndarray]:
    """The rows to draw: names of layers or numbers of epochs, and counts of shape (rows, bins).

    Args:
        record: a `Record` with gradient histograms.
        layer: the name of a layer, for a row for each epoch; default None, for a row for each
            layer.
        epoch: the number of the epoch, if the rows are layers; default None, the last. After a
            second fit, the last epoch of that number.

    Raises:
        ValueError: no histograms were recorded; no such layer or epoch; both are given.
    """
    histograms = record.histograms()
    if not histograms:
        raise ValueError(
            "No gradient histograms were recorded. Record them with "
            'GradientNormLogger(also="histogram").'
        )
    if layer is not None:
        _check_layer(layer, epoch, histograms)
        counts = [np.nansum(histograms[layer][rows], axis=0) for rows in stretches(record)]
        return epochs_of(record).tolist(), np.stack(counts)
    rows = stretches(record)[_place_of_epoch(record, epoch)]
    names = [name for name in histograms if name != "global"]
    return names, np.stack([np.nansum(histograms[name][rows], axis=0) for name in names])


def unit_score_rows(
    record: records.Record, layer: str | None = None, epoch: int | None = None
) -> tuple[list[str] | list[int], np.ndarray]:
    """The rows to draw: names of layers or numbers of epochs, and shares of shape (rows, bins).

    Arguments and errors are those of `histogram_rows`.
    """
    bins = [f"{UnitScores.name}[{label}]" for label in UnitScores.labels]
    if bins[0] not in record.quantities:
        raise ValueError(
            'No scores of units were recorded. Record them with GradientNormLogger(also="dormant").'
        )
    names = list(record.names(bins[0]))
    last = [rows.stop - 1 for rows in stretches(record)]
    shares = np.stack([record[one][last] for one in bins], axis=-1)
    if layer is not None:
        _check_layer(layer, epoch, names)
        return epochs_of(record).tolist(), shares[:, names.index(layer)]
    return names, shares[_place_of_epoch(record, epoch)]


def _check_layer(layer: str, epoch: int | None, known: Collection[object]) -> None:
    if epoch is not None:
        raise ValueError(
            "Give a layer, for one row for each epoch, or an epoch, for one row for each layer, "
            "but not both."
        )
    _check("layer", layer, known)


def _place_of_epoch(record: records.Record, epoch: int | None) -> int:
    """The place of an epoch among the stretches; of several with its number the last one."""
    epochs = epochs_of(record).tolist()
    number = epochs[-1] if epoch is None else epoch
    _check("epoch", number, list(dict.fromkeys(epochs)))
    return _last_index(epochs, number)


def _last_index(values: list[int], value: int) -> int:
    return len(values) - 1 - values[::-1].index(value)


def _check(kind: str, value: object, known: Collection[object]) -> None:
    if value not in known:
        raise ValueError(
            f"No {kind} {value!r} was recorded. There are: {', '.join(map(str, known))}."
        )


def decades(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The borders of the decades as exponents of 10, and their shares of the nonzero elements.

    The first and the last decade hold everything below the lowest and above the highest power.

    Args:
        counts: shape (..., bins), as in `Record.histograms`.
    """
    borders = np.arange(GradientHistogram.lowest - 1, GradientHistogram.highest + 2)
    inside = counts[..., 1:-1]  # the outer bins count zeros and non-finite elements
    total = inside.sum(axis=-1, keepdims=True)
    return borders, np.divide(inside, total, out=np.zeros_like(inside), where=total > 0)


def occupied(density: np.ndarray, least: float = 1e-3) -> tuple[int, int]:
    """The first and last border of the decades that have at least this share in any row."""
    filled = np.flatnonzero((density >= least).any(axis=0))
    if not len(filled):
        return 0, density.shape[-1]
    return filled[0], filled[-1] + 1


def share_note(counts: np.ndarray) -> str:
    """The shares of elements that are 0 and that are not finite, in words; "" if there are none."""
    total = counts.sum()
    left_out = {"0": counts[0], "not finite": counts[-1]}
    return ", ".join(f"{name}: {number / total:.1%}" for name, number in left_out.items() if number)
