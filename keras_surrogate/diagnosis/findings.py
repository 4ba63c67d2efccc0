"""Which rule is applied when, and what they find, the gravest first."""

import dataclasses

from keras_surrogate.diagnosis import advice, backward, data, forward, passes
from keras_surrogate.diagnosis.cases import Case

_NONFINITE = {"nonfinite_weights", "nonfinite_signal", "nonfinite_gradient"}
_CUT = {*_NONFINITE, "dead_units", "constant_weights", "identical_inputs", "zero_kernel"}
_ENDED = {
    "zero_gradient",
    "zero_input",
    "zero_kernel",
    "dead_output",
    "no_loss_gradient",
    "stopped_gradient",
}

# Each rule with the kinds of findings that it would only repeat. A rule comes after those.
RULES = {
    forward.nonfinite_weights: set(),
    forward.nonfinite_signal: {"nonfinite_weights"},
    backward.nonfinite_gradient: {"nonfinite_weights", "nonfinite_signal"},
    forward.constant_weights: _NONFINITE,
    data.identical_inputs: _NONFINITE,
    data.feature_scale: {*_NONFINITE, "identical_inputs"},
    data.target_scale: _NONFINITE,
    backward.zero_kernel: {*_NONFINITE, "constant_weights", "identical_inputs"},
    forward.dead_units: {*_NONFINITE, "constant_weights", "identical_inputs", "zero_kernel"},
    forward.collapsed_signal: _CUT,
    forward.saturated: {*_NONFINITE, "feature_scale"},
    forward.exploding_signal: {*_NONFINITE, "feature_scale"},
    backward.unused_layer: _NONFINITE,
    backward.stopped_gradient: _NONFINITE,
    backward.zero_weight_slope: {*_NONFINITE, "constant_weights", "identical_inputs"},
    backward.zero_gradient: {*_CUT, "collapsed_signal"},
    backward.zero_input: {*_CUT, "collapsed_signal"},
    backward.dead_output: {*_CUT, "collapsed_signal"},
    backward.no_loss_gradient: {*_CUT, "collapsed_signal"},
    backward.vanishing_gradient: {
        *_CUT,
        *_ENDED,
        "collapsed_signal",
        "zero_weight_slope",
        "feature_scale",
    },
    # Targets of one output that are too large make its gradients too large beside those of another.
    backward.exploding_gradient: {*_CUT, "exploding_signal", "feature_scale", "target_scale"},
    backward.misaligned: {*_CUT, "collapsed_signal"},
    backward.uncentred: {*_CUT, "collapsed_signal", "feature_scale"},
    backward.update_size: {
        *_CUT,
        *_ENDED,
        "exploding_signal",
        "exploding_gradient",
        "feature_scale",
        "target_scale",
    },
}


def find(model, batch, rows, stack, has_loss):
    """The findings of all rules, without those that only follow from others."""
    case = Case(batch, rows, stack, advice.rescales_gradients(passes.optimizer_of(model)), has_loss)
    found = {}
    for rule, covered_by in RULES.items():
        finding = (
            None
            if covered_by & {kind for kind, other in found.items() if _covers(other)}
            else rule(case)
        )
        if finding:
            found[finding.kind] = dataclasses.replace(
                finding, advice=advice.fitting(case, finding.advice)
            )
    return tuple(sorted(found.values(), key=lambda finding: -finding.severity))


def _covers(finding):
    """Whether other faults may be its consequences."""
    return finding.kind != "dead_units" or finding.severity == 3
