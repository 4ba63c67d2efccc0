"""Which rule is applied when, and what they find, the gravest first."""

import dataclasses

from keras_surrogate.diagnosis import advice, data_rules, gradient_rules, passes, signal_rules
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
    signal_rules.nonfinite_weights: set(),
    signal_rules.nonfinite_signal: {"nonfinite_weights"},
    gradient_rules.nonfinite_gradient: {"nonfinite_weights", "nonfinite_signal"},
    signal_rules.constant_weights: _NONFINITE,
    data_rules.identical_inputs: _NONFINITE,
    data_rules.feature_scale: {*_NONFINITE, "identical_inputs"},
    data_rules.target_scale: _NONFINITE,
    gradient_rules.zero_kernel: {*_NONFINITE, "constant_weights", "identical_inputs"},
    signal_rules.dead_units: {*_NONFINITE, "constant_weights", "identical_inputs", "zero_kernel"},
    signal_rules.collapsed_signal: _CUT,
    signal_rules.saturated: {*_NONFINITE, "feature_scale"},
    signal_rules.exploding_signal: {*_NONFINITE, "feature_scale"},
    gradient_rules.unused_layer: _NONFINITE,
    gradient_rules.stopped_gradient: _NONFINITE,
    gradient_rules.zero_weight_slope: {*_NONFINITE, "constant_weights", "identical_inputs"},
    gradient_rules.zero_gradient: {*_CUT, "collapsed_signal"},
    gradient_rules.zero_input: {*_CUT, "collapsed_signal"},
    gradient_rules.dead_output: {*_CUT, "collapsed_signal"},
    gradient_rules.no_loss_gradient: {*_CUT, "collapsed_signal"},
    gradient_rules.vanishing_gradient: {
        *_CUT,
        *_ENDED,
        "collapsed_signal",
        "zero_weight_slope",
        "feature_scale",
    },
    # Targets of one output that are too large make its gradients too large beside those of another.
    gradient_rules.exploding_gradient: {*_CUT, "exploding_signal", "feature_scale", "target_scale"},
    gradient_rules.misaligned: {*_CUT, "collapsed_signal"},
    gradient_rules.uncentred: {*_CUT, "collapsed_signal", "feature_scale"},
    gradient_rules.update_size: {
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
