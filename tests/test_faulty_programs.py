"""Published faulty programs build in both twins; faults of the loss and the data are found in them and in planted models."""

import importlib.util
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_surrogate import diagnosis
from keras_surrogate.callbacks import GradientAlerts, GradientNormLogger
from keras_surrogate.callbacks.loss_alerts import LossFaults

pytest.importorskip("sklearn")

FOLDER = Path(__file__).parents[1] / "examples" / "published"
L = keras.layers


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    # The scripts import each other by these names.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


programs = load("faulty_programs")
BY_ID = {one.id: one for one in programs.PROGRAMS}


def built(program, faulty):
    with warnings.catch_warnings():
        # Keras warns of a softmax of one unit.
        warnings.simplefilter("ignore")
        return program.build(faulty)


def test_there_are_25_programs_with_sources_and_known_faults():
    assert len(BY_ID) == len(programs.PROGRAMS) == 25
    for one in programs.PROGRAMS:
        assert one.source.startswith("https://") and one.faults
        assert set(one.faults) <= set(programs.FAULTS)
    first, held_out = programs.halves()
    assert {one.id for one in first} | {one.id for one in held_out} == set(BY_ID)
    assert len(first) == 13 and len(held_out) == 12


@pytest.mark.parametrize("name", sorted(BY_ID))
def test_every_program_builds_in_both_twins(name):
    program = BY_ID[name]
    for faulty in (True, False):
        twin = built(program, faulty)
        assert twin.model.compiled and len(twin.x) == len(twin.y)
        assert np.isfinite(twin.x).all() and np.isfinite(twin.y).all()
        assert tuple(twin.x.shape[1:]) == twin.model.input_shape[1:]
        assert program.layer is None or twin.model.get_layer(program.layer)


def said(program, faulty):
    twin = built(program, faulty)
    chosen = np.random.default_rng(0).permutation(len(twin.x))[:64]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kinds(twin.model, twin.x[chosen], twin.y[chosen])


def kinds(model, x, y):
    return {one.kind: one for one in diagnosis.diagnose(model, x, y).findings}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("45337371", "one_unit_output"),
        ("47352366", "not_probabilities"),
        ("38648195", "several_labels"),
        ("48221692", "targets_outside"),
        ("31556268", "absolute_error_of_labels"),
        ("59325381", "wrong_labels"),
        ("39525358", "input_offset"),
        ("33969059", "input_scale"),
        ("52800582", "target_scale"),
        ("FacialKeypoints", "large_update"),
    ],
)
def test_the_fault_is_found_before_training(name, kind):
    program = BY_ID[name]
    finding = said(program, True)[kind]
    assert finding.severity >= 2 and finding.advice
    if program.layer is not None and kind not in ("target_scale", "input_scale"):
        assert finding.layer == program.layer
    assert kind not in said(program, False)


def test_of_a_softmax_of_one_unit_only_the_cause_is_told():
    assert [one for one in said(BY_ID["45337371"], True) if one != "uncentred"] == [
        "one_unit_output"
    ]


X = np.random.default_rng(0).standard_normal((64, 8)).astype("float32")
LABELS = np.arange(64) % 2
CLASSES = np.arange(64) % 3
TWO = np.eye(2)[LABELS]
THREE = np.eye(3)[CLASSES]


def model(last, loss):
    keras.utils.set_random_seed(0)
    made = keras.Sequential([keras.Input((8,)), L.Dense(16, "relu", name="hidden"), *last])
    made.compile("adam", loss)
    return made


def binary(from_logits=False):
    return keras.losses.BinaryCrossentropy(from_logits=from_logits)


def sparse(from_logits=False):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


@pytest.mark.parametrize(
    ("last", "loss", "y", "kind", "severity"),
    [
        ([L.Dense(1)], "binary_crossentropy", LABELS, "not_probabilities", 2),
        ([L.Dense(1, "tanh")], "binary_crossentropy", LABELS, "not_probabilities", 2),
        ([L.Dense(3), L.ReLU()], sparse(), CLASSES, "not_probabilities", 2),
        ([L.Dense(3, "sigmoid")], "categorical_crossentropy", THREE, "not_probabilities", 1),
        ([L.Dense(1, "sigmoid")], binary(True), LABELS, "squashed_logits", 2),
        ([L.Dense(3, "softmax")], sparse(True), CLASSES, "squashed_logits", 2),
        ([L.Dense(3), L.Softmax()], sparse(True), CLASSES, "squashed_logits", 2),
        ([L.Dense(1, "sigmoid")], "categorical_crossentropy", TWO[:, :1], "one_unit_output", 3),
        ([L.Dense(1, "sigmoid")], binary(), CLASSES, "wrong_labels", 2),
        ([L.Dense(1, "sigmoid")], binary(), 2 * LABELS - 1, "wrong_labels", 2),
        ([L.Dense(3, "softmax")], sparse(), CLASSES / 255, "wrong_labels", 3),
        ([L.Dense(3, "softmax")], "categorical_crossentropy", THREE * 2, "wrong_labels", 3),
        ([L.Dense(3, "softmax")], sparse(), np.zeros(64), "one_class", 1),
        ([L.Dense(1, "sigmoid")], "mse", 5 + X[:, 0], "targets_outside", 3),
        ([L.Dense(1, "relu")], "mse", X[:, 0], "targets_outside", 2),
        ([L.Dense(1, "tanh")], keras.losses.Huber(), X[:, 0], "targets_outside", 2),
        ([L.Dense(1, "sigmoid")], "mae", LABELS, "absolute_error_of_labels", 2),
    ],
)
def test_planted_faults_of_the_loss(last, loss, y, kind, severity):
    with warnings.catch_warnings():
        # Keras itself warns of categorical cross-entropy of one unit.
        warnings.simplefilter("ignore")
        finding = kinds(model(last, loss), X, y)[kind]
    assert finding.severity == severity and finding.advice and str(finding)


@pytest.mark.parametrize(
    ("last", "loss", "y"),
    [
        ([L.Dense(1, "sigmoid")], "binary_crossentropy", LABELS),
        ([L.Dense(1)], binary(True), LABELS),
        ([L.Dense(2, "softmax")], "binary_crossentropy", TWO),
        ([L.Dense(3, "sigmoid")], "binary_crossentropy", np.tile([[1, 0, 1]], (64, 1))),
        ([L.Dense(3, "softmax")], "categorical_crossentropy", 0.9 * THREE + 0.1 / 3),
        ([L.Dense(3), L.Softmax()], sparse(), CLASSES[:, None]),
        ([L.Dense(3, "softmax"), L.Activation("linear")], sparse(), CLASSES),
        ([L.Dense(3)], sparse(True), CLASSES),
        ([L.Dense(3, "softmax")], sparse(), np.zeros(64)[:16]),
        ([L.Dense(1)], "mse", X[:, 0]),
        ([L.Dense(1)], "mae", X[:, 0]),
        ([L.Dense(1, "tanh")], "mse", np.tanh(X[:, 0])),
        ([L.Dense(1, "sigmoid")], "mse", LABELS),
        ([L.Dense(1, "softplus")], "poisson", CLASSES),
        ([L.Dense(1, "tanh")], "hinge", 2 * LABELS - 1),
    ],
)
def test_nothing_is_found_where_activation_loss_and_targets_fit(last, loss, y):
    assert kinds(model(last, loss), X[: len(y)], y) == {}


def test_several_outputs_are_judged_each_by_its_loss():
    inputs = keras.Input((8,))
    hidden = L.Dense(16, "relu")(inputs)
    ends = [L.Dense(1, name="good")(hidden), L.Dense(1, "relu", name="bad")(hidden)]
    both = keras.Model(inputs, ends)
    both.compile("adam", ["mse", "mse"])
    targets = X[:, :1] - 0.1
    assert kinds(both, X, [targets, targets])["targets_outside"].layer == "bad"


@pytest.mark.parametrize(
    ("change", "kind"), [(lambda x: 200 * x, "input_scale"), (lambda x: x + 30, "input_offset")]
)
def test_inputs_that_are_not_scaled(change, kind):
    y = X[:, 0]
    assert kinds(model([L.Dense(1)], "mse"), change(X), y)[kind].layer is None
    for first in (L.BatchNormalization(), L.LayerNormalization()):
        keras.utils.set_random_seed(0)
        rescued = keras.Sequential([keras.Input((8,)), first, L.Dense(16, "relu"), L.Dense(1)])
        rescued.compile("adam", "mse")
        assert kind not in kinds(rescued, change(X), y)
    keras.utils.set_random_seed(0)
    after = keras.Sequential(
        [keras.Input((8,)), L.Dense(16), L.BatchNormalization(), L.ReLU(), L.Dense(1)]
    )
    after.compile("adam", "mse")
    assert kind not in kinds(after, change(X), y)


def told(losses, is_new=True):
    faults = LossFaults(is_new)
    return [
        (epoch, fault.kind) for epoch, loss in enumerate(losses) for fault in faults.found(loss)
    ]


def test_a_loss_that_is_stuck_or_oscillates():
    assert told([2.3] * 9) == [(4, "loss_stuck")]
    assert told([1, 0.999, 0.998, 0.997, 0.996]) == [(4, "loss_stuck")]
    assert told([1, 0.999, 0.998, 0.997, 0.994]) == []
    assert told([1, 0.9, 1.1, 0.8, 1.0, 0.9, 1.1]) == [(5, "loss_oscillates")]
    assert told([1, 0.9, 1.1, 0.8, 0.7, 0.6, 0.5, 0.4]) == []
    # Near 0, noise doubles the loss.
    assert told([2, 0.5, 0.1, 0.01, 0.03, 0.01, 0.04, 0.01, 0.05]) == []
    assert told([1, 0.9, None, 0.8, np.nan, 0.7]) == []
    assert told([2.3] * 9, is_new=False) == []


def fitted(rate, epochs=6, **arguments):
    made = model([L.Dense(1)], "mse")
    made.compile(keras.optimizers.SGD(rate), "mse")
    logger = GradientNormLogger()
    alerts = GradientAlerts(logger, action=lambda alert: None, **arguments)
    for _ in range(2):
        made.fit(X, X[:, 0], epochs=epochs, verbose=0, callbacks=[logger, alerts])
        yield [(alert.kind, alert.epoch, alert.layer) for alert in alerts.alerts]


def test_alerts_tell_of_the_loss_of_a_new_model_only():
    assert list(fitted(1e-9)) == [[("loss_stuck", 4, "loss")], []]
    assert list(fitted(0.05)) == [[], []]
    assert list(fitted(1e-9, loss=False)) == [[], []]


def test_a_training_that_a_backup_resumes_is_not_new(tmp_path):
    def resumed(epochs):
        made = model([L.Dense(1)], "mse")
        made.compile(keras.optimizers.SGD(1e-9), "mse")
        logger = GradientNormLogger()
        alerts = GradientAlerts(logger, action=lambda alert: None)
        # The backup is restored after the other callbacks have begun.
        backup = keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
        callbacks = [logger, alerts, backup]
        made.fit(X, X[:, 0], epochs=epochs, verbose=0, callbacks=callbacks)
        return [alert.kind for alert in alerts.alerts], logger.steps[0] > 0

    assert resumed(2) == ([], False)
    assert resumed(8) == ([], True)


@pytest.mark.slow
def test_the_score_of_all_programs(tmp_path, monkeypatch):
    study = load("study")
    faulty = load("faulty")
    monkeypatch.setattr(study, "RESULTS", tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        faulty.main()
    runs = {(one["program"], one["faulty"]): one for one in study.read("faulty")}
    assert len(runs) == 50 and (tmp_path / "faulty.md").exists()
    found, _, _, alarms, _, _ = faulty.counts(programs.PROGRAMS, runs, ("findings", "alerts"))
    assert found >= 22 and alarms <= 8
    learnt = [runs[one.id, False]["score"] for one in programs.PROGRAMS]
    assert min(learnt) > 0.5
