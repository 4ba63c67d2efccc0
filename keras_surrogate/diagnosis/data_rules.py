"""Rules about the data: inputs, features and targets. Each gives a `Finding`, or None."""

import math

from keras_surrogate import thresholds
from keras_surrogate.diagnosis import advice, cases


def identical_inputs(case):
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
        f"The examples of the batch are all alike: {share:.2g} of their mean square differs between them.",
        (
            "Give different examples. If these are, subtract their mean: next to it they do not differ.",
        ),
    )


def feature_scale(case):
    largest, typical = case.batch.largest_feature, case.batch.typical_feature
    # The layers that take the features decide: what the model itself has normalised no longer
    # differs there.
    ratios = [row.input_sizes for row in case.rows if row.is_first and row.input_sizes is not None]
    if largest is None or not ratios:
        return None
    ratio = min(largest.size / typical.size, max(ratios))
    if not ratio > thresholds.FEATURE_TOO_LARGE:
        return None
    sizes = f"square of {_plain(largest.size)}, and the median one, feature {typical.index}, {_plain(typical.size)}"
    is_hidden = case.adaptive and ratio < thresholds.FEATURE_TOO_LARGE_RESCALED
    return cases.about_data(
        "feature_scale",
        1 if is_hidden else 2,
        ratio,
        thresholds.FEATURE_TOO_LARGE,
        f"The features of the input {largest.input} have very different sizes: feature {largest.index} has a root mean "
        f"{sizes}. What is small is hardly learned beside it, and a learning rate that suits both does not exist.",
        (advice.CENTRE_DATA,),
    )


def target_scale(case):
    batch = case.batch
    if batch.target_mean is None or batch.target_deviation == 0:
        return None
    distance = math.hypot(batch.target_mean - batch.output_mean, batch.target_deviation)
    # Weights and steps are made for numbers of about 1, so that targets of that size are never at
    # fault.
    too_large = distance / max(batch.output_deviation, 1.0)
    too_small = (
        batch.target_deviation / min(batch.output_deviation, 1.0)
        if batch.output_deviation
        else math.inf
    )
    targets = (
        f"mean {_plain(batch.target_mean)}, standard deviation {_plain(batch.target_deviation)}"
    )
    outputs = (
        f"mean {_plain(batch.output_mean)}, standard deviation {_plain(batch.output_deviation)}"
    )
    of = "" if batch.target is None else f" of {batch.target}"
    if too_large > thresholds.TARGETS_TOO_LARGE:
        return cases.about_data(
            "target_scale",
            3 if too_large > thresholds.TARGETS_OUT_OF_REACH else 2,
            too_large,
            thresholds.TARGETS_TOO_LARGE,
            f"The targets{of} ({targets}) are far larger than what the model gives at first ({outputs}): "
            f"{_plain(too_large)} times. {_too_large_for(case)}",
            (advice.STANDARDISE_TARGETS, *_bias(case)),
        )
    if too_small < 1 / thresholds.TARGETS_TOO_LARGE:
        return cases.about_data(
            "target_scale",
            3 if too_small < 1 / thresholds.TARGETS_OUT_OF_REACH else 2,
            too_small,
            1 / thresholds.TARGETS_TOO_LARGE,
            f"The targets{of} ({targets}) differ far less than what the model gives at first ({outputs}): "
            f"{too_small:.2g} times as much. Next to the noise of its own weights they are nearly constant.",
            (advice.STANDARDISE_TARGETS,),
        )
    return None


def _too_large_for(case):
    bounded = [row for row in case.rows if row.is_output and row.activation in cases.BOUNDED]
    if bounded:
        low, high = cases.BOUNDED[bounded[0].activation]
        return f"The {bounded[0].activation} at {bounded[0].layer} can give numbers from {low} to {high} only."
    if case.adaptive:
        return "The weights would have to grow that much, and a step of this optimizer moves them by the learning rate."
    return "So are the errors, and the first steps lead nowhere or to infinity."


def _bias(case):
    """Setting the bias is enough where the targets lie far from 0, and not far from one another."""
    batch = case.batch
    outputs = [
        row
        for row in case.rows
        if row.is_output and row.has_kernel and row.activation in (None, "linear")
    ]
    if not outputs or batch.target_deviation > thresholds.TARGETS_TOO_LARGE * max(
        batch.output_deviation, 1.0
    ):
        return ()
    return (
        f"Or set the bias of the last layer, {outputs[0].layer}, to the targets' mean: "
        f"bias_initializer=keras.initializers.Constant({batch.target_mean:.3g}).",
    )


def _plain(number):
    """Three digits, without an exponent where that is readable."""
    rounded = float(f"{number:.3g}")
    return f"{rounded:,.10g}" if rounded == 0 or 1e-4 <= abs(rounded) < 1e9 else f"{rounded:.2e}"
