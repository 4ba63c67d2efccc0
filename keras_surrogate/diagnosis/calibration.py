"""`calibrate`: scales of the slopes with which the gradient keeps its size."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from keras_surrogate import checks, functions
from keras_surrogate.conversion import rebuilding
from keras_surrogate.diagnosis import preparing
from keras_surrogate.diagnosis.balancing import Balance, Outcome
from keras_surrogate.diagnosis.surrogate_sites import Site, sites
from keras_surrogate.reprs import Shown

_REPORTS: weakref.WeakKeyDictionary[keras.Model, Calibrated] = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True, repr=False)
class Calibrated(Shown):
    """What a calibration measured and changed.

    Attributes:
        outcomes: an `Outcome` for each surrogate, in the order of the forward pass; at the end
            those that no gradient reached.
    """

    outcomes: tuple[Outcome, ...]

    _more = "print(report), report.outcomes"

    @property
    def spread_before(self) -> float:
        """The largest norm over the smallest positive one, of the surrogates of the signal."""
        return _spread([one.before for one in self._signal])

    @property
    def spread_after(self) -> float:
        """The same after the calibration."""
        return _spread([one.after for one in self._signal])

    @property
    def _signal(self) -> list[Outcome]:
        kept = [one for one in self.outcomes if one.kind != "weights"]
        return kept or list(self.outcomes)

    def _facts(self) -> dict[str, object]:
        return {
            "surrogates": len(self.outcomes),
            "largest over smallest norm": self.spread_before,
            "now": self.spread_after,
        }

    def _table(self) -> tuple[list[str], list[tuple[object, ...]]]:
        rows = [
            (one.path, one.kind, one.calls, one.before, one.after, one.factor, one.scale)
            for one in self.outcomes
        ]
        headings = ["surrogate", "of", "calls", "norm before", "norm now", "factor", "scale"]
        if any(one.share is not None for one in self.outcomes):
            headings += ["width", "share"]
            rows = [
                (*row, one.width, one.share) for row, one in zip(rows, self.outcomes, strict=True)
            ]
        return headings, rows

    def __str__(self) -> str:
        headings, rows = self._table()
        texts = [headings, *([_in_words(cell) for cell in row] for row in rows)]
        widths = [max(len(text[column]) for text in texts) for column in range(len(headings))]
        lines = [
            "  ".join(
                [
                    text[0].ljust(widths[0]),
                    *(cell.rjust(width) for cell, width in zip(text[1:], widths[1:], strict=True)),
                ]
            )
            for text in texts
        ]
        summary = (
            f"largest over smallest norm: {self.spread_before:.3g} before, "
            f"{self.spread_after:.3g} now"
        )
        return "\n".join([*lines, summary])


def _in_words(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)


def _spread(found: Sequence[float | None]) -> float:
    positive = [norm for norm in found if norm is not None and 0 < norm < math.inf]
    return max(positive) / min(positive) if positive else math.nan


def calibrate(
    model: keras.Model,
    x: object,
    y: object = None,
    layers: str | Sequence[str] | Callable[[keras.layers.Layer], bool] | None = None,
    share: float | None = None,
    tolerance: float = 1.1,
    iterations: int = 10,
    limit: float = 1e4,
    seed: int = 0,
) -> keras.Model:
    """A copy of a model whose slopes are scaled such that the gradient keeps its size.

        calibrated = calibrate(model, x_train[:256], y_train[:256])
        print(calibration_report(calibrated))

    This is for the backward pass what LSUV is for the forward pass. The L2 norm of the gradient
    behind each surrogate, that is, at the pre-activations, over the whole batch, becomes that of
    the last one, whose scale stays. The surrogates of `SurrogateWeights` are compared with each
    other: the norm of the gradient of the latent weights becomes that of the last ones. Of layers
    of spiking neurons it is the norm at their inputs, over all time steps.

    Weights and outputs stay the same; only the scales of the surrogates change. Every `Surrogate`
    and layer that holds one is changed, also where it has the slope of its own forward. Plain Keras
    activations are not: put surrogates there by `conversion.swap` first.

    A surrogate that is called once in the model gets its scale while the gradient passes it, before
    the gradient goes on, so that one backward pass is exact for any architecture: residual,
    branched, with normalisation, with attention. For surrogates that are called more often, as in
    recurrent layers, and for spiking neurons, passes are repeated. There is one pass before and, if
    needed, one after, to measure. All are in training mode and eager. Averages, seeds and metrics
    are restored.

    Why no gradient learns these scales: the loss does not depend on them. They are in the backward
    pass only, so that the true gradient of the loss by a scale is exactly 0, and what automatic
    differentiation would give there has no meaning. So they are set by a rule.

    Direction and size are different things. A calibrated gradient of a narrow slope has the right
    size and may point nowhere (see `theory` and the cosine in `diagnose`): calibrate wide slopes.
    Optimizers that rescale the gradient of each weight, as Adam does, need it less than SGD.

    Args:
        model: a Keras model with surrogates, compiled or not.
        x, y: one batch, as in `diagnose`. Without y each example's outputs get a random gradient.
        layers: the layers to change, as in `conversion.swap`: a name, path, pattern, several of
            these, or a function of a layer. Default: all.
        share: the least share of the inputs of each surrogate (pre-activations, potentials less the
            threshold, weights) at which its slope shall be at least 1 % of its largest value, above
            0 and below 1. Slopes with fewer are made wider by their own parameter, as the `k` of
            "fast_sigmoid" or the `width` of "boxcar"; a slope without such a parameter, as
            "hard_tanh", stays. Default None: all widths stay.
        tolerance: the factor by which norms may differ from the last one where passes are repeated;
            above 1, default 1.1.
        iterations: the largest number of passes that change scales, an integer of at least 1,
            default 10.
        limit: the largest factor for one surrogate, and the inverse of the smallest; above 1,
            default 1e4.
        seed: seed of the random gradients without y, an integer of at least 0, default 0.

    Returns:
        The copy, as `conversion.swap` makes it. `calibration_report` has the norms and factors.

    Raises:
        TypeError, ValueError: as in `diagnose` for `model`, `x` and `y`, and as in
            `conversion.swap` for models that cannot be copied; an argument out of range; a model
            without surrogates; a gradient of 0 behind the last surrogate.

    Source: Mishkin and Matas 2016, arXiv:1511.06422, for the forward pass.
    """
    settings = checked_settings("calibrate", tolerance, iterations, limit, share)
    if not isinstance(model, keras.Model):
        raise TypeError(f"calibrate: model must be a Keras model, but is {model!r}.")
    seed = checks.integer(seed, "calibrate: seed", least=0)
    found_sites("calibrate", model, layers)
    with named("calibrate"):
        x, y = preparing.batch(model, x, y)
    copy = rebuilding.rebuilt(model, {}, {})
    balance = Balance(copy, found_sites("calibrate", copy, layers), settings.limit)
    try:
        with named("calibrate"):
            objective = preparing.objective(copy, x, y, seed)
            outcomes = measured(balance, copy, x, objective, settings)
    finally:
        balance.release()
    _warn_of_unsaved(copy)
    _REPORTS[copy] = Calibrated(outcomes)
    return copy


def calibration_report(model: keras.Model) -> Calibrated:
    """The report on a model that `calibrate` returned.

    Raises:
        ValueError: it did not return this model.
    """
    if model not in _REPORTS:
        raise ValueError(f"There is no report on {model!r}: calibrate did not return it.")
    return _REPORTS[model]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The checked numbers of a calibration, with the defaults of `calibrate`."""

    tolerance: float = 1.1
    iterations: int = 10
    limit: float = 1e4
    share: float | None = None


def checked_settings(
    owner: str, tolerance: float, iterations: int, limit: float, share: float | None = None
) -> Settings:
    """The settings; a ValueError in the name of `owner` where a number is out of range."""

    def is_above_1(number: float) -> bool:
        return number > 1

    if share is not None:
        share = functions.real_number(
            share, owner, "share", "above 0 and below 1", lambda share: 0 < share < 1
        )
    return Settings(
        functions.real_number(tolerance, owner, "tolerance", "a number above 1", is_above_1),
        checks.integer(iterations, f"{owner}: iterations"),
        functions.real_number(limit, owner, "limit", "a number above 1", is_above_1),
        share,
    )


def measured(
    balance: Balance,
    model: keras.Model,
    x: object,
    objective: Callable[[object], tuple[tf.Tensor, float]],
    settings: Settings,
) -> tuple[Outcome, ...]:
    """The outcomes of `Balance.run`, with an error in words where `x` does not fit the model."""
    return preparing.reporting(
        model,
        x,
        lambda: balance.run(x, objective, settings.tolerance, settings.iterations, settings.share),
    )


def found_sites(
    owner: str,
    model: keras.Model,
    layers: str | Sequence[str] | Callable[[keras.layers.Layer], bool] | None,
) -> list[Site]:
    """The sites of a model; a ValueError in the name of `owner` where there are none."""
    found = sites(model, layers)
    if not found:
        subject = "model has" if layers is None else "layers chosen have"
        raise ValueError(
            f"{owner}: the {subject} no surrogates. "
            'Put them in place of activations first: conversion.swap(model, {"relu": "softplus"}).'
        )
    return found


@contextlib.contextmanager
def named(owner: str) -> Iterator[None]:
    """A context that gives the errors of `diagnose` and of `Balance` the name of `owner`."""
    try:
        yield
    except (TypeError, ValueError) as error:
        text = str(error).removeprefix("diagnose: ")
        raise type(error)(f"{owner}: {text}") from error


def _warn_of_unsaved(copy: keras.Model) -> None:
    """Warn of surrogates that a class creates in its own code, so that no file has the scale."""
    wanted = {site.path: site.surrogate for site in sites(copy)}
    saved = {site.path: site.surrogate for site in sites(rebuilding.remade(copy))}
    lost = [path for path, surrogate in wanted.items() if saved.get(path) != surrogate]
    if lost:
        warnings.warn(
            f"calibrate: the code of a class creates {len(lost)} surrogate(s) of {copy.name} "
            f"({', '.join(lost[:3])}): they are calibrated in this copy, but a .keras file creates "
            "the old ones. Let the class take them as arguments.",
            stacklevel=3,
        )
