"""Rules about the loss: the last activation and the targets. Each returns a `Finding`, or None."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from keras_surrogate import thresholds
from keras_surrogate.diagnosis import cases

if TYPE_CHECKING:
    from keras_surrogate.diagnosis.cases import Finding, RuleInput
    from keras_surrogate.diagnosis.objectives import Objective

_BINARY = {"binary_crossentropy", "binary_focal_crossentropy"}
_ONE_HOT = {"categorical_crossentropy", "categorical_focal_crossentropy"}
_SPARSE = {"sparse_categorical_crossentropy"}
_CLASSES = _ONE_HOT | _SPARSE
_REGRESSION = {"mean_squared_error", "mean_absolute_error", "huber", "log_cosh"}

# Activations of probabilities, and those that are none although they may lie between 0 and 1.
_PROBABILITIES = {"sigmoid", "hard_sigmoid", "softmax"}
_NO_PROBABILITIES = {"relu", "relu6", "leaky_relu", "elu", "selu", "tanh", "softplus", "gelu"}

# Bounds of the values of activations.
_REACH = {
    **cases.BOUNDED,
    "softmax": (0, 1),
    "relu": (0, math.inf),
    "relu6": (0, 6),
    "softplus": (0, math.inf),
}
# Rounding, and label smoothing that was not quite undone.
_TOLERANCE = 1e-3


def one_unit_output(case: RuleInput) -> Finding | None:
    for objective in case.objectives:
        if objective.outputs.ndim < 2 or objective.outputs.shape[-1] > 1:
            continue
        if objective.activation == "softmax" and np.all(objective.outputs == 1):
            reason = "softmax of one unit is 1 for every input, and its slope is 0"
        elif objective.loss in _CLASSES:
            reason = f"{objective.loss} needs one output for each class, and of one it is always 0"
        else:
            continue
        return _finding(
            case,
            "one_unit_output",
            3,
            objective,
            1.0,
            2.0,
            f"The model has one output ({_layer(objective)}): {reason}. It "
            "gives the same answer to all.",
            (
                "For two classes use one unit with sigmoid and binary_crossentropy; for more, one "
                "unit for each class with softmax. For numbers use no activation and "
                "mean_squared_error.",
            ),
        )
    return None


def not_probabilities(case: RuleInput) -> Finding | None:
    for objective in case.objectives:
        if objective.from_logits or objective.loss not in _BINARY | _CLASSES:
            continue
        outside = _share_outside(objective.outputs, 0, 1)
        needed = "sigmoid" if objective.loss in _BINARY else "softmax"
        if outside > 0 or objective.activation in _NO_PROBABILITIES:
            return _finding(
                case,
                "not_probabilities",
                2,
                objective,
                outside,
                0.0,
                f"{objective.loss} takes probabilities, but the outputs are those of "
                f"{objective.activation or 'another function'} ({_layer(objective)}): "
                f"{outside:.0%} are below 0 or above 1. Keras clips these, so that they get no "
                "gradient.",
                (f"Use {needed} at the output, or no activation and from_logits=True.",),
            )
        if objective.loss in _CLASSES and not _sums_to_one(objective.outputs):
            return _finding(
                case,
                "not_probabilities",
                1,
                objective,
                _error_of_sums(objective.outputs),
                thresholds.PROBABILITIES_SUM,
                f"{objective.loss} takes probabilities of which one holds, but those of "
                f"{_layer(objective)} do not sum to 1. Keras divides them by their sum.",
                ("Use softmax at the output; sigmoid goes with binary_crossentropy.",),
            )
    return None


def squashed_logits(case: RuleInput) -> Finding | None:
    for objective in case.objectives:
        activation = objective.activation
        if objective.from_logits and activation in _PROBABILITIES | _NO_PROBABILITIES:
            return _finding(
                case,
                "squashed_logits",
                2,
                objective,
                float(np.ptp(objective.outputs)),
                math.inf,
                f"The loss has from_logits=True and applies its own sigmoid or softmax, but the "
                f"outputs have passed {activation} already ({_layer(objective)}): they are between "
                f"{objective.outputs.min():.2g} and {objective.outputs.max():.2g}, and the model "
                "cannot become certain.",
                (f"Remove {activation} at the output, or from_logits=True.",),
            )
    return None


def several_labels(case: RuleInput) -> Finding | None:
    for objective in case.objectives:
        targets = objective.targets
        outputs = objective.outputs
        if objective.activation != "softmax" or outputs.shape[-1] < 2:
            continue
        if targets.shape != outputs.shape or not np.isin(targets, [0, 1]).all():
            continue
        share = float(np.mean(targets.sum(axis=-1) != 1))
        if share > thresholds.TARGETS_OUTSIDE:
            return _finding(
                case,
                "several_labels",
                2,
                objective,
                share,
                thresholds.TARGETS_OUTSIDE,
                f"{share:.0%} of the targets name no class or several, but the softmax of "
                f"{_layer(objective)} gives probabilities of which exactly one holds.",
                ("Use sigmoid and binary_crossentropy: each label is a question of its own.",),
            )
    return None


def wrong_labels(case: RuleInput) -> Finding | None:
    for objective in case.objectives:
        problem = _problem_of_labels(objective)
        if problem is not None:
            share, what, remedy = problem
            return cases.about_data(
                "wrong_labels",
                3 if share > 0.5 else 2,
                share,
                0.0,
                f"The targets do not fit {objective.loss}: {share:.0%} {what}.",
                (remedy,),
            )
    return None


def _problem_of_labels(objective: Objective) -> tuple[float, str, str] | None:
    """A share of wrong targets, what they are, and a remedy; None if they fit."""
    targets = objective.targets
    classes = objective.outputs.shape[-1]
    if not np.issubdtype(targets.dtype, np.number):
        return None
    if objective.loss in _BINARY:
        share = _share_outside(targets, 0, 1)
        what = "are below 0 or above 1"
        remedy = "Use 0 and 1. For several classes use one softmax unit for each class."
    elif objective.loss in _SPARSE and not objective.ignores_a_class:
        whole = targets == np.round(targets)
        share = float(np.mean(~whole | (targets < 0) | (targets >= classes)))
        what = f"are not whole numbers from 0 to {classes - 1}"
        remedy = "Give the numbers of the classes, without scaling them as the inputs."
    elif objective.loss in _ONE_HOT and targets.shape == objective.outputs.shape:
        share = float(np.mean(np.abs(targets.sum(axis=-1) - 1) > thresholds.PROBABILITIES_SUM))
        what = "do not sum to 1 over the classes"
        remedy = "Use one-hot targets; for several labels at once, sigmoid and binary_crossentropy."
    else:
        return None
    return (share, what, remedy) if share > 0 else None


def one_class(case: RuleInput) -> Finding | None:
    for objective in case.objectives:
        labels = _labels(objective)
        if labels is None or len(labels) < thresholds.ENOUGH_LABELS or np.ptp(labels) > 0:
            continue
        return cases.about_data(
            "one_class",
            1,
            1.0,
            1.0,
            f"All {len(labels)} examples of the batch have one class, {labels.flat[0]:.3g}. If the "
            "data are sorted by class, each step makes the model forget the others.",
            (
                "Shuffle the examples: fit does it with arrays, but not with data sets; call "
                "dataset.shuffle(buffer_size) before batch. If the class is that common, give a "
                "larger batch.",
            ),
        )
    return None


def _labels(objective: Objective) -> np.ndarray | None:
    """One number for each example; None if the loss is not about classes of whole examples."""
    targets = objective.targets
    if objective.loss in _ONE_HOT and targets.ndim == 2 and targets.shape[-1] > 1:
        return targets.argmax(axis=-1)
    is_one = targets.size == len(targets)
    is_about_classes = objective.loss in _BINARY | _SPARSE
    return targets.ravel() if is_one and is_about_classes else None


def targets_outside(case: RuleInput) -> Finding | None:
    for objective in case.objectives:
        if objective.loss not in _REGRESSION or objective.activation not in _REACH:
            continue
        low, high = _REACH[objective.activation]
        share = _share_outside(objective.targets, low, high)
        if not share > thresholds.TARGETS_OUTSIDE:
            continue
        bounds = f"between {low} and {high}" if math.isfinite(high) else f"above {low}"
        return _finding(
            case,
            "targets_outside",
            3 if share > 0.5 else 2,
            objective,
            share,
            thresholds.TARGETS_OUTSIDE,
            f"{share:.0%} of the targets are out of reach: they are between "
            f"{objective.targets.min():.3g} and {objective.targets.max():.3g}, but the outputs of "
            f"{objective.activation} ({_layer(objective)}) are {bounds}.",
            ("Use no activation at the output (linear), or bring the targets between the bounds.",),
        )
    return None


def absolute_error_of_labels(case: RuleInput) -> Finding | None:
    for objective in case.objectives:
        targets = objective.targets
        if objective.loss != "mean_absolute_error" or targets.size != len(targets):
            continue
        if not np.isin(targets, [0, 1]).all() or np.ptp(targets) == 0:
            continue
        return cases.about_data(
            "absolute_error_of_labels",
            2,
            float(np.mean(targets)),
            0.5,
            "The targets are 0 and 1, but the loss is mean_absolute_error: its best guess is the "
            "commoner of both, never a probability, and its gradient does not depend on the error.",
            ("Use binary_crossentropy with sigmoid.",),
        )
    return None


def _share_outside(values: np.ndarray, low: float, high: float) -> float:
    return float(np.mean((values < low - _TOLERANCE) | (values > high + _TOLERANCE)))


def _error_of_sums(outputs: np.ndarray) -> float:
    return float(np.median(np.abs(outputs.sum(axis=-1) - 1)))


def _sums_to_one(outputs: np.ndarray) -> bool:
    return _error_of_sums(outputs) < thresholds.PROBABILITIES_SUM


def _layer(objective: Objective) -> str:
    return objective.layer or "the model"


def _finding(
    case: RuleInput,
    kind: str,
    severity: int,
    objective: Objective,
    value: float,
    threshold: float,
    message: str,
    advice: tuple[str, ...],
) -> Finding:
    """A finding about the layer that makes the output of an objective."""
    rows = [row for row in case.rows if row.layer == objective.layer]
    if rows:
        return cases.finding(kind, severity, rows, value, threshold, message, advice)
    return cases.about_data(kind, severity, value, threshold, message, advice)
