"""Rules about the data: inputs, features and targets. Each returns a `Finding`, or None."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from keras_surrogate import thresholds
from keras_surrogate.diagnosis import advice, cases

if TYPE_CHECKING:
    from keras_surrogate.diagnosis.cases import Finding, RuleInput
    from keras_surrogate.diagnosis.layer_table import Row


def identical_inputs(case: RuleInput) -> Finding | None:
    batch = case.batch
    is_alike = (batch.spread or 0) < thresholds.COLLAPSED and not batch.others_differ
    has_inputs = batch.mean is not None or batch.others_differ is not None
    if batch.size < 2 or not is_alike or not has_inputs:
        return None
    share = batch.spread or 0.0
    return cases.about_data(
        "identical_inputs",
        3,
        share,
        thresholds.COLLAPSED,
        f"All examples of the batch are alike: {share:.2g} of their mean square differs between "
        "them.",
        (
            "Give different examples. If they do differ, subtract their mean, which is much larger "
            "than their differences.",
        ),
    )


def feature_scale(case: RuleInput) -> Finding | None:
    largest = case.batch.largest_feature
    typical = case.batch.typical_feature
    # The inputs of the first layers decide: features that the model itself normalises are alike
    # there.
    ratios = [row.input_sizes for row in case.rows if row.is_first and row.input_sizes is not None]
    if largest is None or typical is None or not ratios:
        return None
    ratio = min(largest.size / typical.size, max(ratios))
    if not ratio > thresholds.FEATURE_TOO_LARGE:
        return None
    is_mild = case.adaptive and ratio < thresholds.FEATURE_TOO_LARGE_RESCALED
    return cases.about_data(
        "feature_scale",
        1 if is_mild else 2,
        ratio,
        thresholds.FEATURE_TOO_LARGE,
        f"The features of the input {largest.input} have very different sizes: feature "
        f"{largest.index} has a root mean square of {_plain(largest.size)}, and the median one, "
        f"feature {typical.index}, {_plain(typical.size)}. The model hardly learns from the small "
        "ones, and no learning rate suits both.",
        (advice.CENTRE_DATA,),
    )


def input_scale(case: RuleInput) -> Finding | None:
    sizes = {row.layer: math.sqrt(row.input_power) for row in _unnormalised_firsts(case)}
    if not sizes or max(sizes.values()) <= thresholds.INPUT_TOO_LARGE:
        return None
    layer = max(sizes, key=sizes.__getitem__)
    return cases.about_data(
        "input_scale",
        2,
        sizes[layer],
        thresholds.INPUT_TOO_LARGE,
        f"The inputs of {layer} have a root mean square of {_plain(sizes[layer])}. Initial weights "
        "and learning rates suit numbers of about 1.",
        (
            "Divide by the largest number, such as 255 for pixels: "
            "keras.layers.Rescaling(1 / 255). Or standardise each feature: "
            "keras.layers.Normalization.",
        ),
    )


def input_offset(case: RuleInput) -> Finding | None:
    rows = [row for row in _unnormalised_firsts(case) if row.input_centredness is not None]
    worst = max(rows, key=lambda row: row.input_centredness, default=None)
    if worst is None or case.batch.spread == 0:
        return None
    # The root of the variance over the mean square.
    deviation = math.sqrt(max(1 - worst.input_centredness**2, 0.0))
    if deviation >= 1 / thresholds.INPUT_OFFSET:
        return None
    return cases.about_data(
        "input_offset",
        2,
        deviation,
        1 / thresholds.INPUT_OFFSET,
        f"The inputs of {worst.layer} are far from 0 and close to each other: their standard "
        f"deviation is {deviation:.2g} times their root mean square. The model sees their mean and "
        "hardly their differences.",
        (advice.CENTRE_DATA,),
    )


def _unnormalised_firsts(case: RuleInput) -> list[Row]:
    """The first layers with features as inputs that are not normalised before or right after."""
    if case.batch.mean is None:
        return []
    pairs = zip(case.rows, [*case.rows[1:], None], strict=True)
    return [
        row
        for row, after in pairs
        if row.is_first
        and row.input_power is not None
        and not row.is_normalised
        and not (after is not None and after.normalises)
    ]


def target_scale(case: RuleInput) -> Finding | None:
    batch = case.batch
    if batch.target_mean is None or batch.target_deviation == 0:
        return None
    distance = math.hypot(batch.target_mean - batch.output_mean, batch.target_deviation)
    # Initial weights and steps suit numbers of about 1, so that targets of that size are no fault.
    too_large = distance / max(batch.output_deviation, 1.0)
    too_small = math.inf
    if batch.output_deviation:
        too_small = batch.target_deviation / min(batch.output_deviation, 1.0)

    targets = _moments(batch.target_mean, batch.target_deviation)
    outputs = _moments(batch.output_mean, batch.output_deviation)
    of = "" if batch.target is None else f" of {batch.target}"
    if too_large > thresholds.TARGETS_TOO_LARGE:
        return cases.about_data(
            "target_scale",
            3 if too_large > thresholds.TARGETS_OUT_OF_REACH else 2,
            too_large,
            thresholds.TARGETS_TOO_LARGE,
            f"The targets{of} ({targets}) are far larger than the model's outputs at first "
            f"({outputs}): {_plain(too_large)} times. {_consequence(case)}",
            (advice.STANDARDISE_TARGETS, *_bias(case)),
        )
    if too_small < 1 / thresholds.TARGETS_TOO_LARGE:
        return cases.about_data(
            "target_scale",
            3 if too_small < 1 / thresholds.TARGETS_OUT_OF_REACH else 2,
            too_small,
            1 / thresholds.TARGETS_TOO_LARGE,
            f"The targets{of} ({targets}) differ far less than the model's outputs at first "
            f"({outputs}): {too_small:.2g} times as much. The differences between targets are "
            "small beside the noise of the initial weights.",
            (advice.STANDARDISE_TARGETS,),
        )
    return None


def _moments(mean: float, deviation: float) -> str:
    return f"mean {_plain(mean)}, standard deviation {_plain(deviation)}"


def _consequence(case: RuleInput) -> str:
    """The effect of targets that are too large."""
    bounded = [row for row in case.rows if row.is_output and row.activation in cases.BOUNDED]
    if bounded:
        low, high = cases.BOUNDED[bounded[0].activation]
        return (
            f"The outputs of {bounded[0].activation} at {bounded[0].layer} are between {low} and "
            f"{high} only."
        )
    if case.adaptive:
        return (
            "The weights would have to grow by that factor, but each step of this optimizer moves "
            "them by about the learning rate."
        )
    return "The errors are as large, so that the first steps are much too large."


def _bias(case: RuleInput) -> tuple[str, ...]:
    """Advice to set the bias, if the targets are far from 0 but close to each other."""
    batch = case.batch
    outputs = [
        row
        for row in case.rows
        if row.is_output and row.has_kernel and row.activation in (None, "linear")
    ]
    largest = thresholds.TARGETS_TOO_LARGE * max(batch.output_deviation, 1.0)
    if not outputs or batch.target_deviation > largest:
        return ()
    return (
        f"Or set the bias of the last layer, {outputs[0].layer}, to the targets' mean: "
        f"bias_initializer=keras.initializers.Constant({batch.target_mean:.3g}).",
    )


def _plain(number: float) -> str:
    """Three digits, without an exponent where that is readable."""
    rounded = float(f"{number:.3g}")
    is_readable = rounded == 0 or 1e-4 <= abs(rounded) < 1e9
    return f"{rounded:,.10g}" if is_readable else f"{rounded:.2e}"
