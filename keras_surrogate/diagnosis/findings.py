"""The rules in their order, and the findings of all of them, the gravest first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import keras

from keras_surrogate.diagnosis import (
    advice,
    data_rules,
    gradient_rules,
    loss_rules,
    passes,
    signal_rules,
    spiking_rules,
)
from keras_surrogate.diagnosis.cases import Finding, RuleInput

if TYPE_CHECKING:
    from keras_surrogate.diagnosis.batches import Batch
    from keras_surrogate.diagnosis.layer_table import Row
    from keras_surrogate.diagnosis.objectives import Objective
    from keras_surrogate.diagnosis.plain_stack import Stack

_NONFINITE = {"nonfinite_weights", "nonfinite_signal", "nonfinite_gradient"}
_NO_ANSWER = "one_unit_output"
_CUT = {
    *_NONFINITE,
    _NO_ANSWER,
    "dead_units",
    "silent_layer",
    "constant_weights",
    "identical_inputs",
    "zero_kernel",
}
_LOST = {*_CUT, "collapsed_signal"}
_ENDED = {
    "zero_gradient",
    "zero_input",
    "zero_kernel",
    "dead_output",
    "no_loss_gradient",
    "stopped_gradient",
}

# Each rule with the kinds of findings that it would only repeat. A rule comes after those.
RULES: dict[Callable[[RuleInput], Finding | None], set[str]] = {
    signal_rules.nonfinite_weights: set(),
    signal_rules.nonfinite_signal: {"nonfinite_weights"},
    gradient_rules.nonfinite_gradient: {"nonfinite_weights", "nonfinite_signal"},
    signal_rules.constant_weights: _NONFINITE,
    data_rules.identical_inputs: _NONFINITE,
    data_rules.feature_scale: {*_NONFINITE, "identical_inputs"},
    loss_rules.one_unit_output: _NONFINITE,
    loss_rules.not_probabilities: {*_NONFINITE, _NO_ANSWER},
    loss_rules.squashed_logits: _NONFINITE,
    loss_rules.several_labels: _NONFINITE,
    loss_rules.wrong_labels: {*_NONFINITE, _NO_ANSWER, "several_labels"},
    loss_rules.one_class: {*_NONFINITE, "wrong_labels"},
    loss_rules.targets_outside: {*_NONFINITE, _NO_ANSWER},
    loss_rules.absolute_error_of_labels: _NONFINITE,
    data_rules.input_scale: {*_NONFINITE, "feature_scale", "identical_inputs"},
    data_rules.input_offset: {*_NONFINITE, "feature_scale", "input_scale", "identical_inputs"},
    data_rules.target_scale: {*_NONFINITE, "wrong_labels"},
    gradient_rules.zero_kernel: {
        *_NONFINITE,
        _NO_ANSWER,
        "constant_weights",
        "identical_inputs",
    },
    signal_rules.dead_units: {*_NONFINITE, "constant_weights", "identical_inputs", "zero_kernel"},
    spiking_rules.silent_layer: {*_NONFINITE, "identical_inputs", "zero_kernel"},
    spiking_rules.always_firing: {*_NONFINITE, "feature_scale"},
    signal_rules.collapsed_signal: _CUT - {_NO_ANSWER},
    signal_rules.saturated: {*_NONFINITE, "feature_scale"},
    signal_rules.exploding_signal: {*_NONFINITE, "feature_scale", "always_firing"},
    gradient_rules.unused_layer: _NONFINITE,
    gradient_rules.stopped_gradient: _NONFINITE,
    gradient_rules.zero_weight_slope: {*_NONFINITE, "constant_weights", "identical_inputs"},
    gradient_rules.zero_gradient: _LOST,
    gradient_rules.zero_input: _LOST,
    gradient_rules.dead_output: _LOST,
    gradient_rules.no_loss_gradient: _LOST,
    gradient_rules.vanishing_gradient: {*_LOST, *_ENDED, "zero_weight_slope", "feature_scale"},
    # Targets of one output that are too large make its gradients too large beside those of another.
    gradient_rules.exploding_gradient: {*_CUT, "exploding_signal", "feature_scale", "target_scale"},
    gradient_rules.misaligned: _LOST,
    gradient_rules.uncentred: {*_LOST, "feature_scale", "input_scale", "input_offset"},
    gradient_rules.update_size: {
        *_CUT,
        *_ENDED,
        "exploding_signal",
        "exploding_gradient",
        "feature_scale",
        "input_scale",
        "target_scale",
    },
}


def find(
    model: keras.Model,
    batch: Batch,
    rows: tuple[Row, ...],
    stack: Stack | None,
    has_loss: bool,
    objectives: tuple[Objective, ...] = (),
) -> tuple[Finding, ...]:
    """The findings of all rules, without those that only follow from others."""
    adaptive = advice.rescales_gradients(passes.optimizer_of(model))
    case = RuleInput(batch, rows, stack, adaptive, has_loss, objectives)
    found = {}
    for rule, covered_by in RULES.items():
        covering = {kind for kind, finding in found.items() if _covers(finding)}
        if covered_by & covering:
            continue
        finding = rule(case)
        if finding:
            fitting = advice.fitting(case, finding.advice)
            found[finding.kind] = dataclasses.replace(finding, advice=fitting)
    return tuple(sorted(found.values(), key=lambda finding: -finding.severity))


def _covers(finding: Finding) -> bool:
    """True if other faults may be its consequences: of dead units, only if a whole layer is."""
    return finding.kind not in ("dead_units", "silent_layer") or finding.severity == 3
