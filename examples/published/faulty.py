"""Published faulty programs: what diagnosis and alerts find, and what they say of repaired ones.

    python examples/published/faulty.py [--half first] [--again]

Each program of `faulty_programs` is built twice, faulty and repaired. `diagnosis.diagnose` sees the
untrained model and 128 examples; `GradientAlerts`, with the alerts of units and of the loss, sees
the training. `results/faulty.jsonl` keeps what they say, so that an interrupted run continues;
`--again` begins anew. `results/faulty.md` is the table.

    found         a finding of severity 2 or 3 or an alert, of the faulty program
    named         one of these names a fault that the program has, as `NAMES` lists them
    located       one that names a fault also names its layer, of the programs that have one
    false alarm   a finding of severity 2 or 3 or an alert, of the repaired twin

The rules were improved on the first half, the programs at odd places. The second half is held out:
no score of it was seen before the rules were final. Its programs had been read, though, when they
were rewritten, and the same faults come in both halves.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import faulty_programs
import keras
import numpy as np
import study

from keras_surrogate import diagnosis
from keras_surrogate.callbacks import GradientAlerts, GradientNormLogger

EXAMPLES = 128

# The kinds of findings and alerts that name a fault.
_NO_SIGNAL = {"vanishing_gradient", "collapsed_signal", "saturated", "vanishing"}
NAMES = {
    "last activation": {
        "one_unit_output",
        "not_probabilities",
        "squashed_logits",
        "several_labels",
        "targets_outside",
        "dead_output",
    },
    "hidden activation": {*_NO_SIGNAL, "dead_units", "dead"},
    "initial weights": {*_NO_SIGNAL, "exploding_signal"},
    "loss": {"absolute_error_of_labels", "several_labels"},
    "labels": {"wrong_labels", "one_class"},
    "inputs": {"feature_scale", "input_scale", "input_offset"},
    "targets": {"target_scale"},
    "learning rate": {
        "large_update",
        "small_update",
        "exploding",
        "nonfinite",
        "loss_oscillates",
        # The advice that comes with it begins with a lower rate.
        "dead",
    },
}

# The package of the commit before the rules about the loss, the labels and the scale of inputs,
# measured by this script.
BEFORE = (
    ("first, before these rules", 13, 8, 5, "0 of 5", 3, "0.62", "0.73"),
    ("held-out, before these rules", 12, 9, 3, "2 of 10", 4, "0.75", "0.69"),
)

# Recall and precision where papers give them, on their own programs.
PUBLISHED = (
    ("DeepLocalize, 40 programs (Wardat et al. 2021)", "34 of 40", ""),
    ("Keras's own checks, the same programs (there)", "32 of 40", ""),
    ("DeepFD (as cited in Empirical Software Engineering, 2025)", ".55", ".37"),
)


def examine(program: str, faulty: bool) -> dict[str, Any]:
    """What is said of one twin: lists of kind, layer and severity (alerts: 2)."""
    (chosen,) = (one for one in faulty_programs.PROGRAMS if one.id == program)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        twin = chosen.build(faulty)
        chosen_examples = np.random.default_rng(0).permutation(len(twin.x))[:EXAMPLES]
        report = diagnosis.diagnose(twin.model, twin.x[chosen_examples], twin.y[chosen_examples])
        logger = GradientNormLogger(also="activations")
        alerts = GradientAlerts(logger, action=lambda alert: None)
        history = twin.model.fit(
            twin.x, twin.y, verbose=0, callbacks=[logger, alerts], **twin.fit
        ).history
    is_finite = bool(np.isfinite(history["loss"]).all())
    return {
        "findings": [[one.kind, one.layer, one.severity] for one in report.findings],
        "alerts": [[one.kind, _layer(one.layer), 2] for one in alerts.alerts],
        # What Keras alone shows: a warning about softmax of one unit, or a loss of NaN.
        "keras": not is_finite or any("softmax over axis" in str(one.message) for one in caught),
        "losses": [float(f"{loss:.4g}") for loss in history["loss"]] if is_finite else [],
        "score": score(twin) if is_finite else None,
    }


def _layer(name: str) -> str | None:
    return None if name == "loss" else name


def score(twin: faulty_programs.Twin) -> float:
    """The share of right answers; for numbers, the share of their variance that is explained."""
    predicted = np.asarray(twin.model.predict(twin.x, verbose=0))
    targets = np.asarray(twin.y)
    classes = predicted.shape[-1]
    if np.isin(targets, [0, 1]).all():
        if classes > 1 and (targets.sum(axis=-1) == 1).all():
            return float(np.mean(predicted.argmax(-1) == targets.argmax(-1)))
        return float(np.mean((predicted > 0.5) == targets))
    if twin.model.loss == "sparse_categorical_crossentropy":
        return float(np.mean(predicted.argmax(-1) == np.round(targets[:, 0] * 255)))
    if twin.model.loss == "binary_crossentropy":
        return float(np.mean(np.round(predicted) == targets))
    errors = np.sum((predicted - targets) ** 2)
    return float(1 - errors / np.sum((targets - targets.mean(axis=0)) ** 2))


Said = Sequence[Sequence[Any]]


def is_alarm(said: Said) -> bool:
    return any(severity >= 2 for _, _, severity in said)


def naming(program: faulty_programs.Program, said: Said) -> Said:
    """What names a fault of a program, of severity 2 or 3."""
    kinds = set().union(*(NAMES[fault] for fault in program.faults))
    return [one for one in said if one[0] in kinds and one[2] >= 2]


def is_located(program: faulty_programs.Program, said: Said) -> bool:
    return program.layer is not None and any(
        layer == program.layer for _, layer, _ in naming(program, said)
    )


def counts(
    programs: Sequence[faulty_programs.Program],
    runs: Mapping[tuple[str, bool], Mapping[str, Any]],
    parts: Sequence[str],
) -> list[object]:
    """Found, named, located, false alarms, recall and precision.

    Args:
        programs: the programs.
        runs: from a program's id, and True for the faulty twin, to what was said.
        parts: "findings", "alerts" or both.
    """
    faulty = {one: _said(runs[one.id, True], parts) for one in programs}
    repaired = [_said(runs[one.id, False], parts) for one in programs]
    found = sum(map(is_alarm, faulty.values()))
    named = sum(bool(naming(one, said)) for one, said in faulty.items())
    located = sum(is_located(one, said) for one, said in faulty.items())
    alarms = sum(map(is_alarm, repaired))
    recall = found / len(programs)
    precision = found / max(found + alarms, 1)
    layers = sum(one.layer is not None for one in programs)
    return [found, named, f"{located} of {layers}", alarms, f"{recall:.2f}", f"{precision:.2f}"]


def _said(run: Mapping[str, Any], parts: Sequence[str]) -> Said:
    return [one for part in parts for one in run[part]]


def main(halves: Sequence[str] = ("first", "held-out"), again: bool = False) -> None:
    if again:
        (study.RESULTS / "faulty.jsonl").unlink(missing_ok=True)
    programs = dict(zip(("first", "held-out"), faulty_programs.halves(), strict=True))
    wanted = [one for half in halves for one in programs[half]]
    settings = [{"program": one.id, "faulty": faulty} for one in wanted for faulty in (True, False)]
    done = study.run("faulty", settings, examine)
    runs = {(one["program"], one["faulty"]): one for one in done}
    study.write("faulty", "\n".join([_summary(programs, halves, runs), _details(wanted, runs)]))
    print(f"{sum(one['seconds'] for one in done):.0f} s in all")


def _summary(programs, halves, runs) -> str:
    heading = ["", "programs", "found", "named", "located", "false alarms", "recall", "precision"]
    tools = {
        "diagnose and alerts": ("findings", "alerts"),
        "diagnose alone": ("findings",),
        "GradientAlerts alone": ("alerts",),
    }
    lines = []
    for half in halves:
        chosen = programs[half]
        for tool, parts in tools.items():
            lines.append([f"{tool}, {half}", len(chosen), *counts(chosen, runs, parts)])
        by_keras = sum(runs[one.id, True]["keras"] for one in chosen)
        false = sum(runs[one.id, False]["keras"] for one in chosen)
        keras_alone = f"{by_keras / len(chosen):.2f}", f"{by_keras / max(by_keras + false, 1):.2f}"
        lines.append(
            [
                f"Keras {keras.__version__} alone, {half}",
                len(chosen),
                by_keras,
                "",
                "",
                false,
                *keras_alone,
            ]
        )
    lines.extend(BEFORE)
    for tool, recall, precision in PUBLISHED:
        lines.append([tool, "", "", "", "", "", recall, precision])
    return study.markdown(heading, lines)


def _details(programs, runs) -> str:
    heading = ["program", "faults", "found, faulty twin", "alarms, repaired twin", "scores"]
    lines = []
    for one in programs:
        faulty = runs[one.id, True]
        repaired = runs[one.id, False]
        said = _said(faulty, ("findings", "alerts"))
        named = {kind for kind, _, _ in naming(one, said)}
        located = ", located" if is_located(one, said) else ""
        told = [f"**{kind}**" if kind in named else kind for kind in _kinds(said)]
        alarms = _kinds(_said(repaired, ("findings", "alerts")))
        scores = " → ".join(
            "nan" if run["score"] is None else f"{run['score']:.2f}" for run in (faulty, repaired)
        )
        title = f"[{one.id}]({one.source})"
        lines.append(
            [title, ", ".join(one.faults), ", ".join(told) + located, ", ".join(alarms), scores]
        )
    return study.markdown(heading, lines)


def _kinds(said: Said) -> list[str]:
    return sorted({kind for kind, _, severity in said if severity >= 2})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", choices=("first", "held-out"), help="default: both")
    parser.add_argument("--again", action="store_true", help="forget the results there are")
    arguments = parser.parse_args()
    main((arguments.half,) if arguments.half else ("first", "held-out"), arguments.again)
